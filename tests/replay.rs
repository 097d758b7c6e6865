//! What was known at any moment, and how it came to be so.

use crate::support::{
    Contact, PHONES_ONLY, Seen, Service, TestLedger, command, random_observations, refuses,
    succeeds,
};
use identity_ledger::identity::{DEFAULT_RULES, EXACT_RULES};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// As `random_observations`, some of them in another spelling.
fn respelled(seed: u64, len: usize) -> Vec<Seen> {
    let mut all = random_observations(seed, len, 14);
    for seen in all.iter_mut().step_by(3) {
        seen.email = seen.email.take().map(|email| email.to_uppercase());
        seen.phone_number = seen.phone_number.take().map(|number| format!("({number})"));
    }
    all
}

/// All answers that a ledger gave while it grew: after each observation, for each number so far.
async fn answers_while_growing(service: &Service, all: &[Seen]) -> Vec<(String, Vec<Contact>)> {
    let mut answers = Vec::new();
    for (seen, len) in all.iter().zip(1..) {
        let response = service.try_identify(seen).await.unwrap();
        let position = response.headers()["ledger-position"].to_str().unwrap().to_owned();
        answers.push((position, service.contacts(len).await));
    }
    answers
}

#[tokio::test]
async fn an_identity_as_of_a_position_is_the_one_that_was_answered_then() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = random_observations(51, 60, 14);
    for (position, answers) in answers_while_growing(&service, &all).await {
        for (expected, number) in answers.iter().zip(1..) {
            assert_eq!(service.contact_as_of(number, &position).await.as_ref(), Some(expected));
        }
        let next = answers.len() as i64 + 1;
        assert_eq!(service.contact_as_of(next, &position).await, None, "not observed by then");
    }
}

#[tokio::test]
async fn a_time_means_the_last_position_that_was_not_recorded_after_it() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe(random_observations(52, 40, 10)).await;
    let events = service.get_json("/events?limit=1000").await["events"].take();
    let events: Vec<(i64, String)> = events.as_array().unwrap().iter().map(recorded).collect();
    for (position, time) in &events {
        // Events that were recorded together have one time; the last of them counts.
        let together = events.iter().filter(|(_, other)| other == time);
        let last = together.map(|(position, _)| *position).max().unwrap();
        let response = service.get(&format!("/contacts/1?as_of={time}")).await;
        if last == 1 {
            assert_eq!(response.status(), 404, "nothing was observed yet");
        } else {
            assert_eq!(response.headers()["ledger-position"], *last.to_string(), "{position}");
        }
    }
    let before = service.get("/contacts/1?as_of=1999-12-31T23:59:59%2B01:00").await;
    assert_eq!(before.status(), 404);
    let problem: Value = before.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("at that moment"), "{problem}");
}

