//! Plans are a matter of correctness: a scan is right at first and stops the service later.

use crate::support::{TestLedger, until_async};
use identity_ledger::ledger::{ObservationRow, Pages};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, query_scalar};

const LOAD: &str = include_str!("../projections/contact/load.sql");
const IDENTITY: &str = include_str!("../projections/contact/identity.sql");
const PAST: &str = include_str!("../src/audit/past.sql");
const HISTORY: &str = include_str!("../src/audit/history.sql");
const MOMENT: &str = include_str!("../src/audit/moment.sql");
const OF_CONTACT: &str = include_str!("../src/ledger/of_contact.sql");
const COMPARE: &str = include_str!("../src/verify/compare.sql");
const HELD: &str = include_str!("../src/erasure/held.sql");
const OF_KIND: &str = include_str!("../src/ledger/of_kind.sql");
const EVENT_BEYOND: &str = include_str!("../src/verify/event_beyond.sql");
const OBSERVATION_BEYOND: &str = include_str!("../src/verify/observation_beyond.sql");
const APPEND: &str = include_str!("../src/recorder/append.sql");
const APPEND_ONE: &str = include_str!("../src/recorder/append_one.sql");

/// A million contacts, a tenth of them secondaries, that nothing has ever gathered statistics of.
const GROW: &str = "
    alter table contact set (autovacuum_enabled = off);
    alter table event set (autovacuum_enabled = off);
    alter table observation set (autovacuum_enabled = off);
    insert into contact (
        id, linked_id, link_precedence, created_at, updated_at, email, phone_number, email_key, phone_key
    )
    select n, case when n % 10 = 0 then n - 1 end, '', now(), now(),
        'user' || n || '@x.org', n, 'user' || n || '@x.org', n
    from generate_series(1, 1000000) as n;
    insert into event (position, recorded_at, kind, contact_id, observation_id, primary_id, line)
    select n + 1, now(), 'ContactObserved', n, n, n, '{}'
    from generate_series(1, 1000000) as n;
    insert into observation (id, position, observed_at, email, phone_number, salt)
    select n, n + 1, now(), 'user' || n || '@x.org', n, ''
    from generate_series(1, 1000000) as n;
";

const MANY: &str = "generate_series(1, 1000000)";

#[tokio::test]
async fn no_statement_of_the_hot_path_scans_a_table() {
    let ledger = TestLedger::new().await;
    sqlx::raw_sql(GROW).execute(&mut ledger.owner().await).await.unwrap();
    let mut session = ledger.database.recorder().await.unwrap();
    let statements =
        [("load", LOAD), ("identity", IDENTITY), ("append", APPEND), ("append_one", APPEND_ONE)];
    for (name, statement) in statements {
        let prepare = AssertSqlSafe(format!("prepare {name} as {statement}"));
        sqlx::raw_sql(prepare).execute(&mut session).await.unwrap();
    }
    for mode in ["force_generic_plan", "force_custom_plan"] {
        let set = AssertSqlSafe(format!("set plan_cache_mode = {mode}"));
        sqlx::raw_sql(set).execute(&mut session).await.unwrap();
        let mut plans = vec![check(&mut session, "identity(500000)").await];
        // It reads the head alone.
        let append_one = "append_one(1, 7, now(), 'x', 'x', 7, 7, 'x', 'x', '', 'x', 'x', 'x', 'x', \
            1, '', 1, now())";
        plans.push(check_scans(&mut session, append_one).await);
        for len in [1, 1000] {
            let many = |value: &str| format!("array_fill({value}, array[{len}])");
            let (text, number) = (many("'x'::text"), many("7::bigint"));
            let key = many("gen_random_uuid()");
            plans.push(check(&mut session, &format!("load({text}, {text})")).await);
            let events = format!("{text}, {number}, {text}, {number}, {number}");
            let observations = format!("{text}, {text}, {}, {number}", many("'x'::bytea"));
            let contacts = format!("{number}, {number}, {text}, {text}, {text}, {text}");
            let append = format!(
                "append(1, 0, now(), {events}, {observations}, {contacts}, 1, '', {key}, \
                 {number}, {number}, {number}, 1, now())"
            );
            plans.push(check(&mut session, &append).await);
        }
        for plan in plans {
            let mut scanned = Vec::new();
            collect_scans(&plan, &mut scanned);
            assert!(scanned.is_empty(), "a long snapshot leaves many pages of it: {plan:#}");
        }
    }
}

