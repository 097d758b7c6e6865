//! Erasing a customer: what is gone, what is left, and that everyone else is as before.

use crate::support::{
    Contact, EXACT_FILE, PHONES_ONLY, Seen, Service, SigningKey, TestLedger, command, misuse,
    random_observations, refuses, scratch_dir, succeeds, told, until_async,
};
use futures_util::future::join_all;
use identity_ledger::erasure;
use identity_ledger::identity::{DEFAULT_RULES, ObservationId, ReasonCode, Rules};
use identity_ledger::ledger::{block_erasures, lock_erasures};
use identity_ledger::rebuild::{impact, rebuild};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, query_scalar};
use std::collections::BTreeMap;
use std::process::Stdio;

const EMAIL: &str = "canary@x.org";
const OTHER_EMAIL: &str = "kanarie@x.org";
const NUMBER: &str = "030987654321";

/// One customer of three observations, two of them contacts, between others.
async fn with_canary() -> (TestLedger, Service) {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = [("a@x.org", "1"), (EMAIL, NUMBER), ("b@x.org", "2"), (OTHER_EMAIL, NUMBER)];
    service.observe(all.into_iter().chain([(EMAIL, ""), ("a@x.org", "3")])).await;
    (ledger, service)
}

#[tokio::test]
async fn every_number_of_an_erased_customer_is_gone_and_no_other_is() {
    let (ledger, service) = with_canary().await;
    let others = [service.contact(1).await, service.contact(3).await];
    let before = service.get_json("/ledger").await["position"].as_i64().unwrap();
    let response = service.erase(5).await;
    assert_eq!(response.status(), 200);
    let erased: serde_json::Value = response.json().await.unwrap();
    let position = before + 1;
    let expected =
        json!({"primaryContactId": 2, "contacts": 2, "observations": 3, "position": position});
    assert_eq!(erased, expected);
    for id in [2, 4, 5] {
        let below = ["", "?as_of=4", "/history", "/why?with=1", "/personal-data"];
        for path in below {
            let response = service.get(&format!("/contacts/{id}{path}")).await;
            assert_eq!(response.status(), 410, "{id}{path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
        for (ids, field) in [([1, id], "with"), ([id, 1], "id")] {
            let [one, other] = ids;
            let response = service.get(&format!("/contacts/{one}/why?with={other}")).await;
            assert_eq!(response.status(), 410);
            assert_eq!(response.json::<Value>().await.unwrap()["field"], field);
        }
        assert_eq!(service.erase(id).await.status(), 410);
    }
    assert_eq!([service.contact(1).await, service.contact(3).await], others);
    assert_eq!(service.erase(7).await.status(), 404);
    let page = service.get_json(&format!("/events?after={before}")).await;
    let event = &page["events"][0]["event"];
    assert_eq!(event["kind"], "ContactErased");
    let data = json!({"contactId": 2, "observationIds": [2, 4, 5], "reason": "customer-request"});
    assert_eq!(event["data"], data);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn the_same_email_seen_later_is_a_new_customer() {
    let (ledger, service) = with_canary().await;
    assert_eq!(service.erase(2).await.status(), 200);
    assert_eq!(service.lookup(&Seen::new(EMAIL, NUMBER)).await.status(), 404);
    let again = service.identify(&Seen::new(EMAIL, NUMBER)).await;
    assert_eq!((again.primary_contact_id, again.secondary_contact_ids.len()), (7, 0));
    assert_eq!(service.contact(7).await, again);
    assert_eq!(service.get("/contacts/2").await.status(), 410);
    assert_eq!(service.erase(7).await.status(), 200);
    assert_eq!(service.identify(&Seen::new(EMAIL, "")).await.primary_contact_id, 8);
    ledger.verify().await.unwrap();
}

/// A retry from before is answered by nothing that was kept: it is seen for the first time.
#[tokio::test]
async fn an_idempotency_key_is_deleted_with_its_observation() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let (seen, other) = (Seen::new(EMAIL, NUMBER), Seen::new("b@x.org", "2"));
    service.try_identify_once(&seen, "one").await.unwrap();
    service.try_identify_once(&other, "other").await.unwrap();
    assert_eq!(service.erase(1).await.status(), 200);
    let kept = query_scalar("select observation_id from idempotency");
    let kept: Vec<i64> = kept.fetch_all(&mut ledger.owner().await).await.unwrap();
    assert_eq!(kept, [2]);
    let again = service.try_identify_once(&seen, "one").await.unwrap();
    assert!(!again.headers().contains_key("idempotent-replay"));
    let again: Value = again.json().await.unwrap();
    assert_eq!(again["contact"]["primaryContactId"], 3);
}

/// A ledger beside what was observed and not erased, by its number.
struct Erasing {
    ledger: TestLedger,
    service: Service,
    living: BTreeMap<i64, Seen>,
    observed_len: i64,
}

impl Erasing {
    async fn observe(&mut self, seed: u64, len: usize) {
        for seen in random_observations(seed, len, 60) {
            self.service.identify(&seen).await;
            self.observed_len += 1;
            self.living.insert(self.observed_len, seen);
        }
    }

    /// Erases the identities of these numbers, where that is not done yet.
    async fn erase(&mut self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            let status = self.service.erase(id).await.status();
            assert_eq!(status, if self.living.contains_key(&id) { 200 } else { 410 });
            if status == 200 {
                let page = self.service.get_json("/events?kind=ContactErased&limit=1000").await;
                let last = page["events"].as_array().unwrap().last().unwrap().clone();
                for id in last["event"]["data"]["observationIds"].as_array().unwrap() {
                    self.living.remove(&id.as_i64().unwrap()).unwrap();
                }
            }
        }
    }

    /// What is answered, by the numbers of a ledger that never saw what was erased.
    async fn answers(&self) -> Vec<Contact> {
        let numbers: BTreeMap<_, _> = self.living.keys().copied().zip(1..).collect();
        let mut answers = Vec::new();
        for id in self.living.keys() {
            let mut contact = self.service.contact(*id).await;
            contact.primary_contact_id = numbers[&contact.primary_contact_id];
            contact.secondary_contact_ids.iter_mut().for_each(|id| *id = numbers[id]);
            answers.push(contact);
        }
        answers
    }

    async fn check(&self, rules: &str) {
        let fresh = TestLedger::new().await;
        fresh.put_in_force(rules).await;
        let service = Service::start(&fresh.url);
        service.observe(self.living.values()).await;
        assert_eq!(self.answers().await, service.contacts(self.living.len() as i64).await);
        let walked = self.ledger.verify().await.unwrap().walked;
        assert_eq!(walked.erased_len as i64, self.observed_len - self.living.len() as i64);
    }
}

#[tokio::test]
async fn everyone_else_is_as_in_a_ledger_that_never_saw_what_was_erased() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut all = Erasing { ledger, service, living: BTreeMap::new(), observed_len: 0 };
    all.observe(1, 150).await;
    all.erase([3, 20, 150]).await;
    all.check(DEFAULT_RULES).await;
    all.ledger.put_in_force(PHONES_ONLY).await;
    all.check(PHONES_ONLY).await;
    all.observe(2, 60).await;
    let last = all.observed_len;
    all.erase((10..60).step_by(7).chain([last])).await;
    all.check(PHONES_ONLY).await;
    rebuild(&all.ledger.database).await.unwrap();
    all.check(PHONES_ONLY).await;
    impact(&all.ledger.database, Rules::parse(DEFAULT_RULES).unwrap()).await.unwrap();
    all.ledger.put_in_force(DEFAULT_RULES).await;
    all.observe(3, 60).await;
    all.erase([12, 200, 260]).await;
    all.check(DEFAULT_RULES).await;
    rebuild(&all.ledger.database).await.unwrap();
    all.check(DEFAULT_RULES).await;
}

