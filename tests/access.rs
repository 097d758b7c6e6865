//! Who may ask what, and what is remembered of who asked.

use crate::support::{
    SERVE, Seen, Service, TestLedger, Tokens, command, misuse, refuses, scratch_dir, succeeds,
    until, until_async,
};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::query_scalar;
use std::collections::BTreeMap;

const NO_TOKEN: &str = r#"Bearer realm="identity-ledger""#;
const NOT_GOOD: &str = r#"Bearer realm="identity-ledger", error="invalid_token""#;
const WRONG_ROLE: &str = r#"Bearer realm="identity-ledger", error="insufficient_scope""#;

/// Who may ask what. `here` is anyone on this machine, `-` anyone at all.
const TABLE: [(&str, &str); 17] = [
    ("GET /access", "operator"),
    ("GET /contacts/{id}", "auditor operator"),
    ("POST /contacts/{id}/erase", "operator"),
    ("GET /contacts/{id}/history", "auditor operator"),
    ("GET /contacts/{id}/personal-data", "auditor operator"),
    ("GET /contacts/{id}/why", "auditor operator"),
    ("GET /events", "auditor operator"),
    ("GET /health/live", "-"),
    ("GET /health/ready", "-"),
    ("POST /identify", "caller operator"),
    ("GET /ledger", "auditor operator"),
    ("GET /ledger/checkpoint", "-"),
    ("GET /ledger/key", "-"),
    ("GET /ledger/proof/consistency", "auditor operator"),
    ("GET /ledger/proof/inclusion", "auditor operator"),
    ("POST /lookup", "caller auditor operator"),
    ("GET /metrics", "here auditor operator"),
];

async fn service() -> (TestLedger, Tokens, Service) {
    let (ledger, tokens) = (TestLedger::new().await, Tokens::new());
    let service = Service::start_with(&tokens.args(&ledger));
    (ledger, tokens, service)
}

/// The status, and how the service says which token it takes.
async fn asked(service: &Service, route: &str, token: &str) -> (u16, Option<String>) {
    let (method, path) = route.split_once(' ').unwrap();
    let path = path.replace("{id}", "1");
    let response = service.request(method, &path, token).send().await.unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|challenge| challenge.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    if status >= 400 {
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{route}");
    }
    (status, challenge)
}

async fn identify(service: &Service, token: &str, email: &str) -> u16 {
    let body = json!({"email": email}).to_string();
    let request = service.request("POST", "/identify", token).body(body);
    let response = request.header("content-type", "application/json").send().await.unwrap();
    response.status().as_u16()
}

/// All reads on record, once there are so many.
async fn reads(service: &Service, tokens: &Tokens, len: usize) -> Vec<Value> {
    let mut reads = Vec::new();
    until_async("the reads are on record", async || {
        let page = service.request("GET", "/access?limit=1000", &tokens.operator).send().await;
        let mut page: Value = page.unwrap().json().await.unwrap();
        let Value::Array(on_record) = page["reads"].take() else { unreachable!() };
        reads = on_record;
        reads.len() >= len
    })
    .await;
    assert_eq!(reads.len(), len, "{reads:?}");
    reads
}

/// What the OpenAPI document says, in the form of the table.
fn documented(document: &Value) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let route = format!("{} {path}", method.to_uppercase());
            let security = operation["security"].as_array();
            let security = security.unwrap_or_else(|| panic!("{route} says nothing of tokens"));
            let one = |choice: &Value| match choice.get("token") {
                Some(roles) => roles[0].as_str().unwrap().to_owned(),
                None => "here".to_owned(),
            };
            let who: Vec<_> = security.iter().map(one).collect();
            table.insert(route, if who.is_empty() { "-".to_owned() } else { who.join(" ") });
        }
    }
    table
}

