//! A retry with the same Idempotency-Key is recorded once, whatever happens in between.

use crate::support::{
    Contact, Seen, Service, TestLedger, command, private_database, random_observations,
    scratch_dir, succeeds, until, until_async,
};
use futures_util::future::join_all;
use reqwest::Response;
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use sqlx::{PgConnection, query_scalar};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether it was a retry, and the answer.
async fn answer(response: Response) -> (bool, Contact) {
    assert_eq!(response.status(), 200);
    let is_replay = response.headers().get("idempotent-replay").map(|it| it.to_str().unwrap());
    let is_replay = is_replay.map(|it| assert_eq!(it, "true")).is_some();
    let body: Value = response.json().await.unwrap();
    (is_replay, serde_json::from_value(body["contact"].clone()).unwrap())
}

async fn once(service: &Service, seen: &Seen, key: &str) -> (bool, Contact) {
    answer(service.try_identify_once(seen, key).await.unwrap()).await
}

async fn observations(ledger: &TestLedger) -> i64 {
    let mut owner = ledger.owner().await;
    query_scalar("select count(*) from observation").fetch_one(&mut owner).await.unwrap()
}

#[tokio::test]
async fn a_retry_appends_nothing_and_is_answered_with_the_customer_as_it_is_now() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let ann = Seen::new("ann@x.org", "1");
    let (is_replay, first) = once(&service, &ann, "one").await;
    assert!(!is_replay);
    let (is_replay, again) = once(&service, &ann, "one").await;
    assert!(is_replay);
    assert_eq!(first, again);

    service.identify(&Seen::new("ann@work.example", "1")).await;
    let (is_replay, now) = once(&service, &ann, "one").await;
    assert!(is_replay);
    assert_eq!(now.emails, ["ann@x.org", "ann@work.example"]);
    assert_eq!(observations(&ledger).await, 2);

    let (is_replay, _) = once(&service, &ann, "two").await;
    assert!(!is_replay, "another key is another request");
    assert_eq!(observations(&ledger).await, 3);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_key_of_an_observation_that_is_gone_is_a_new_one() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let ann = Seen::new("ann@x.org", "1");
    once(&service, &ann, "one").await;
    let delete = "alter table observation disable trigger all; delete from observation";
    sqlx::raw_sql(delete).execute(&mut ledger.superuser().await).await.unwrap();
    let (is_replay, _) = once(&service, &ann, "one").await;
    assert!(!is_replay);
    let (is_replay, _) = once(&service, &ann, "one").await;
    assert!(is_replay);
}