/// The state of one node's memory is not older than the erasure of another.
#[tokio::test]
async fn two_nodes_under_load_erase_at_once() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    // One large identity, which recorders keep in memory.
    for n in 0..60 {
        nodes[n % 2].identify(&Seen::new(&format!("large{n}@x.org"), "77")).await;
    }
    let all = random_observations(4, 1_000, 150);
    let load = join_all(all.chunks(50).enumerate().map(async |(caller, mine)| {
        for (n, seen) in mine.iter().enumerate() {
            nodes[caller % 2].identify(seen).await;
            if n % 10 == 0 {
                nodes[caller % 2].identify(&Seen::new("", "77")).await;
            }
        }
    }));
    let erasures = async {
        for n in 0..12 {
            let id = if n % 3 == 0 { 1 } else { 61 + 40 * n };
            let mut status = 404;
            until_async("it is there to be erased", async || {
                status = nodes[n as usize % 2].erase(id).await.status().as_u16();
                // On a busy machine its turn may not come in time.
                ![404, 503].contains(&status)
            })
            .await;
            assert!([200, 410].contains(&status), "{status}");
            let found = nodes[(n as usize + 1) % 2].get(&format!("/contacts/{id}")).await;
            assert_eq!(found.status(), 410);
        }
    };
    tokio::join!(load, erasures);
    let seen = nodes[0].identify(&Seen::new("", "77")).await;
    assert!(seen.primary_contact_id > 60 && seen.emails.is_empty(), "{seen:?}");
    ledger.verify().await.unwrap();
    rebuild(&ledger.database).await.unwrap();
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn proofs_that_were_given_before_still_hold() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    let service = Service::start_with(&key.args(&ledger));
    service.observe(random_observations(5, 60, 20)).await;
    let (size, _) = service.sealed().await;
    let leaf = format!("/ledger/proof/inclusion?position=9&size={size}");
    let before = service.get_json(&leaf).await;
    assert!(before["hashes"].is_array(), "{before}");
    for id in [1, 9, 30] {
        let status = service.erase(id).await.status();
        assert!([200, 410].contains(&status.as_u16()), "{status}");
    }
    service.sealed().await;
    assert_eq!(service.get_json(&leaf).await, before);
    let consistent = service.get(&format!("/ledger/proof/consistency?from={size}")).await;
    assert_eq!(consistent.status(), 200);
    succeeds(command(&["verify"]).args(key.args(&ledger)));
}