#[tokio::test]
async fn every_route_is_open_to_the_tokens_that_its_row_names_and_to_no_others() {
    let (_ledger, tokens, service) = service().await;
    let expired = tokens.add("former", "operator", "expires = \"2020-02-29T12:00:00+01:00\"");
    let valid = tokens.add("present", "operator", "expires = \"9999-01-01T00:00:00Z\"");
    service.signal(Signal::HUP);
    until("the tokens are read", || service.log().contains("the tokens were read again"));

    let document: Value = service.get("/openapi.json").await.json().await.unwrap();
    let table = documented(&document);
    let expected = TABLE.map(|(route, who)| (route.to_owned(), who.to_owned()));
    assert_eq!(table, BTreeMap::from(expected), "TABLE has a row for each route");
    for (route, who) in &table {
        let is_open = who == "-" || who.starts_with("here");
        let refused = |status: u16, challenge: &str| (status, Some(challenge.to_owned()));
        for (token, refusal) in [
            ("", refused(401, NO_TOKEN)),
            ("idl_nobody", refused(401, NOT_GOOD)),
            (&tokens.caller[1..], refused(401, NOT_GOOD)),
            (&expired, refused(401, NOT_GOOD)),
        ] {
            let answer = asked(&service, route, token).await;
            if is_open {
                assert!(answer.1.is_none() && ![401, 403].contains(&answer.0), "{route}");
            } else {
                assert_eq!(answer, refusal, "{route}");
            }
        }
        for (role, token) in [
            ("caller", &tokens.caller),
            ("auditor", &tokens.auditor),
            ("operator", &tokens.operator),
            ("operator", &valid),
        ] {
            let answer = asked(&service, route, token).await;
            if is_open || who.contains(role) {
                assert!(answer.1.is_none() && ![401, 403].contains(&answer.0), "{route} {role}");
            } else {
                assert_eq!(answer, refused(403, WRONG_ROLE), "{route} {role}");
            }
        }
    }
    for page in ["/docs/", "/openapi.json"] {
        assert_eq!(service.get(page).await.status(), 200);
    }
    assert_eq!(service.get("/nowhere").await.status(), 404);
}

#[tokio::test]
async fn an_event_says_who_asked_and_verify_holds_it_for_what_it_is() {
    let (ledger, tokens, service) = service().await;
    assert_eq!(identify(&service, &tokens.caller, "a@x.org").await, 200);
    assert_eq!(identify(&service, &tokens.operator, "a@x.org").await, 200);
    assert_eq!(identify(&service, &tokens.auditor, "b@x.org").await, 403);
    let open = Service::start(&ledger.url);
    open.identify(&Seen::new("c@x.org", "")).await;
    let events = open.get_json("/events?kind=ContactObserved").await;
    let askers = events["events"].as_array().unwrap().iter();
    let askers: Vec<_> = askers.map(|it| it["event"]["data"].get("askedBy")).collect();
    assert_eq!(askers, [Some(&json!("shop")), Some(&json!("ops")), None]);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn the_idempotency_keys_of_two_tokens_never_meet() {
    let (_ledger, tokens, service) = service().await;
    let ask = async |token: &str, email: &str| {
        let request = service.request("POST", "/identify", token).header("idempotency-key", "1");
        let request = request.header("content-type", "application/json");
        let response = request.body(json!({"email": email}).to_string()).send().await.unwrap();
        (response.status().as_u16(), response.headers().contains_key("idempotent-replay"))
    };
    assert_eq!(ask(&tokens.caller, "a@x.org").await, (200, false));
    assert_eq!(ask(&tokens.operator, "b@x.org").await, (200, false));
    assert_eq!(ask(&tokens.caller, "a@x.org").await, (200, true));
    assert_eq!(ask(&tokens.caller, "b@x.org").await, (422, false));
}

#[tokio::test]
async fn tokens_come_and_go_while_the_service_runs() {
    let (_ledger, tokens, service) = service().await;
    let first = std::fs::read_to_string(&tokens.file).unwrap();
    let added = tokens.add("crm", "caller", "");
    assert_eq!(identify(&service, &added, "a@x.org").await, 401);

    service.signal(Signal::HUP);
    until("it is let in", || service.log().contains("tokens_len=4"));
    assert_eq!(identify(&service, &added, "a@x.org").await, 200);

    tokens.write("[[token]]\nname = \"crm\"\nrole = \"king\"\n");
    service.signal(Signal::HUP);
    until("it is told", || service.log().contains("the tokens stay as they were"));
    assert!(service.log().contains("tokens.toml:1: missing field `sha256`"), "{}", service.log());
    assert_eq!(identify(&service, &added, "a@x.org").await, 200);

    tokens.write(&first);
    service.signal(Signal::HUP);
    until("it is gone", || service.log().contains("tokens_len=3"));
    assert_eq!(identify(&service, &added, "a@x.org").await, 401);
    assert_eq!(identify(&service, &tokens.caller, "a@x.org").await, 200);
}

#[tokio::test]
async fn a_service_with_nothing_to_read_again_outlives_sighup() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.signal(Signal::HUP);
    until("it is told", || service.log().contains("neither tokens nor a certificate"));
    assert_eq!(service.get("/health/ready").await.status(), 200);
}