#[tokio::test]
async fn a_key_that_comes_with_another_body_is_refused() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    once(&service, &Seen::new("ann@x.org", "1"), "one").await;
    for other in [Seen::new("ann@x.org", ""), Seen::new("Ann@x.org", "1"), Seen::new("", "1")] {
        let refused = service.try_identify_once(&other, "one").await.unwrap();
        assert_eq!(refused.status(), 422);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["recorded"], "no");
    }
    assert_eq!(observations(&ledger).await, 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let ann = Seen::new("ann@x.org", "");
    for key in ["", &"k".repeat(256), "caf\u{e9}"] {
        let refused = service.try_identify_once(&ann, key).await.unwrap();
        assert_eq!(refused.status(), 400, "{key}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["field"], "idempotency-key");
    }
    let twice = reqwest::Client::new().post(service.url("/identify")).json(&ann);
    let twice = twice.header("idempotency-key", "a").header("idempotency-key", "a");
    assert_eq!(twice.send().await.unwrap().status(), 400);
    assert_eq!(observations(&ledger).await, 0);
    once(&service, &ann, &"k".repeat(255)).await;
}

/// Its number leads to the customer where its values do not.
#[tokio::test]
async fn a_retry_of_what_never_links_is_known_too() {
    let ledger = TestLedger::new().await;
    let rules = r#"
        name = "t"
        version = 1
        [email]
        case = "sensitive"
        blocked = ["noreply@*"]
        [phone]
        format = "exact"
    "#;
    let dir = scratch_dir();
    let file = dir.path().join("rules.toml");
    std::fs::write(&file, rules).unwrap();
    let activate = ["rules", "activate", file.to_str().unwrap(), "--reason", "t", "--yes"];
    succeeds(command(&activate).args(["--database-url", &ledger.url]));

    let service = Service::start(&ledger.url);
    let nobody = Seen::new("noreply@x.org", "");
    let (_, first) = once(&service, &nobody, "one").await;
    let (_, second) = once(&service, &nobody, "two").await;
    assert_ne!(first, second);
    assert_eq!(once(&service, &nobody, "one").await, (true, first));
    assert_eq!(once(&service, &nobody, "two").await, (true, second));
}

#[tokio::test]
async fn of_many_at_once_on_two_nodes_one_is_recorded() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let all = random_observations(20, 40, 20);
    let sent = all.iter().enumerate().flat_map(|(n, seen)| (0..10).map(move |m| (n, m, seen)));
    let answers = join_all(sent.map(async |(n, m, seen)| {
        // Others are recorded meanwhile, so that the retries come on every path.
        nodes[m % 2].identify(&Seen::new(&format!("other{n}-{m}@x.org"), "")).await;
        (n, once(&nodes[(n + m) % 2], seen, &format!("key {n}")).await.0)
    }))
    .await;
    for n in 0..all.len() {
        let recorded = answers.iter().filter(|(of, is_replay)| *of == n && !is_replay).count();
        assert_eq!(recorded, 1, "of key {n}");
    }
    assert_eq!(observations(&ledger).await, 440);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn what_was_recorded_and_not_answered_before_a_kill_is_not_recorded_again() {
    let ledger = TestLedger::new().await;
    let all = random_observations(21, 2_000, 500);
    let service = Service::start(&ledger.url);
    let pid = service.pid();
    let (answered, unanswered) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let send = join_all(all.chunks(50).zip(0..).map(async |(mine, caller)| {
        for (seen, n) in mine.iter().zip(0..) {
            let key = format!("{caller}/{n}");
            match service.try_identify_once(seen, &key).await {
                Ok(response) => {
                    assert!(!answer(response).await.0);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => unanswered.lock().unwrap().push((seen, key)),
            }
        }
    }));
    let kill = async {
        let is_under_load = async || answered.load(Ordering::Relaxed) > 500;
        until_async("it is under load", is_under_load).await;
        kill_process(pid, Signal::KILL).unwrap();
    };
    tokio::join!(send, kill);
    service.kill();

    let service = Service::start(&ledger.url);
    let unanswered = unanswered.into_inner().unwrap();
    assert!(!unanswered.is_empty(), "the service was killed under load");
    join_all(unanswered.chunks(50).map(async |mine| {
        for (seen, key) in mine {
            once(&service, seen, key).await;
            assert!(once(&service, seen, key).await.0);
        }
    }))
    .await;
    assert_eq!(observations(&ledger).await, 2_000);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_key_is_let_go_when_its_time_is_over() {
    let ledger = TestLedger::new().await;
    lets_go_of_keys(["--database-url", &ledger.url], async || ledger.owner().await).await;
}

/// There the service has a role of its own, which may not do all that the owner may.
#[tokio::test]
async fn a_key_is_let_go_on_the_private_server_too() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let database = private_database(&data_dir);
    let owner = async || database.owner().await.unwrap();
    lets_go_of_keys(["--data-dir", data_dir.to_str().unwrap()], owner).await;
}

async fn lets_go_of_keys(place: [&str; 2], owner: impl AsyncFn() -> PgConnection) {
    let start = || Service::start_with(&[&place[..], &["--idempotency-hours", "1"]].concat());
    let service = start();
    let ann = Seen::new("ann@x.org", "1");
    once(&service, &ann, "old").await;
    once(&service, &ann, "new").await;
    let mut owner = owner().await;
    let age = "alter table observation disable trigger erased_only;
        update observation set observed_at = observed_at - interval '61 minutes' where id = 1";
    sqlx::raw_sql(age).execute(&mut owner).await.unwrap();
    assert!(!once(&service, &ann, "old").await.0);
    assert!(once(&service, &ann, "old").await.0, "it is the key of another observation now");
    assert!(once(&service, &ann, "new").await.0);

    let age = "update observation set observed_at = observed_at - interval '61 minutes'
        where id = 2";
    sqlx::raw_sql(age).execute(&mut owner).await.unwrap();
    service.kill();
    let service = start();
    until_async("the key is let go", async || {
        let left = query_scalar("select observation_id from idempotency order by 1");
        let left: Vec<i64> = left.fetch_all(&mut owner).await.unwrap();
        assert!(left == [2, 3] || left == [3], "{left:?}");
        left == [3]
    })
    .await;
    assert!(service.stop().success());
}

/// Each finds the old key in its way, and deletes it: none may delete what another has recorded since.
#[tokio::test]
async fn a_key_whose_time_is_over_is_recorded_anew_once_on_two_nodes() {
    let ledger = TestLedger::new().await;
    let start =
        || Service::start_with(&["--database-url", &ledger.url, "--idempotency-hours", "1"]);
    let nodes = [start(), start()];
    let all = random_observations(22, 20, 20);
    let keys = || all.iter().zip(0..).map(|(seen, n)| (seen, format!("key {n}")));
    for (seen, key) in keys() {
        once(&nodes[0], seen, &key).await;
    }
    let age = "alter table observation disable trigger erased_only;
        update observation set observed_at = observed_at - interval '61 minutes'";
    sqlx::raw_sql(age).execute(&mut ledger.owner().await).await.unwrap();
    for (seen, key) in keys() {
        let sent = (0..10).map(|n| once(&nodes[n % 2], seen, &key));
        let recorded = join_all(sent).await.iter().filter(|(is_replay, _)| !is_replay).count();
        assert_eq!(recorded, 1, "of {key}");
    }
    assert_eq!(observations(&ledger).await, 40);
    let kept = "select array_agg(observation_id > 20) from idempotency";
    let kept: Vec<bool> = query_scalar(kept).fetch_one(&mut ledger.owner().await).await.unwrap();
    assert_eq!(kept, [true; 20]);
}

#[tokio::test]
async fn what_a_caller_wrote_as_its_key_is_nowhere() {
    let ledger = TestLedger::new().await;
    let service = Service::start_with(&["--database-url", &ledger.url, "--log-level", "trace"]);
    let canary = "canary-c0ffee";
    once(&service, &Seen::new("ann@x.org", "1"), canary).await;
    service.try_identify_once(&Seen::new("bob@x.org", "1"), canary).await.unwrap();
    let metrics = service.get("/metrics").await.text().await.unwrap();
    assert!(!metrics.contains(canary));
    assert!(!service.log().contains(canary));
    let mut owner = ledger.owner().await;
    let rows = query_scalar("select i::text from idempotency as i");
    let rows: Vec<String> = rows.fetch_all(&mut owner).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].contains(canary));
}