/// A customer who was linked with another who was erased since keeps a past, without the other's values.
#[tokio::test]
async fn the_past_of_another_customer_shows_no_more_than_numbers_of_what_was_erased() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([(EMAIL, NUMBER), (EMAIL, "1"), ("b@x.org", "1")]).await;
    ledger.put_in_force(PHONES_ONLY).await;
    assert!(service.contact(1).await.secondary_contact_ids.is_empty());
    assert_eq!(service.erase(1).await.status(), 200);
    let then = service.contact_as_of(3, "6").await.unwrap();
    assert_eq!((then.primary_contact_id, &then.secondary_contact_ids[..]), (1, &[2, 3][..]));
    assert_eq!(then.phone_numbers, ["1"]);
    let why = service.get_json("/contacts/3/why?with=2&as_of=6").await;
    assert_eq!((&why["linked"], &why["chain"]["observations"][0]["id"]), (&true.into(), &3.into()));
    let history = service.get("/contacts/3/history").await.text().await.unwrap();
    assert!(history.contains("b@x.org") && !history.contains(NUMBER), "{history}");
    assert_eq!(service.get("/contacts/1").await.status(), 410);
    // Their common email is the other's, too, who was not erased.
    assert_eq!(service.contact(2).await.emails, [EMAIL, "b@x.org"]);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn all_that_is_held_on_a_customer_is_one_document() {
    let (_ledger, service) = with_canary().await;
    let held = service.get_json("/contacts/5/personal-data").await;
    assert_eq!((&held["primaryContactId"], &held["position"]), (&2.into(), &9.into()));
    let contacts = held["contacts"].as_array().unwrap().iter();
    let contacts: Vec<_> = contacts.map(|it| [it["id"].clone(), it["linkedId"].clone()]).collect();
    assert_eq!(contacts, [[json!(2), Value::Null], [json!(4), json!(2)]]);
    let observations = held["observations"].as_array().unwrap().iter();
    let told = |it: &Value| json!([it["id"], it["contactId"], it["email"], it["phoneNumber"]]);
    let observations: Vec<_> = observations.map(told).collect();
    let expected = [
        json!([2, 2, EMAIL, NUMBER]),
        json!([4, 4, OTHER_EMAIL, NUMBER]),
        json!([5, 2, EMAIL, null]),
    ];
    assert_eq!(observations, expected);
    assert_eq!(service.get("/contacts/7/personal-data").await.status(), 404);
}