/// What an auditor asks of one contact costs as much as what happened to it: a range of positions
/// would be a scan of the ledger by another name.
#[tokio::test]
async fn no_question_about_a_contact_reads_a_range_of_the_ledger() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    let few = "generate_series(1, 20000)";
    // With few events, and statistics that say that there are none of some kinds, a scan looks cheap.
    let few_then_analyzed = GROW.replace(MANY, few) + LINKS;
    for grow in [few_then_analyzed, GROW.replace(MANY, "generate_series(20001, 1000000)")] {
        sqlx::raw_sql(AssertSqlSafe(grow)).execute(&mut owner).await.unwrap();
        check_questions(&mut ledger.database.readers(1).acquire().await.unwrap()).await;
    }
}

const LINKS: &str = "
    insert into event (position, recorded_at, kind, contact_id, primary_id, line)
    select 2000000 + n, now(), 'ContactLinked', n, n - 1, '{}'
    from generate_series(10, 20000, 10) as n;
    analyze contact, event, observation;
";

async fn check_questions(session: &mut PgConnection) {
    let statements = [
        ("past", PAST),
        ("history", HISTORY),
        ("moment", MOMENT),
        ("of_contact", OF_CONTACT),
        ("held", HELD),
    ];
    for (name, statement) in statements {
        let prepare = AssertSqlSafe(format!("prepare {name} as {statement}"));
        sqlx::raw_sql(prepare).execute(&mut *session).await.unwrap();
    }
    for call in [
        "past(array[5000, 7], 9000, true, 100000)",
        "history(5000, 0, 1000)",
        "moment(now())",
        "of_contact(100, 9000, 5000, null, 1000)",
        "held(5000)",
    ] {
        let plan = check(session, call).await;
        // A time is found by halving: each step takes the one event at or after a position.
        let probe = if call == "moment(now())" { "\"position\" >= " } else { "\"position\" = " };
        // The other indexes begin with a number.
        let begin = |index: &str| match index {
            "event_pkey" => probe,
            "event_kind" => "kind = ",
            _ => "_id = ",
        };
        let mut conditions = Vec::new();
        collect_conditions(&plan, "event_", &mut conditions);
        let is_narrow = |(index, condition): &(String, String)| condition.contains(begin(index));
        assert!(conditions.iter().any(|(index, _)| index == "event_pkey"), "{call}: {plan:#}");
        assert!(conditions.iter().all(is_narrow), "{call}: {conditions:?}");
    }
}

/// Events of a kind that has an index are found by it, in order, and no other index is walked.
#[tokio::test]
async fn events_of_an_indexed_kind_are_found_by_its_index() {
    let ledger = TestLedger::new().await;
    let grow = GROW.replace(MANY, "generate_series(1, 20000)");
    sqlx::raw_sql(AssertSqlSafe(grow)).execute(&mut ledger.owner().await).await.unwrap();
    let mut session = ledger.database.readers(1).acquire().await.unwrap();
    let prepare = AssertSqlSafe(format!("prepare of_kind as {OF_KIND}"));
    sqlx::raw_sql(prepare).execute(&mut *session).await.unwrap();
    for kind in ["RulesActivated", "ContactErased", "LedgerRestored"] {
        let call = format!("of_kind(0, 9000, '{kind}', 1000)");
        let explain = AssertSqlSafe(format!("explain (analyze, format json) execute {call}"));
        let plan: Value = query_scalar(explain).fetch_one(&mut *session).await.unwrap();
        let mut conditions = Vec::new();
        collect_conditions(&plan, "event_pkey", &mut conditions);
        let is_probe = |(_, condition): &(String, String)| condition.contains("\"position\" = ");
        assert!(conditions.iter().all(is_probe), "{kind}: {plan:#}");
        let mut others = Vec::new();
        collect_conditions(&plan, "event_", &mut others);
        others.retain(|(index, _)| index != "event_pkey");
        let [(index, condition)] = &others[..] else { panic!("{kind}: {plan:#}") };
        assert_eq!(index, "event_kind");
        assert!(condition.contains("kind = "), "{kind}: {condition}");
    }
}