/// Each is a connection of this process, of which systems allow few by default.
fn allow_connections(len: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(len, |maximum| maximum.min(len));
    if limit.current.is_some_and(|current| current < allowed) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), ..limit }).unwrap();
    }
}

/// As `once`. What is recorded is read for each answer, and on a busy machine some wait too long for
/// that: they ask again.
async fn once_in_the_end(service: &Service, seen: &Seen, key: &str) -> (bool, Contact) {
    let mut answered = None;
    until_async("it is answered", async || {
        let response = service.try_identify_once(seen, key).await.unwrap();
        if response.status() == 503 {
            let problem: Value = response.json().await.unwrap();
            assert_eq!(problem["recorded"], "yes", "{problem}");
        } else {
            answered = Some(answer(response).await);
        }
        answered.is_some()
    })
    .await;
    answered.unwrap()
}

/// More than are in one batch.
#[tokio::test]
async fn very_many_retries_at_once_are_recorded_once_and_others_go_on() {
    allow_connections(4_000);
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let ann = Seen::new("ann@x.org", "1");
    let retries =
        join_all((0..1_500).map(async |_| once_in_the_end(&service, &ann, "one").await.0));
    let others = async {
        for n in 0..10 {
            service.identify(&Seen::new(&format!("other{n}@x.org"), "")).await;
        }
    };
    let (is_replay, ()) = tokio::join!(retries, others);
    assert_eq!(is_replay.iter().filter(|is_replay| !**is_replay).count(), 1);
    assert_eq!(observations(&ledger).await, 11);
}

/// Otherwise the table grows, and no answer shows why.
#[tokio::test]
async fn it_is_told_that_old_keys_cannot_be_deleted() {
    let ledger = TestLedger::new().await;
    let refuse = "create function refuse() returns trigger language plpgsql as
        $$ begin raise exception 'refused'; end $$;
        create trigger refuse before delete on idempotency
        for each statement execute function refuse()";
    sqlx::raw_sql(refuse).execute(&mut ledger.owner().await).await.unwrap();
    let service = Service::start(&ledger.url);
    until("it is told", || service.log().contains("old idempotency keys are not deleted"));
}

/// No one has looked whether it was recorded before.
#[tokio::test]
async fn a_retry_that_is_not_answered_may_be_in_the_ledger() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let ann = Seen::new("ann@x.org", "1");
    once(&service, &ann, "one").await;
    let mut owner = ledger.owner().await;
    let newer = "update head set schema_version = schema_version + 1";
    sqlx::raw_sql(newer).execute(&mut owner).await.unwrap();
    let unanswered = service.try_identify_once(&ann, "one").await.unwrap();
    assert_eq!(unanswered.status(), 503);
    let problem: Value = unanswered.json().await.unwrap();
    assert_eq!(problem["recorded"], "unknown");
}