#[tokio::test]
async fn what_moves_with_a_rule_change_is_held_and_erased_where_it_stands() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "2"), ("a@x.org", "")]).await;
    ledger.put_in_force(PHONES_ONLY).await;
    let ids = async |id| {
        let held = service.get_json(&format!("/contacts/{id}/personal-data")).await;
        let observations = held["observations"].as_array().unwrap().iter();
        observations.map(|it| it["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!([ids(1).await, ids(2).await, ids(4).await], [vec![1], vec![2, 3], vec![4]]);
    assert_eq!(service.erase(3).await.status(), 200);
    assert_eq!(service.get("/contacts/2").await.status(), 410);
    assert_eq!(service.contact(1).await.emails, ["a@x.org"]);
    ledger.put_in_force(DEFAULT_RULES).await;
    assert_eq!(ids(4).await, [1, 4]);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn nothing_is_erased_beside_what_reads_all_observations() {
    let (ledger, service) = with_canary().await;
    let mut reading = ledger.owner().await;
    block_erasures(&mut reading, "rebuild").await.unwrap();
    let response = service.erase(2).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let problem: Value = response.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("rebuild"), "{problem}");
    assert_eq!(service.contact(2).await.emails, [EMAIL, OTHER_EMAIL]);
    reading.close().await.unwrap();
    assert_eq!(service.erase(2).await.status(), 200);
}

/// Otherwise it would see some observations before the erasure and some after it.
#[tokio::test]
async fn whatever_reads_all_observations_waits_for_an_erasure() {
    let (ledger, service) = with_canary().await;
    assert!(service.stop().success());
    let dir = scratch_dir();
    let export = dir.path().join("export");
    for args in [
        &["verify"][..],
        &["export", export.to_str().unwrap()],
        &["rules", "diff", EXACT_FILE],
        &["rebuild"],
        &["rules", "activate", EXACT_FILE, "--reason", "r", "--yes"],
    ] {
        let mut eraser = ledger.owner().await;
        let mut erasure = eraser.begin().await.unwrap();
        lock_erasures(&mut erasure).await.unwrap();
        let mut reader = command(args);
        reader.args(["--database-url", &ledger.url]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut reader = reader.spawn().unwrap();
        until_async("it waits", async || {
            assert!(reader.try_wait().unwrap().is_none(), "{args:?} has not waited");
            advisory_waits(&mut erasure).await > 0
        })
        .await;
        erasure.commit().await.unwrap();
        assert!(reader.wait().unwrap().success(), "{args:?}");
    }
}

#[tokio::test]
async fn a_reason_is_a_code_and_nothing_else_is_taken() {
    let (_ledger, service) = with_canary().await;
    let client = reqwest::Client::new();
    let alone = "Send reason and nothing else";
    for (body, says) in [
        (json!({}), alone),
        (json!([]), alone),
        (json!(["customer-request"]), alone),
        (json!("customer-request"), alone),
        (json!({"reason": "asked by canary@x.org"}), "Change reason: expected a code"),
        (json!({"reason": "canary", "email": "canary@x.org"}), alone),
        (json!({"reason": null}), alone),
    ] {
        let request = client.post(service.url("/contacts/2/erase")).json(&body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["field"], "reason");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
        assert!(!problem.to_string().contains("canary"), "{problem}");
    }
    assert_eq!(service.contact(2).await.emails.len(), 2);
}

/// While an operator thinks about what was shown, another observation can make a larger one of it.
#[tokio::test]
async fn no_more_is_erased_than_was_shown() {
    let (ledger, service) = with_canary().await;
    let reason: ReasonCode = "test".parse().unwrap();
    let id = ObservationId::new(5);
    let shown = erasure::held(&mut ledger.owner().await, id).await.unwrap().unwrap();
    // Nothing new of it, and of others, changes nothing.
    service.identify(&Seen::new(EMAIL, "")).await;
    service.identify(&Seen::new(EMAIL, "1")).await;
    let erase = || erasure::erase(&ledger.database, id, Some(&shown), &reason, None);
    let refused = erase().await.err().unwrap().to_string();
    assert!(refused.contains("look again"), "{refused}");
    assert_eq!(service.contact(5).await.emails, ["a@x.org", EMAIL, OTHER_EMAIL]);
    let shown = erasure::held(&mut ledger.owner().await, id).await.unwrap().unwrap();
    service.identify(&Seen::new(EMAIL, "")).await;
    let erased = erasure::erase(&ledger.database, id, Some(&shown), &reason, None).await.unwrap();
    // Those that introduced nothing are erased with it.
    assert_eq!((erased.contacts_len, erased.observation_ids.len()), (4, 8));
}

#[tokio::test]
async fn the_command_asks_before_it_erases() {
    let (ledger, service) = with_canary().await;
    let url = ["--database-url", &ledger.url];
    let erase = |args: &[&str]| {
        let mut erase = command(&["erase", "--reason", "gdpr-art-17"]);
        erase.args(url).args(args).stdin(std::process::Stdio::null());
        erase
    };
    let said = told(&erase(&["5"]).output().unwrap());
    assert!(said.contains("customer 2: 2 contacts (2, 4), 3 observations"), "{said}");
    assert!(said.contains("error: stdin is not a terminal: pass --yes"), "{said}");
    // What else is wrong comes first.
    for args in [&["7"][..], &["7", "--yes"]] {
        let said = refuses(&mut erase(args));
        assert!(said.contains("no observation has the number 7 yet"), "{said}");
    }
    // What stays in the ledger for ever is no name of a person that a shell knows.
    misuse(&mut erase(&["5", "--yes", "--by", "ann@x.org"]));
    let said = succeeds(&mut erase(&["5", "--yes", "--json", "--by", "ops"]));
    let erased: Value = serde_json::from_str(&said).unwrap();
    let expected = json!({"primaryContactId": 2, "contacts": 2, "observations": 3, "position": 10});
    assert_eq!(erased, expected);
    let page = service.get_json("/events?kind=ContactErased").await;
    assert_eq!(page["events"][0]["event"]["data"]["erasedBy"], "ops");
    let said = refuses(&mut erase(&["2", "--yes"]));
    assert!(said.contains("erased already"), "{said}");
    succeeds(erase(&["1", "--yes"]).env("USER", "ann"));
    let page = service.get_json("/events?kind=ContactErased").await;
    assert_eq!(page["events"][1]["event"]["data"]["erasedBy"], "operator");
    for look in [&["history", "4"][..], &["why", "3", "4"], &["why", "4", "3"]] {
        let said = refuses(command(look).args(url));
        assert_eq!(said, "error: the customer of observation 4 was erased\n");
    }
    let verified = succeeds(command(&["verify"]).args(url));
    assert!(verified.contains("erased: 5 observations"), "{verified}");
}

#[tokio::test]
async fn what_a_broken_off_rebuild_left_goes_with_an_erasure() {
    let (ledger, service) = with_canary().await;
    let mut owner = ledger.owner().await;
    let leave = "create table contact_next as select * from contact";
    sqlx::raw_sql(leave).execute(&mut owner).await.unwrap();
    assert_eq!(service.erase(2).await.status(), 200);
    until_async("it is gone", async || {
        let is_gone = query_scalar("select to_regclass('contact_next') is null");
        is_gone.fetch_one(&mut owner).await.unwrap()
    })
    .await;
}

/// The sessions of this database that wait for an advisory lock.
async fn advisory_waits(session: &mut PgConnection) -> i64 {
    let waits = query_scalar(
        "select count(*)
        from pg_locks
        where locktype = 'advisory' and not granted
            and database = (select oid from pg_database where datname = current_database())",
    );
    waits.fetch_one(session).await.unwrap()
}

/// Each would have a session of its own, and Postgres has few.
#[tokio::test]
async fn erasures_that_wait_do_not_use_up_the_connections() {
    let (ledger, service) = with_canary().await;
    let mut holder = ledger.owner().await;
    block_erasures(&mut holder, "a test").await.unwrap();
    let waiting = join_all((0..40).map(async |_| service.erase(2).await.status().as_u16()));
    let most = async {
        until_async("one waits", async || advisory_waits(&mut holder).await > 0).await;
        let mut most = 0;
        for _ in 0..200 {
            most = most.max(advisory_waits(&mut holder).await);
        }
        most
    };
    let (statuses, most) = tokio::join!(waiting, most);
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    assert_eq!(most, 1, "sessions that wait");
}