/// What `verify` looks for beyond the end must not cost a walk through everything before it.
#[tokio::test]
async fn nothing_beyond_the_end_is_looked_for_from_the_beginning() {
    let ledger = TestLedger::new().await;
    let grow = GROW.replace(MANY, "generate_series(1, 20000)")
        + "update head set position = 20001, observation_id = 20000";
    sqlx::raw_sql(AssertSqlSafe(grow)).execute(&mut ledger.owner().await).await.unwrap();
    let mut session = ledger.database.readers(1).acquire().await.unwrap();
    for (statement, call) in
        [(EVENT_BEYOND, "beyond"), (OBSERVATION_BEYOND, "beyond(20000, 20001)")]
    {
        let prepare = AssertSqlSafe(format!("prepare beyond as {statement}"));
        sqlx::raw_sql(prepare).execute(&mut *session).await.unwrap();
        let explain =
            AssertSqlSafe(format!("explain (analyze, buffers, format json) execute {call}"));
        let plan: Value = query_scalar(explain).fetch_one(&mut *session).await.unwrap();
        let node = &plan[0]["Plan"];
        let blocks = ["Shared Hit Blocks", "Shared Read Blocks"].map(|name| node[name].as_i64());
        assert!(blocks.iter().flatten().sum::<i64>() < 30, "{plan:#}");
        sqlx::raw_sql("deallocate beyond").execute(&mut *session).await.unwrap();
    }
}

/// A page wants the first rows of a range that may be most of the table. With no statistics Postgres
/// would rather find all of them first, if it were left to it.
#[tokio::test]
async fn a_table_that_is_read_in_pages_is_read_once() {
    const LEN: i64 = 100_000;
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    let grow = GROW.replace(MANY, &format!("generate_series(1, {LEN})"));
    sqlx::raw_sql(AssertSqlSafe(grow)).execute(&mut owner).await.unwrap();
    let read_len = "select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
        from pg_stat_user_tables where relid = 'observation'::regclass";
    let mut pages = Pages::<ObservationRow>::between(&ledger.database, 0, LEN);
    let mut len = 0;
    while let Some(page) = pages.next().await.unwrap() {
        len += page.len() as i64;
    }
    assert_eq!(len, LEN);
    // A session tells of some reads on the way, and of the last ones at its end, which is not waited for.
    let others = "select exists (
        select from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend'
            and pid <> pg_backend_pid()
    )";
    until_async("the session that read has ended", async || {
        !query_scalar::<_, bool>(others).fetch_one(&mut owner).await.unwrap()
    })
    .await;
    let read: i64 = query_scalar(read_len).fetch_one(&mut owner).await.unwrap();
    assert_eq!(read, LEN);
}

/// `verify` reads the contact table in pages. With these statistics Postgres would read all observations
/// for each of them, if it were left to it.
#[tokio::test]
async fn no_page_of_contacts_is_compared_by_reading_all_observations() {
    let ledger = TestLedger::new().await;
    let grown = GROW.replace("1000000", "100000") + "analyze contact, observation";
    sqlx::raw_sql(AssertSqlSafe(grown)).execute(&mut ledger.owner().await).await.unwrap();
    let mut session = ledger.database.pager().await.unwrap();
    let prepare = AssertSqlSafe(format!("prepare compare (bigint, bigint) as {COMPARE}"));
    sqlx::raw_sql(prepare).execute(&mut session).await.unwrap();
    check(&mut session, "compare(50000, 5000)").await;
}

