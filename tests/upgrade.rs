//! Nodes of two versions beside one another corrupt nothing, and say which of them is too old.

use crate::support::{
    SERVE, Seen, Service, SigningKey, TestLedger, command, random_observations, refuses, succeeds,
    until_async,
};
use futures_util::future::join_all;
use identity_ledger::ledger::schema_version;
use serde_json::Value;
use sqlx::migrate::Migrator;
use sqlx::{query, query_scalar};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static MIGRATOR: Migrator = sqlx::migrate!();

const QUESTIONS: [&str; 15] = [
    "/health/ready",
    "/contacts/1",
    "/contacts/1?as_of=3",
    "/contacts/1?as_of=2026-11-01T12:00:00Z",
    "/contacts/1/history",
    "/contacts/1/why?with=2",
    "/events",
    "/events?kind=ContactObserved&contact=1",
    "/access",
    "/contacts/1/personal-data",
    "/ledger",
    "/ledger/checkpoint",
    "/ledger/proof/inclusion?position=1",
    "/ledger/proof/consistency?from=1",
    // Not "no observation has this number": a node that is too old does not know.
    "/contacts/1000000",
];

/// What a node that is too old says, once each.
const TOLD: [&str; 2] = ["no question is answered", "not recorded"];

async fn change_version(ledger: &TestLedger, by: i64) {
    let change = query("update head set schema_version = schema_version + $1").bind(by);
    change.execute(&mut ledger.owner().await).await.unwrap();
}

#[tokio::test]
async fn a_node_older_than_the_database_says_so_and_touches_nothing() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    let service = Service::start_with(&key.args(&ledger));
    let all = random_observations(1, 20_000, 4_000);
    let recorded = AtomicUsize::new(0);
    let (is_raised, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let callers = join_all(all.chunks(1_000).map(async |mine| {
        for seen in mine.iter().cycle().take_while(|_| !is_over.load(Ordering::SeqCst)) {
            let was_raised = is_raised.load(Ordering::SeqCst);
            let response = service.try_identify(seen).await.unwrap();
            match response.status().as_u16() {
                200 => {
                    assert!(!was_raised, "a node that is too old has recorded something");
                    recorded.fetch_add(1, Ordering::SeqCst);
                }
                503 => {
                    let problem: Value = response.json().await.unwrap();
                    assert_eq!(problem["recorded"], "no", "{problem}");
                    let detail = problem["detail"].as_str().unwrap();
                    assert!(detail.contains("Upgrade the node"), "{detail}");
                }
                status => panic!("{status}"),
            }
        }
    }));
    let upgrade = async {
        let is_under_load = async || recorded.load(Ordering::SeqCst) > 500;
        until_async("it is under load", is_under_load).await;
        change_version(&ledger, 1).await;
        is_raised.store(true, Ordering::SeqCst);
        let before = ledger.position().await;
        for question in QUESTIONS {
            let response = service.get(question).await;
            assert_eq!(response.status(), 503, "{question}");
            let problem: Value = response.json().await.unwrap();
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("Upgrade the node"), "{question}: {detail}");
        }
        assert_eq!(service.lookup(&all[0]).await.status(), 503);
        assert_eq!(service.get("/health/live").await.status(), 200);
        let is_told = async || TOLD.iter().all(|told| service.log().contains(told));
        until_async("it is told", is_told).await;
        is_over.store(true, Ordering::SeqCst);
        before
    };
    let (_, before) = tokio::join!(callers, upgrade);
    assert_eq!(ledger.position().await, before, "nothing more was appended");
    let log = service.log();
    for told in TOLD {
        assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
    }

    change_version(&ledger, -1).await;
    service.identify(&Seen::new("again@x.org", "")).await;
    assert!(service.stop().success());
    succeeds(command(&["verify"]).args(key.args(&ledger)));
}

/// It has nothing to read before it appends, which would tell it.
#[tokio::test]
async fn a_node_that_knows_all_it_needs_finds_out_all_the_same_that_it_is_too_old() {
    let ledger = TestLedger::new().await;
    let service = Service::start_with(&["--database-url", &ledger.url, "--log-level", "debug"]);
    service.identify(&Seen::new("a@x.org", "")).await;
    let is_known = async || service.log().contains("all keys that contacts hold are known");
    until_async("all keys are known", is_known).await;
    for n in 0..3 {
        service.identify(&Seen::new(&format!("b{n}@x.org"), "")).await;
        change_version(&ledger, 1).await;
        let response = service.try_identify(&Seen::new(&format!("c{n}@x.org"), "")).await.unwrap();
        assert_eq!(response.status(), 503);
        change_version(&ledger, -1).await;
    }
    let recorded = query_scalar::<_, i64>("select count(*) from observation");
    assert_eq!(recorded.fetch_one(&mut ledger.owner().await).await.unwrap(), 4);
}

/// One that is older, and waits for no one except those who read its tables right now.
#[tokio::test]
async fn a_ledger_of_an_older_version_is_migrated_at_the_start() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    sqlx::raw_sql("create schema older; set search_path = older")
        .execute(&mut owner)
        .await
        .unwrap();
    // What comes next needs the head first, and then the events.
    MIGRATOR.run_to(8, &mut owner).await.unwrap();
    let first_event = "
        insert into rules (digest, name, version, document, normaliser)
        select digest, name, version, document, normaliser from ledger.rules;
        insert into event (position, recorded_at, kind, line)
        select position, recorded_at, kind, line from ledger.event;
        insert into head (position, observation_id, recorded_at, rules_digest)
        select position, observation_id, recorded_at, rules_digest from ledger.head;
        begin;
        select position from head;
    ";
    sqlx::raw_sql(first_event).execute(&mut owner).await.unwrap();
    let mut auditor = ledger.owner().await;
    let reads = "begin; select position from older.event";
    sqlx::raw_sql(reads).execute(&mut auditor).await.unwrap();

    let superuser = ledger.url.replace("//shop@", "//postgres@");
    let mut serve = command(SERVE);
    let said = refuses(serve.args(["--database-url", &superuser, "--ledger", "older"]));
    assert!(said.contains("belong to the role shop: log in as that role"), "{said}");

    let args = ["--database-url", &ledger.url, "--ledger", "older"];
    let mut serve = command(SERVE);
    let starting = tokio::task::spawn_blocking({
        let args = args.map(str::to_owned);
        move || Service::spawn(serve.args(args))
    });
    ledger.until_waited_for("older.head").await;
    assert!(!starting.is_finished());
    sqlx::raw_sql("commit").execute(&mut owner).await.unwrap();
    ledger.until_waited_for("older.event").await;
    // Meanwhile others are held up for moments only.
    sqlx::raw_sql("select position from head").execute(&mut owner).await.unwrap();
    assert!(!starting.is_finished());
    sqlx::raw_sql("commit").execute(&mut auditor).await.unwrap();
    let service = starting.await.unwrap();
    service.identify(&Seen::new("a@x.org", "1")).await;
    let found = query_scalar::<_, i64>("select schema_version from older.head");
    assert_eq!(found.fetch_one(&mut owner).await.unwrap(), schema_version());
    assert!(service.stop().success());
    succeeds(command(&["verify"]).args(args));
}