fn recorded(entry: &Value) -> (i64, String) {
    let event = &entry["event"];
    (event["position"].as_i64().unwrap(), event["recordedAt"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_moment_that_has_not_come_or_cannot_be_read_is_refused() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x", "")).await;
    assert!(service.contact_as_of(1, "2").await.is_some());
    for moment in [
        "3",
        "9223372036854775807",
        "2999-01-01T00:00:00Z",
        "-5000-01-01T00:00:00Z",
        "yesterday",
        "1&as_of=2",
    ] {
        let response = service.get(&format!("/contacts/1?as_of={moment}")).await;
        assert_eq!(response.status(), 400, "{moment}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

async fn history(service: &Service, id: i64, limit: i64) -> Vec<Value> {
    service.pages(&format!("/contacts/{id}/history?limit={limit}")).await
}

#[tokio::test]
async fn a_history_is_every_event_that_made_the_customer_and_no_other() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe(random_observations(53, 200, 60)).await;
    let events = service.get_json("/events?limit=1000").await["events"].take();
    let mut seen_primaries = BTreeSet::new();
    for number in 1..=200 {
        let contact = service.contact(number).await;
        let primary = contact.primary_contact_id;
        if !seen_primaries.insert(primary) {
            continue;
        }
        let members = [&[primary], &contact.secondary_contact_ids[..]].concat();
        let concerns = |entry: &&Value| {
            let id = entry["event"]["data"]["contactId"].as_i64();
            id.is_some_and(|id| members.contains(&id))
        };
        let expected: Vec<_> = events.as_array().unwrap().iter().filter(concerns).collect();
        for limit in [3, 1000] {
            let told = history(&service, number, limit).await;
            let bare = told.iter().map(|entry| {
                assert_eq!(entry["rules"]["name"], "default");
                assert!(entry["reading"].as_str().unwrap().ends_with('.'));
                json!({"event": entry["event"], "observation": entry["observation"]})
            });
            assert_eq!(bare.collect::<Vec<_>>().iter().collect::<Vec<_>>(), expected);
        }
    }
    assert!(seen_primaries.len() > 5);
    let unknown = service.get("/contacts/201/history").await;
    assert_eq!(unknown.status(), 404);
}

/// What the tests of explaining ask: two customers, one of them bridged by its fourth observation.
async fn explained() -> (TestLedger, Service) {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all =
        [("Ann@x", "1"), ("b@x", "2"), ("c@x", "9"), ("ann@x", "2"), ("b@x", ""), ("+C@x", "+9")];
    service.observe(all).await;
    (ledger, service)
}

#[tokio::test]
async fn a_link_is_explained_by_the_observations_between() {
    let (_ledger, service) = explained().await;
    let why = service.get_json("/contacts/1/why?with=5").await;
    assert_eq!(why["linked"], true);
    assert_eq!(why["primaryContactIds"], json!([1, 1]));
    assert_eq!(why["rules"]["name"], "default");
    assert_eq!(why["apart"], Value::Null);
    let chain = &why["chain"];
    let told = |name: &str| -> Vec<_> {
        chain["observations"].as_array().unwrap().iter().map(|step| step[name].clone()).collect()
    };
    assert_eq!(told("id"), [1, 4, 2, 5]);
    assert_eq!(told("isContact"), [true, false, true, false]);
    assert_eq!(told("isBridge"), [false, true, true, false]);
    assert_eq!(told("position"), [2, 5, 3, 7]);
    assert_eq!(told("email"), ["Ann@x", "ann@x", "b@x", "b@x"]);
    assert_eq!(
        chain["shared"],
        json!([
            {"field": "email", "key": "ann@x", "values": ["Ann@x", "ann@x"], "contacts": 1, "isBridge": true},
            {"field": "phoneNumber", "key": "2", "values": ["2", "2"], "contacts": 1, "isBridge": true},
            {"field": "email", "key": "b@x", "values": ["b@x", "b@x"], "contacts": 1, "isBridge": true},
        ])
    );
    let itself = service.get_json("/contacts/4/why?with=4").await;
    assert_eq!(itself["chain"]["observations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_not_linked_yet_was_apart_then() {
    let (_ledger, service) = explained().await;
    let before = service.get_json("/contacts/1/why?with=2&as_of=4").await;
    assert_eq!((&before["linked"], &before["position"]), (&json!(false), &json!(4)));
    assert_eq!(before["primaryContactIds"], json!([1, 2]));
    assert_eq!(before["apart"], json!({"neverLinking": [], "underOtherRules": []}));
    for (unknown, field, says) in [
        ("/contacts/1/why?with=4&as_of=4", "with", "Ask for a later one"),
        ("/contacts/4/why?with=1&as_of=4", "id", "Ask for a later one"),
        ("/contacts/1/why?with=99", "with", "yet"),
        ("/contacts/99/why?with=1", "id", "yet"),
    ] {
        let response = service.get(unknown).await;
        assert_eq!(response.status(), 404, "{unknown}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["field"], field, "{unknown}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{unknown}: {problem}");
    }
    for bad in ["", "?with=0", "?with=2&as_of=999", "?with=1&with=2"] {
        assert_eq!(service.get(&format!("/contacts/1/why{bad}")).await.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn the_command_line_tells_histories_and_reasons() {
    let (ledger, _service) = explained().await;
    let run = |args: &[&str]| succeeds(command(args).args(["--database-url", &ledger.url]));
    let history = run(&["history", "5"]);
    assert_eq!(history.lines().filter(|line| line.contains("rules default 1")).count(), 5);
    assert!(history.contains("Observation 4 has the email of contact 1 and the phone number"));
    assert!(history.contains("email Ann@x"), "{history}");
    let why = run(&["why", "1", "2"]);
    assert!(why.starts_with("1 and 2 are one customer, 1, at position "), "{why}");
    assert!(why.contains("shares the email ann@x, which 1 contact has (without it they"), "{why}");
    let apart = run(&["why", "1", "2", "--as-of", "4"]);
    assert!(apart.starts_with("1 and 2 are two customers, 1 and 2, at position 4"), "{apart}");
    assert!(apart.contains("Nothing that is known of them links them"), "{apart}");
    let url = ["--database-url", &ledger.url];
    assert!(refuses(command(&["history", "77"]).args(url)).contains("no observation has"));
    for (asked, missing) in [(["1", "77"], "77"), (["77", "1"], "77"), (["78", "77"], "77 or 78")] {
        let said = refuses(command(&["why"]).args(asked).args(url));
        assert!(said.contains(&format!("no observation has the number {missing} at")), "{said}");
    }
    let beyond = refuses(command(&["why", "1", "2", "--as-of", "2999-01-01T00:00:00Z"]).args(url));
    assert!(beyond.contains("not come that far"), "{beyond}");
}

#[tokio::test]
async fn answers_of_the_past_stand_across_rule_changes() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = respelled(54, 100);
    let rules = [EXACT_RULES, PHONES_ONLY, DEFAULT_RULES, PHONES_ONLY, EXACT_RULES];
    let mut known = Vec::new();
    for (observations, rules) in all.chunks(20).zip(rules) {
        service.observe(observations).await;
        let len = (known.len() as i64 / 2 + 1) * 20;
        known.push((service.position().await, service.contacts(len).await));
        ledger.put_in_force(rules).await;
        known.push((service.position().await, service.contacts(len).await));
    }
    let mut remapped = 0;
    for (position, answers) in &known {
        for (expected, number) in answers.iter().zip(1..) {
            assert_eq!(
                service.contact_as_of(number, &position.to_string()).await.as_ref(),
                Some(expected)
            );
            remapped += usize::from(service.contact(number).await != *expected);
        }
    }
    assert!(remapped > 100, "the changes change much");
}

#[tokio::test]
async fn a_history_tells_how_rule_changes_took_a_customer_apart_and_together() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe(respelled(55, 60)).await;
    for rules in [EXACT_RULES, PHONES_ONLY, DEFAULT_RULES] {
        ledger.put_in_force(rules).await;
    }
    let events = service.get_json("/events?limit=1000").await["events"].take();
    let events = events.as_array().unwrap();
    let mut kinds = BTreeSet::new();
    for number in 1..=60 {
        let contact = service.contact(number).await;
        let members = [&[contact.primary_contact_id], &contact.secondary_contact_ids[..]].concat();
        let named = |entry: &&Value, member: &str| {
            let id = entry["event"]["data"][member].as_i64();
            id.is_some_and(|id| members.contains(&id))
        };
        let concerns = |entry: &&Value| {
            named(entry, "contactId")
                || named(entry, "observationId")
                || (entry["event"]["kind"] != "ContactObserved" && named(entry, "primaryId"))
        };
        let position = |entry: &Value| entry["event"]["position"].as_i64().unwrap();
        let expected: BTreeSet<_> = events.iter().filter(concerns).map(position).collect();
        let told = history(&service, number, 7).await;
        let positions: Vec<_> = told.iter().map(position).collect();
        assert!(positions.is_sorted_by(|a, b| a < b), "each once and in order");
        assert!(expected.is_subset(&positions.iter().copied().collect()), "{number}");
        for entry in &told {
            let mut before = events.iter().filter(|other| position(other) <= position(entry));
            let is_rules = |other: &&Value| other["event"]["kind"] == "RulesActivated";
            let in_force = before.rfind(is_rules).unwrap();
            assert_eq!(entry["rules"]["digest"], in_force["event"]["data"]["digest"]);
            kinds.insert(entry["event"]["kind"].as_str().unwrap().to_owned());
        }
    }
    assert!(kinds.contains("ContactPromoted") && kinds.contains("ContactRetired"), "{kinds:?}");
}

#[tokio::test]
async fn what_stands_between_two_customers_is_told_by_rules() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x", "0301005"), ("b@x", "030 1005"), ("B@x", "7"), ("c@x", "8")]).await;
    let linked_at = service.position().await;
    ledger.put_in_force(PHONES_ONLY).await;
    let why = service.get_json("/contacts/1/why?with=3").await;
    assert_eq!(why["linked"], false);
    assert_eq!(why["rules"]["name"], "phones only");
    let apart = &why["apart"];
    assert_eq!(apart["neverLinking"], json!([]), "3 has neither the email nor the number of 1");
    let others = apart["underOtherRules"].as_array().unwrap();
    assert_eq!(others.len(), 1, "the rules before, which led there by way of 2: {others:?}");
    assert_eq!(others[0]["chain"]["observations"][1]["id"], 2);
    // Within the request that linked 2, which had been observed by then.
    let within = service.get_json("/contacts/1/why?with=2&as_of=3").await;
    let under = within["apart"]["underOtherRules"].as_array().unwrap();
    assert_eq!((&within["linked"], under.len()), (&json!(false), 1), "{within}");
    assert_eq!(under[0]["rules"]["digest"], within["rules"]["digest"]);

    let nothing = service.get_json("/contacts/1/why?with=4").await;
    assert_eq!(nothing["apart"], json!({"neverLinking": [], "underOtherRules": []}));

    let blocked = service.get_json("/contacts/1/why?with=2").await;
    assert_eq!(
        blocked["apart"]["neverLinking"],
        json!([{
            "field": "phoneNumber",
            "key": "0301005",
            "observationIds": [1, 2],
            "values": ["0301005", "030 1005"],
            "contacts": 2,
        }])
    );
    let others = blocked["apart"]["underOtherRules"].as_array().unwrap();
    let default = others.iter().find(|other| other["rules"]["name"] == "default").unwrap();
    assert_eq!(default["chain"]["shared"][0]["key"], "0301005");
    assert!(!others.iter().any(|other| other["rules"]["name"] == "exact"), "{others:?}");

    let before = service.get_json(&format!("/contacts/1/why?with=3&as_of={linked_at}")).await;
    assert_eq!((&before["linked"], &before["rules"]["name"]), (&json!(true), &json!("default")));
    let url = ["--database-url", &ledger.url];
    let told = succeeds(command(&["why", "1", "2"]).args(url));
    assert!(told.contains("have the phoneNumber 0301005, which never links; 2 contacts"), "{told}");
    assert!(told.contains("Under the rules default 1 they would be one:"), "{told}");
}

/// 4 came to 1 with 3 and 2, which rules have taken away since, but 4 is still there.
#[tokio::test]
async fn a_history_tells_how_a_contact_was_moved_by_primaries_that_left() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let seen = [
        ("a@x", "1"),
        ("b@x", "2"),
        ("c@x", "3"),
        ("d@x", "4"),
        ("c@x", "4"),
        ("b@x", "3"),
        ("a@x", "2"),
        ("a@x", "4"),
    ];
    let mut positions = Vec::new();
    for (email, number) in seen {
        service.identify(&Seen::new(email, number)).await;
        positions.push(service.position().await);
    }
    let blocked = PHONES_ONLY
        .replace("links = false", r#"blocked = ["b@x", "c@x"]"#)
        .replace(r#"["0301005"]"#, r#"["2", "3"]"#);
    ledger.put_in_force(&blocked).await;
    let told = history(&service, 4, 7).await;
    let demoted: Vec<_> = told
        .iter()
        .filter(|entry| entry["event"]["kind"] == "PrimaryDemoted")
        .map(|entry| entry["event"]["position"].as_i64().unwrap())
        .collect();
    assert_eq!(demoted, positions[4..7], "4 to 3, 3 to 2, 2 to 1");
}

#[tokio::test]
async fn a_history_tells_that_what_a_rule_change_filed_there_has_left() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    ledger.put_in_force(EXACT_RULES).await;
    for email in ["a@x", "A@x"] {
        service.identify(&Seen::new(email, "")).await;
    }
    ledger.put_in_force(DEFAULT_RULES).await;
    ledger.put_in_force(EXACT_RULES).await;
    let told = history(&service, 1, 7).await;
    let last = &told.last().unwrap()["event"];
    assert_eq!(last["kind"], "ContactIntroduced", "{told:?}");
    assert_eq!(last["data"], json!({"contactId": 2, "primaryId": 2}));
}

/// An observation that brought nothing new is a customer of its own once rules keep it apart. What it
/// brought is not what its former customer has.
#[tokio::test]
async fn an_observation_that_left_a_customer_tells_nothing_of_it() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x", "1"), ("a@x", "2"), ("a@x", "2")]).await;
    let together_at = service.position().await;
    ledger.put_in_force(&PHONES_ONLY.replace("[phone]", "[phone]\nlinks = false")).await;
    service.identify(&Seen::new("d@x", "2")).await;
    let apart = async |query: &str| {
        let why = service.get_json(&format!("/contacts/{query}")).await;
        why["apart"]["neverLinking"].clone()
    };
    assert_eq!(apart("1/why?with=4").await, json!([]), "it was 3 that brought the number 2");
    let shared = apart("3/why?with=4").await;
    assert_eq!(shared[0]["observationIds"], json!([3, 4]));
    let email = apart("1/why?with=2").await;
    assert_eq!((&email[0]["key"], &email[0]["contacts"]), (&json!("a@x"), &json!(3)));
    let together = format!("/contacts/1/why?with=3&as_of={together_at}");
    assert_eq!(service.get_json(&together).await["linked"], true);
}