/// Else an identity of a few thousand contacts could neither be shown nor erased in time.
#[tokio::test]
async fn no_statement_reads_more_than_once_for_each_observation_of_an_identity() {
    const LEN: i64 = 1_000;
    let ledger = TestLedger::new().await;
    let grow = format!(
        "
        insert into contact (id, linked_id, link_precedence, created_at, updated_at, email, email_key)
        select n, case when n > 1 then 1 end, '', now(), now(), n, n
        from generate_series(1, {LEN}) as n;
        insert into event (position, recorded_at, kind, contact_id, observation_id, primary_id, line)
        select n + 1, now(), 'ContactObserved', (n - 1) % {LEN} + 1, n, 1, '{{}}'
        from generate_series(1, 2 * {LEN}) as n;
        insert into observation (id, position, observed_at, email, salt)
        select n, n + 1, now(), (n - 1) % {LEN} + 1, ''
        from generate_series(1, 2 * {LEN}) as n;
        "
    );
    sqlx::raw_sql(AssertSqlSafe(grow)).execute(&mut ledger.owner().await).await.unwrap();
    let mut reader = ledger.database.readers(1).acquire().await.unwrap();
    let mut eraser = ledger.database.eraser().await.unwrap();
    for (name, statement, call) in [
        ("identity", IDENTITY, "identity(1)"),
        ("past", PAST, "past(array[1, 2], 900000, true, 100000)"),
        ("history", HISTORY, "history(1, 0, 1000)"),
        ("held", HELD, "held(1)"),
    ] {
        for session in [&mut *reader, &mut eraser] {
            let prepare = AssertSqlSafe(format!("prepare {name} as {statement}"));
            sqlx::raw_sql(prepare).execute(&mut *session).await.unwrap();
            let explain = AssertSqlSafe(format!("explain (analyze, format json) execute {call}"));
            let plan: Value = query_scalar(explain).fetch_one(session).await.unwrap();
            let mut loops = Vec::new();
            collect_loops(&plan, &mut loops);
            let most = loops.into_iter().max().unwrap();
            assert!(most <= 2 * LEN, "{name} reads {most} times: {plan:#}");
        }
    }
}

/// How often each node ran.
fn collect_loops(plan: &Value, loops: &mut Vec<i64>) {
    match plan {
        Value::Object(node) => {
            loops.extend(node.get("Actual Loops").and_then(Value::as_i64));
            node.values().for_each(|child| collect_loops(child, loops));
        }
        Value::Array(nodes) => nodes.iter().for_each(|child| collect_loops(child, loops)),
        _ => {}
    }
}

/// Of a statement that reads tables, each by its index.
async fn check(session: &mut PgConnection, call: &str) -> Value {
    let plan = check_scans(session, call).await;
    assert!(plan.to_string().contains("Index"), "the plan is one that reads the table");
    plan
}

async fn check_scans(session: &mut PgConnection, call: &str) -> Value {
    let explain = AssertSqlSafe(format!("explain (format json) execute {call}"));
    let plan: Value = query_scalar(explain).fetch_one(session).await.unwrap();
    let mut scanned = Vec::new();
    collect_scans(&plan, &mut scanned);
    scanned.retain(|table| table != "head");
    assert!(scanned.is_empty(), "{call:.40} scans {scanned:?}: {plan:#}");
    plan
}

/// The conditions of the indexes whose names begin so, each with its index.
fn collect_conditions(plan: &Value, index: &str, conditions: &mut Vec<(String, String)>) {
    match plan {
        Value::Object(node) => {
            let name = node.get("Index Name").and_then(Value::as_str);
            if let Some(name) = name.filter(|name| name.starts_with(index)) {
                let condition = node.get("Index Cond").and_then(Value::as_str).unwrap_or_default();
                conditions.push((name.to_owned(), condition.to_owned()));
            }
            node.values().for_each(|child| collect_conditions(child, index, conditions));
        }
        Value::Array(nodes) => {
            nodes.iter().for_each(|child| collect_conditions(child, index, conditions));
        }
        _ => {}
    }
}

fn collect_scans(plan: &Value, scanned: &mut Vec<String>) {
    match plan {
        Value::Object(node) => {
            if node.get("Node Type").is_some_and(|kind| kind == "Seq Scan") {
                scanned.push(node["Relation Name"].as_str().unwrap().to_owned());
            }
            node.values().for_each(|child| collect_scans(child, scanned));
        }
        Value::Array(nodes) => nodes.iter().for_each(|child| collect_scans(child, scanned)),
        _ => {}
    }
}