#[tokio::test]
async fn a_stream_is_broken_off_when_its_token_is_gone() {
    let (_ledger, tokens, service) = service().await;
    let kept = std::fs::read_to_string(&tokens.file).unwrap();
    let leaving = tokens.add("leaving", "auditor", "");
    service.signal(Signal::HUP);
    until("it is let in", || service.log().contains("tokens_len=4"));
    let live = async |token: &str| {
        let request = service.request("GET", "/events", token);
        let mut stream = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "retry: 1000\n\n");
        stream
    };
    let mut streams = [live(&leaving).await, live(&tokens.auditor).await];
    tokens.write(&kept);
    service.signal(Signal::HUP);
    let broken_off = loop {
        match streams[0].chunk().await {
            Ok(chunk) => assert!(chunk.is_some(), "it does not pass for whole"),
            Err(error) => break error,
        }
    };
    assert!(!broken_off.is_timeout(), "the client has broken it off");
    identify(&service, &tokens.caller, "a@x.org").await;
    let mut heard = String::new();
    while !heard.contains("a@x.org") {
        heard += std::str::from_utf8(&streams[1].chunk().await.unwrap().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn a_token_that_asks_too_often_is_told_when_to_ask_again() {
    let (_ledger, tokens, service) = service().await;
    let slow = tokens.add("slow", "caller", "requests_per_second = 1");
    service.signal(Signal::HUP);
    until("it is let in", || service.log().contains("tokens_len=4"));
    let asking = (0..20).map(async |_| {
        let response = service.request("POST", "/lookup", &slow).send().await.unwrap();
        let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().into());
        (response.status().as_u16(), wait)
    });
    let answers: Vec<(u16, Option<String>)> = join_all(asking).await;
    let [in_time, too_often] = [(415, None), (429, Some("1".to_owned()))];
    assert!(answers.contains(&in_time) && answers.contains(&too_often), "{answers:?}");
    assert!(answers.iter().all(|answer| [&in_time, &too_often].contains(&answer)), "{answers:?}");
    assert_eq!(identify(&service, &tokens.caller, "a@x.org").await, 200, "no one else pays");
}

#[tokio::test]
async fn who_reads_personal_data_is_on_record_with_the_purpose() {
    let (_ledger, tokens, service) = service().await;
    identify(&service, &tokens.caller, "canary@x.org").await;
    identify(&service, &tokens.operator, "b@x.org").await;
    let read = async |method: &str, path: &str, token: &str, purpose: &str| {
        let request = service.request(method, path, token).header("purpose", purpose);
        let request = request.header("content-type", "application/json");
        let body = if method == "POST" { r#"{"email": "canary@x.org"}"# } else { "" };
        request.body(body).send().await.unwrap().status().as_u16()
    };
    let case = "Fall 4711: Größe";
    for (method, path, token, status) in [
        ("GET", "/contacts/1", &tokens.auditor, 200),
        ("GET", "/contacts/1?as_of=2", &tokens.operator, 200),
        ("GET", "/contacts/1/history?after=1", &tokens.auditor, 200),
        ("GET", "/contacts/1/why?with=2", &tokens.auditor, 200),
        ("GET", "/events?after=1&contact=2&kind=ContactObserved", &tokens.auditor, 200),
        ("POST", "/lookup", &tokens.auditor, 200),
        ("GET", "/contacts/2/personal-data", &tokens.auditor, 200),
        // Nothing was read.
        ("GET", "/contacts/9", &tokens.auditor, 404),
        ("GET", "/contacts/1", &tokens.caller, 403),
        ("GET", "/ledger", &tokens.auditor, 200),
        // This is what callers do all day.
        ("POST", "/lookup", &tokens.caller, 200),
    ] {
        assert_eq!(read(method, path, token, case).await, status, "{method} {path}");
    }
    let kept = reads(&service, &tokens, 7).await;
    let told = |read: &Value| {
        assert_eq!(read["purpose"], case);
        let who = format!("{} {}", read["askedBy"].as_str().unwrap(), read["role"]);
        let what = ["contactId", "otherContactId", "position"].map(|name| &read[name]);
        format!("{} {who} {} {} {} {}", read["id"], read["route"], what[0], what[1], what[2])
    };
    let expected = [
        r#"1 audit "auditor" "GET /contacts/{id}" 1 null 3"#,
        r#"2 ops "operator" "GET /contacts/{id}" 1 null 2"#,
        r#"3 audit "auditor" "GET /contacts/{id}/history" 1 null 1"#,
        r#"4 audit "auditor" "GET /contacts/{id}/why" 1 2 3"#,
        r#"5 audit "auditor" "GET /events" 2 null 1"#,
        r#"6 audit "auditor" "POST /lookup" 1 null 3"#,
        r#"7 audit "auditor" "GET /contacts/{id}/personal-data" 2 null 3"#,
    ];
    assert_eq!(kept.iter().map(told).collect::<Vec<_>>(), expected);
    let page = service.request("GET", "/access?after=2&limit=3", &tokens.operator).send().await;
    let page: Value = page.unwrap().json().await.unwrap();
    assert_eq!(page["next"], "/access?after=5&limit=3");
    assert_eq!(page["reads"].as_array().unwrap()[..], kept[2..5]);
    assert!(!Value::from(kept).to_string().contains("canary"));
}

#[tokio::test]
async fn a_reader_cannot_put_on_record_that_something_else_was_read() {
    let (_ledger, tokens, service) = service().await;
    identify(&service, &tokens.caller, "a@x.org").await;
    identify(&service, &tokens.caller, "b@x.org").await;
    for (path, unknown) in [
        ("/contacts/1?", "with=7&after=7&contact=7"),
        ("/contacts/1/history?", "with=7&as_of=7&contact=7"),
        ("/contacts/1/why?with=2", "&after=7&contact=7"),
        ("/contacts/1/personal-data?", "with=7&after=7&as_of=7&contact=7"),
        ("/events?", "with=7&as_of=7"),
    ] {
        for (path, status) in [(format!("{path}{unknown}"), 400), (path.to_owned(), 200)] {
            let request = service.request("GET", &path, &tokens.auditor);
            let request = request.header("last-event-id", "7");
            assert_eq!(request.send().await.unwrap().status(), status, "{path}");
        }
    }
    let kept = reads(&service, &tokens, 5).await;
    let told =
        |read: &Value| ["contactId", "otherContactId", "position"].map(|it| read[it].as_i64());
    let expected = [
        [Some(1), None, Some(3)],
        [Some(1), None, Some(0)],
        [Some(1), Some(2), Some(3)],
        [Some(1), None, Some(3)],
        [None, None, Some(0)],
    ];
    assert_eq!(kept.iter().map(told).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_lookup_that_shows_two_customers_names_both_on_record() {
    let (_ledger, tokens, service) = service().await;
    let ask = async |route: &str, token: &str, body: Value| {
        let request = service.request("POST", route, token).json(&body);
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    ask("/identify", &tokens.caller, json!({"email": "a@x.org"})).await;
    ask("/identify", &tokens.caller, json!({"email": "b@x.org", "phoneNumber": "1"})).await;
    ask("/identify", &tokens.caller, json!({"email": "c@x.org", "phoneNumber": "1"})).await;
    let both = json!({"email": "a@x.org", "phoneNumber": "1"});
    ask("/lookup", &tokens.auditor, both).await;
    let kept = reads(&service, &tokens, 1).await;
    assert_eq!([&kept[0]["contactId"], &kept[0]["otherContactId"]], [1, 2]);
}

#[tokio::test]
async fn what_a_retry_shows_an_operator_is_on_record() {
    let (_ledger, tokens, service) = service().await;
    let ask = async |token: &str| {
        let request = service.request("POST", "/identify", token).header("idempotency-key", "1");
        let request = request.header("purpose", "case 4711").json(&json!({"email": "a@x.org"}));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.headers().contains_key("idempotent-replay")
    };
    for (token, is_replay) in [
        (&tokens.caller, false),
        (&tokens.caller, true),
        (&tokens.operator, false),
        (&tokens.operator, true),
    ] {
        assert_eq!(ask(token).await, is_replay);
    }
    let kept = reads(&service, &tokens, 1).await;
    let told = ["askedBy", "route", "contactId", "position", "purpose"].map(|name| &kept[0][name]);
    let expected = [json!("ops"), json!("POST /identify"), json!(2), json!(3), json!("case 4711")];
    assert_eq!(told, expected.each_ref());
}

#[tokio::test]
async fn a_purpose_is_one_short_line() {
    let (_ledger, tokens, service) = service().await;
    let ask = async |purpose: Vec<u8>| {
        let purpose = reqwest::header::HeaderValue::from_bytes(&purpose).unwrap();
        let request = service.request("GET", "/events", &tokens.auditor);
        request.header("purpose", purpose).send().await.unwrap()
    };
    for bad in ["x".repeat(201).into_bytes(), b"a\tb".to_vec(), b"\xff".to_vec()] {
        let refused = ask(bad).await;
        assert_eq!(refused.status(), 400);
        assert_eq!(refused.json::<Value>().await.unwrap()["field"], "purpose");
    }
    let twice = service.request("GET", "/events", &tokens.auditor).header("purpose", "a");
    assert_eq!(twice.header("purpose", "b").send().await.unwrap().status(), 400);
    assert_eq!(ask("ü".repeat(200).into_bytes()).await.status(), 200);
    assert_eq!(ask(b"  ".to_vec()).await.status(), 200);
    let kept = reads(&service, &tokens, 2).await;
    assert_eq!(kept[0]["purpose"].as_str().unwrap().chars().count(), 200);
    assert_eq!(kept[1]["purpose"], Value::Null);
}

#[tokio::test]
async fn reads_are_answered_while_their_record_waits_and_kept_before_the_service_stops() {
    let (ledger, tokens, service) = service().await;
    let mut superuser = ledger.superuser().await;
    let lock = "begin; lock table access in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut superuser).await.unwrap();
    for _ in 0..20 {
        assert_eq!(asked(&service, "GET /events", &tokens.auditor).await.0, 200);
    }
    // Postgres lets go of the table by itself: what stops waits for seconds, and this process may stall.
    let release = sqlx::raw_sql("select pg_sleep(1); commit").execute(&mut superuser);
    let stop = async {
        service.signal(Signal::TERM);
        let stops = || service.log().contains("finishing what is queued");
        until_async("it stops", async || stops()).await;
    };
    let (released, ()) = tokio::join!(release, stop);
    released.unwrap();
    assert!(service.wait().success());
    let kept = query_scalar::<_, i64>("select count(*) from access");
    assert_eq!(kept.fetch_one(&mut superuser).await.unwrap(), 20);
}

#[tokio::test]
async fn a_stop_waits_seconds_for_the_record_however_much_waits() {
    let (ledger, tokens, service) = service().await;
    let mut superuser = ledger.superuser().await;
    let lock = "begin; lock table access in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut superuser).await.unwrap();
    assert_eq!(asked(&service, "GET /events", &tokens.auditor).await.0, 200);
    // The first is being written by now: the others, of four batches, wait behind it.
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'identity-ledger access'
            and wait_event_type = 'Lock'";
    let mut watcher = ledger.superuser().await;
    until_async("it is being written", async || {
        query_scalar::<_, i64>(waiting).fetch_one(&mut watcher).await.unwrap() > 0
    })
    .await;
    let reading = (0..3_200).map(|_| asked(&service, "GET /events?limit=1", &tokens.auditor));
    let answers: Vec<_> = stream::iter(reading).buffered(8).collect().await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    service.signal(Signal::TERM);
    let told = || service.log().contains("reads of personal data are not on record");
    let begun = std::time::Instant::now();
    until("it gives up", told);
    // If each batch were waited for, it would be five times as long as one.
    assert!(begun.elapsed().as_secs() < 11, "{:?}", begun.elapsed());
    assert!(service.log().contains("reads_len=3201"), "{}", service.log());
    assert!(service.wait().success());
}

#[tokio::test]
async fn a_connection_that_was_lost_loses_no_read() {
    let (ledger, tokens, service) = service().await;
    asked(&service, "GET /events", &tokens.auditor).await;
    reads(&service, &tokens, 1).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'identity-ledger access'";
    let cut = query_scalar::<_, bool>(cut).fetch_all(&mut ledger.superuser().await).await;
    assert_eq!(cut.unwrap(), [true]);
    let headers = [("accept", "text/event-stream"), ("last-event-id", "1")];
    let request = service.request("GET", "/events", &tokens.auditor);
    let request = headers.into_iter().fold(request, |it, (name, value)| it.header(name, value));
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(reads(&service, &tokens, 2).await[1]["position"], 1);
    let told = || service.log().contains("reads of personal data are put on record again");
    until("it is told that the trouble is over", told);
}

#[tokio::test]
async fn two_nodes_number_reads_without_gaps() {
    let (ledger, tokens, one) = service().await;
    let other = Service::start_with(&tokens.args(&ledger));
    let reading = (0..200).map(|n| {
        let node = if n % 2 == 0 { &one } else { &other };
        asked(node, "GET /events", &tokens.auditor)
    });
    let answers = join_all(reading).await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let kept = reads(&one, &tokens, 200).await;
    assert!(kept.iter().map(|read| read["id"].as_i64().unwrap()).eq(1..=200));
    let metrics = other.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("identity_ledger_access_reads_lost_total 0\n"), "{metrics}");
}

#[tokio::test]
async fn no_log_error_or_metric_shows_a_token() {
    let (ledger, tokens, silent) = service().await;
    drop(silent);
    let args = [&tokens.args(&ledger)[..], &["--log-level", "trace"]].concat();
    let service = Service::start_with(&args);
    let canary = "idl_canary-0123456789";
    let mut shown = Vec::new();
    for token in [canary, &tokens.caller, &tokens.auditor, &tokens.operator] {
        for path in ["/events", "/access", "/contacts/1", "/nowhere", "/metrics"] {
            let path = format!("{path}?token={token}&after={token}");
            let response = service.request("GET", &path, token).send().await.unwrap();
            shown.push(format!("{:?}", response.headers()));
            shown.push(response.text().await.unwrap());
        }
        let in_path = service.request("GET", &format!("/contacts/{token}"), token);
        shown.push(in_path.send().await.unwrap().text().await.unwrap());
        identify(&service, token, "a@x.org").await;
    }
    // A file that says a token where it should say something else.
    let good = std::fs::read_to_string(&tokens.file).unwrap();
    for wrong in [
        format!("[[token]]\nname = \"{canary}\"\nrole = \"caller\"\nsha256 = \"\"\n"),
        format!("[[token]]\nname = \"a\"\nrole = \"{canary}\"\nsha256 = \"\"\n"),
        format!("[[token]]\nname = \"a\"\nrole = \"caller\"\nsha256 = \"{canary}\"\n"),
        format!("{good}expires = \"{canary}\"\n"),
        format!("{good}requests_per_second = \"{canary}\"\n"),
        format!("token = \"{canary}\"\n"),
        format!("[[token]]\n{canary}\n"),
        format!("[[token]]\n{canary} = 1\n"),
        format!("[[token]]\n{canary} = 1\n{canary} = 2\n"),
        format!("[{canary}]\n"),
        format!("{good}name.{canary} = 1\n"),
    ] {
        tokens.write(&wrong);
        let before = service.log().matches("stay as they were").count();
        service.signal(Signal::HUP);
        until("it is told", || service.log().matches("stay as they were").count() > before);
        shown.push(refuses(command(&["serve"]).args(tokens.args(&ledger))));
    }
    // Where a file, a name or a command should be.
    shown.push(refuses(command(&["serve"]).env("TOKENS", canary)));
    for args in [&["token", "new", canary, "--role", "caller"][..], &["serve", canary], &[canary]] {
        let refused = command(args).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        shown.push(format!("{refused:?}"));
    }
    let help = command(&["serve", "--help"]).env("TOKENS", canary).output().unwrap();
    shown.push(format!("{help:?}"));
    shown.push(service.get("/metrics").await.text().await.unwrap());
    shown.push(service.log());
    for token in ["canary", &tokens.caller, &tokens.auditor, &tokens.operator] {
        assert!(shown.iter().all(|text| !text.contains(token)), "{token}: {shown:?}");
    }
}

#[tokio::test]
async fn a_tokens_file_is_refused_by_the_line_and_with_what_is_allowed() {
    let (ledger, tokens) = (TestLedger::new().await, Tokens::new());
    let hash = "ab".repeat(32);
    let entry = |name: &str, hash: &str, more: &str| {
        format!("[[token]]\nname = \"{name}\"\nrole = \"caller\"\nsha256 = \"{hash}\"\n{more}\n")
    };
    for (text, expected) in [
        (String::new(), ": there is no [[token]]: no one could ask anything"),
        ("[[tokens]]\n".into(), ":1: unknown field, expected `token`"),
        (entry("a", &hash, "until = 1"), ":5: unknown field, expected one of `name`, `role`"),
        (entry("a", &hash, "expires = 2027-01-01T00:00:00Z"), ":5: expected a string"),
        (entry("a", &hash, "expires = \"2027-01-01\""), ":5: expires is a time such as"),
        (
            entry("a", &hash, "requests_per_second = 0"),
            ":5: requests_per_second is a number from 1",
        ),
        (entry("a", &hash, "requests_per_second = 1.5"), ":5: expected a whole number"),
        (entry("a", "ab", ""), ":4: sha256 has 64 hexadecimal digits"),
        (entry("Ann", &hash, ""), ":2: a name is 1 to 64 of a-z"),
        (entry("ann@x.org", &hash, ""), ":2: a name is 1 to 64 of a-z"),
        (
            entry("a", &hash, "") + &entry("a", &"cd".repeat(32), ""),
            ":7: another token has this name",
        ),
        (entry("a", &hash, "") + &entry("b", &hash, ""), ":9: another token has this hash"),
        (
            entry("a", &hash, "").replace("caller", "king"),
            ":3: role is caller, auditor or operator",
        ),
    ] {
        tokens.write(&text);
        let said = refuses(command(SERVE).args(tokens.args(&ledger)));
        assert!(said.contains(&format!("tokens.toml{expected}")), "{said}");
    }
    std::fs::remove_file(&tokens.file).unwrap();
    let said = refuses(command(SERVE).args(tokens.args(&ledger)));
    assert!(said.contains("cannot read the tokens file"), "{said}");
}

#[test]
fn a_new_token_has_a_name_of_its_own() {
    let tokens = Tokens::new();
    let new = |name: &str| {
        let mut command = command(&["token", "new", name, "--role", "caller"]);
        command.env("TOKENS", &tokens.file);
        command
    };
    assert!(refuses(&mut new("shop")).contains("has a token named shop; choose another name"));
    let printed = succeeds(new("crm").args(["--expires", "2999-01-01T00:00:00Z"]));
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("idl_") && lines[0].len() == 47, "{printed}");
    let expected = ["[[token]]", "name = \"crm\"", "role = \"caller\""];
    assert_eq!(lines[1..4], expected);
    assert!(lines[4].starts_with("sha256 = ") && !lines[4].contains(lines[0]));
    assert_eq!(lines[5..], ["expires = \"2999-01-01T00:00:00Z\""]);
    let said = refuses(new("crm").args(["--expires", "2020-01-01T00:00:00Z"]));
    assert!(said.contains("--expires 2020-01-01T00:00:00Z is in the past"), "{said}");
    for bad in ["ann@x.org", "4930123", ""] {
        misuse(&mut new(bad));
    }
    misuse(new("crm").args(["--expires", "tomorrow"]));
    // Made first for its owner and mode.
    tokens.write("");
    succeeds(&mut new("shop"));
}

#[tokio::test]
async fn metrics_are_for_this_machine_and_from_elsewhere_for_auditors() {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let is_connected = probe.connect("192.0.2.1:9").is_ok();
    if !is_connected || probe.local_addr().unwrap().ip().is_loopback() {
        eprintln!("this machine has no address but loopback: no one asks from elsewhere");
        return;
    }
    let (ledger, tokens) = (TestLedger::new().await, Tokens::new());
    let listen = format!("{}:0", probe.local_addr().unwrap().ip());
    let serve = ["serve", "--listen", &listen];
    let service = Service::spawn(command(&serve).args(tokens.args(&ledger)));
    let metrics = async |token: &str| asked(&service, "GET /metrics", token).await.0;
    assert_eq!(metrics("").await, 401);
    assert_eq!(metrics(&tokens.caller).await, 403);
    assert_eq!(metrics(&tokens.auditor).await, 200);
    assert_eq!(metrics(&tokens.operator).await, 200);
    assert_eq!(asked(&service, "GET /health/ready", "").await.0, 200);
}

#[tokio::test]
async fn metrics_are_not_for_a_web_page_whose_name_leads_here() {
    let (ledger, tokens) = (TestLedger::new().await, Tokens::new());
    let service = Service::start_with(&tokens.args(&ledger));
    let status = async |host: &str| {
        let request = service.client.get(service.url("/metrics")).header("host", host);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("localhost:10000").await, 200);
    assert_eq!(status("evil.example:10000").await, 401);
}

#[tokio::test]
async fn a_private_postgres_lets_the_service_keep_the_record() {
    let (dir, tokens) = (scratch_dir(), Tokens::new());
    let data_dir = dir.path().join("data");
    let args = ["--data-dir", data_dir.to_str().unwrap(), "--tokens"];
    let args = [&args[..], &[tokens.file.to_str().unwrap()]].concat();
    let service = Service::start_with(&args);
    assert_eq!(asked(&service, "GET /events", &tokens.auditor).await.0, 200);
    assert_eq!(reads(&service, &tokens, 1).await[0]["askedBy"], "audit");
    assert!(service.stop().success());
}

#[tokio::test]
async fn with_tokens_any_address_will_do_and_no_auth_contradicts_them() {
    let (ledger, tokens) = (TestLedger::new().await, Tokens::new());
    let serve = || {
        let mut serve = command(&["serve", "--listen", "0.0.0.0:0"]);
        serve.args(tokens.args(&ledger));
        serve
    };
    let service = Service::spawn(&mut serve());
    assert!(
        service.log().contains("tokens and customers cross the network unencrypted"),
        "{}",
        service.log()
    );
    assert_eq!(identify(&service, "", "a@x.org").await, 401);
    assert_eq!(identify(&service, &tokens.caller, "a@x.org").await, 200);
    misuse(serve().arg("--no-auth"));
}

#[tokio::test]
async fn without_tokens_a_web_page_cannot_ask_by_its_own_name() {
    let (ledger, tokens) = (TestLedger::new().await, Tokens::new());
    let database = ["--database-url", &*ledger.url];
    let open = Service::start_with(&database);
    let by_name = async |service: &Service, host: &str| {
        let host = [("host", host.to_owned())];
        service.get_with("/health/live", &host).await.status().as_u16()
    };
    assert_eq!(by_name(&open, "evil.example:10000").await, 421);
    assert_eq!(by_name(&open, "localhost:10000").await, 200);
    let erase = open.request("POST", "/contacts/1/erase", "").header("host", "evil.example");
    let erase = erase.json(&json!({"reason": "customer-request"})).send().await.unwrap();
    assert_eq!(erase.status(), 421);
    let page = json!({"email": "a@x.org"});
    let identify = open.request("POST", "/identify", "").header("host", "evil.example").json(&page);
    assert_eq!(identify.send().await.unwrap().status(), 421);
    for args in [&["--no-auth"][..], &["--tokens", tokens.file.to_str().unwrap()]] {
        let service = Service::start_with(&[&database, args].concat());
        assert_eq!(by_name(&service, "ledger.example.com").await, 200, "{args:?}");
    }
}

#[tokio::test]
async fn an_erasure_names_the_operator_who_asked_for_it() {
    let (_ledger, tokens, service) = service().await;
    assert_eq!(identify(&service, &tokens.caller, "a@x.org").await, 200);
    let body = json!({"reason": "customer-request"});
    let erase = service.request("POST", "/contacts/1/erase", &tokens.operator).json(&body);
    assert_eq!(erase.send().await.unwrap().status(), 200);
    let page = service.request("GET", "/events?kind=ContactErased", &tokens.operator).send().await;
    let page: Value = page.unwrap().json().await.unwrap();
    assert_eq!(page["events"][0]["event"]["data"]["erasedBy"], "ops");
}
