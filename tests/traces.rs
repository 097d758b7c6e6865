//! No trace is left of what was erased, and no role may take away anything else.

use crate::support::{
    Seen, Service, TestLedger, command, files_dir, private_database, random_observations, refusal,
    scratch_dir, succeeds, until_async,
};
use identity_ledger::erasure::{self, Swept};
use identity_ledger::identity::{DEFAULT_RULES, ObservationId};
use identity_ledger::ledger::Database;
use identity_ledger::rebuild::rebuild;
use identity_ledger::verify::{Trust, verify};
use sqlx::{AssertSqlSafe, PgConnection, query_scalar};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

const EMAIL: &str = "canary@x.org";
const OTHER_EMAIL: &str = "kanarie@x.org";
const NUMBER: &str = "030987654321";
/// The rules of the test block them.
const BLOCKED_EMAIL: &str = "noreply@canary.org";
const BLOCKED_NUMBER: &str = "1555987654";
const CANARIES: [&str; 5] = [EMAIL, OTHER_EMAIL, NUMBER, BLOCKED_EMAIL, BLOCKED_NUMBER];

/// Every table, those of Postgres' own among them, that holds one of the values in any column.
async fn traces(superuser: &mut PgConnection) -> Vec<String> {
    let tables = "
        select format('%I.%I', n.nspname, c.relname)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'm')
        order by 1";
    let tables: Vec<String> = query_scalar(tables).fetch_all(&mut *superuser).await.unwrap();
    let mut traces = Vec::new();
    for table in tables {
        for value in CANARIES {
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            let find = format!(
                "select exists (
                    select from {table} as t
                    where position('{value}' in t::text) > 0 or position('{hex}' in t::text) > 0
                )"
            );
            let found: bool =
                query_scalar(AssertSqlSafe(find)).fetch_one(&mut *superuser).await.unwrap();
            traces.extend(found.then(|| format!("{value} in {table}")));
        }
    }
    traces
}

/// The files of the database that hold one of the values.
async fn files(superuser: &mut PgConnection) -> Vec<String> {
    sqlx::raw_sql("checkpoint").execute(&mut *superuser).await.unwrap();
    let holds = |path: &Path| {
        let content = match std::fs::read(path) {
            // Postgres has removed it meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return false,
            read => read.unwrap(),
        };
        let has = |value: &str| content.windows(value.len()).any(|bytes| bytes == value.as_bytes());
        CANARIES.into_iter().any(has)
    };
    let paths =
        std::fs::read_dir(files_dir(superuser).await).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| holds(path)).map(|path| path.display().to_string()).collect()
}

/// Sweeps until the service's sessions and Postgres' workers no longer see what was erased.
async fn sweep_all(database: &Database) {
    until_async("all is swept", async || erasure::sweep(database).await.unwrap() == Swept::All)
        .await;
}

#[tokio::test]
async fn no_trace_is_left_of_what_was_erased() {
    let ledger = TestLedger::new().await;
    // Globs, since the rules that were in force are kept.
    let rules = DEFAULT_RULES.replacen("blocked = []", "blocked = ['noreply@*']", 1);
    let rules = rules.replace("blocked = []", "blocked = ['1555*']");
    ledger.put_in_force(&rules).await.unwrap();
    let args = ["--database-url", &ledger.url, "--log-level", "trace"];
    let service = Service::start_with(&args);
    let canaries = [
        (EMAIL, NUMBER),
        (OTHER_EMAIL, NUMBER),
        (EMAIL, ""),
        ("", NUMBER),
        (EMAIL, BLOCKED_NUMBER),
        (BLOCKED_EMAIL, NUMBER),
    ];
    for (seen, n) in random_observations(6, 600, 200).iter().zip(0..) {
        service.identify(seen).await;
        if n % 100 == 60 {
            let (email, number) = canaries[n / 100];
            service.identify(&Seen::new(email, number)).await;
        }
    }
    let mut superuser = ledger.superuser().await;
    let analyze = "analyze observation; analyze contact; analyze event";
    sqlx::raw_sql(analyze).execute(&mut superuser).await.unwrap();
    let before = traces(&mut superuser).await;
    assert!(before.iter().all(|it| it.contains("ledger.contact") || it.contains("observation")));
    assert_eq!(before.len(), 2 * CANARIES.len(), "{before:?}");
    assert_eq!(service.erase(62).await.status(), 200);
    assert_eq!(traces(&mut superuser).await, [""; 0]);

    let vacuumed = "
        select bool_and(pg_stat_get_last_vacuum_time(name::regclass) is not null)
        from unnest(array['contact', 'idempotency', 'observation']) as name";
    sqlx::raw_sql("set search_path = ledger").execute(&mut superuser).await.unwrap();
    until_async("the service has vacuumed all tables", async || {
        query_scalar(vacuumed).fetch_one(&mut superuser).await.unwrap()
    })
    .await;
    // Nor is it in the files, once those are written anew: docs/personal-data.md says how.
    sweep_all(&ledger.database).await;
    rebuild(&ledger.database).await.unwrap();
    sqlx::raw_sql("vacuum full observation").execute(&mut superuser).await.unwrap();
    assert_eq!(files(&mut superuser).await, [""; 0]);

    let dir = scratch_dir();
    let export = dir.path().join("export");
    let url = ["--database-url", &ledger.url];
    succeeds(command(&["export", "--observations"]).arg(&export).args(url));
    let exported = std::fs::read_to_string(export.join("observations.ndjson")).unwrap();
    let events = std::fs::read_to_string(export.join("events.ndjson")).unwrap();
    let metrics = service.get("/metrics").await.text().await.unwrap();
    let lines = [("accept", "application/x-ndjson".to_owned())];
    let feed = service.get_with("/events", &lines).await.text().await.unwrap();
    assert!(feed.lines().last().unwrap().contains("ContactErased"), "all of it");
    assert_eq!(exported.lines().count(), 600);
    for value in CANARIES {
        for kept in [&exported, &events, &metrics, &feed, &service.log()] {
            assert!(!kept.contains(value));
        }
    }
    ledger.verify().await.unwrap();
}

/// On the private server erasing has a role of its own.
#[tokio::test]
async fn the_role_that_erases_may_do_nothing_else() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    service.identify(&Seen::new(EMAIL, NUMBER)).await;
    service.identify(&Seen::new("b@x.org", "2")).await;
    let database = private_database(&data_dir);
    let mut eraser = database.eraser().await.unwrap();
    for refused in [
        "insert into observation (id, position, observed_at, email, salt) values (9, 9, now(), 'a@x', '')",
        "update observation set email = 'other@x.org'",
        "update observation set id = id + 1, email = null, phone_number = null, salt = null",
        "update observation set observed_at = now()",
        // Half an observation is none.
        "update observation set salt = null",
        "update observation set email = null, phone_number = null",
        "delete from observation",
        "truncate observation",
        "update event set line = line",
        "delete from event",
        "truncate event",
        "update head set rules_digest = ''",
        "update head set observation_id = 7",
        "delete from head",
        "insert into contact (id, link_precedence, created_at, updated_at)
        values (9, 'primary', now(), now())",
        "delete from contact",
        "drop table contact",
        "select document from rules",
        "insert into rules (digest, name, version, document) values ('', '', 1, '')",
        "select note from checkpoint",
        "update tile set hashes = ''",
        "create table more (id bigint)",
        "alter table observation disable trigger erased_only",
    ] {
        assert_eq!(refusal(&mut eraser, refused).await, "42501", "{refused}");
    }
    assert_eq!(service.erase(1).await.status(), 200);
    assert_eq!(service.contact(2).await.emails, ["b@x.org"]);
    rebuild(&database).await.unwrap();
    let id = ObservationId::new(2);
    let reason = "customer-request".parse().unwrap();
    let erased = erasure::erase(&database, id, None, &reason, None).await.unwrap();
    assert_eq!((erased.primary_id.get(), erased.contacts_len), (2, 1));
    verify(&database, Trust::default()).await.unwrap();
    assert!(service.stop().success());
}

/// What a command that was killed has left to do, the next service does.
#[tokio::test]
async fn a_sweep_that_was_missed_is_made_up_for() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new(EMAIL, NUMBER)).await;
    assert!(service.stop().success());
    let (id, reason) = (ObservationId::new(1), "customer-request".parse().unwrap());
    erasure::erase(&ledger.database, id, None, &reason, None).await.unwrap();
    assert!(erasure::is_due(&ledger.database, Duration::ZERO).await.unwrap());
    let _service = Service::start(&ledger.url);
    until_async("it is swept", async || {
        !erasure::is_due(&ledger.database, Duration::ZERO).await.unwrap()
    })
    .await;
}

/// What an older transaction may still see is swept when that has ended, whether it reads or writes.
#[tokio::test]
async fn a_sweep_beside_an_older_transaction_is_repeated() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut older = ledger.superuser().await;
    let reads = "begin isolation level repeatable read; select 1";
    let writes = "begin; select pg_current_xact_id()";
    for (begin, id) in [(reads, 1), (writes, 2)] {
        service.identify(&Seen::new(EMAIL, NUMBER)).await;
        sqlx::raw_sql(begin).execute(&mut older).await.unwrap();
        let (id, reason) = (ObservationId::new(id), "customer-request".parse().unwrap());
        erasure::erase(&ledger.database, id, None, &reason, None).await.unwrap();
        assert_eq!(erasure::sweep(&ledger.database).await.unwrap(), Swept::TooEarly);
        assert!(erasure::is_due(&ledger.database, Duration::ZERO).await.unwrap());
        sqlx::raw_sql("commit").execute(&mut older).await.unwrap();
        sweep_all(&ledger.database).await;
        // Before Postgres 15, what is remembered of a vacuum is on its way for a while.
        until_async("it is done", async || {
            !erasure::is_due(&ledger.database, Duration::ZERO).await.unwrap()
        })
        .await;
        assert!(erasure::is_due(&ledger.database, Duration::from_hours(1)).await.unwrap());
        let contacts_len = ledger.verify().await.unwrap().contacts_len;
        assert_eq!(contacts_len, 0, "a tombstone is none");
    }
    assert!(service.stop().success());
}

/// Transactions in other databases of the server see nothing of this one.
#[tokio::test]
async fn a_sweep_does_not_wait_for_other_databases() {
    let (ledger, other_ledger) = (TestLedger::new().await, TestLedger::new().await);
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new(EMAIL, NUMBER)).await;
    let mut older = other_ledger.superuser().await;
    let writes = "begin; select pg_current_xact_id()";
    sqlx::raw_sql(writes).execute(&mut older).await.unwrap();
    assert_eq!(service.erase(1).await.status(), 200);
    sweep_all(&ledger.database).await;
    sqlx::raw_sql("commit").execute(&mut older).await.unwrap();
}

/// Postgres would warn and skip it.
#[tokio::test]
async fn a_table_that_may_not_be_vacuumed_is_not_taken_for_swept() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([(EMAIL, ""), (OTHER_EMAIL, "")]).await;
    let mut superuser = ledger.superuser().await;
    let take_away = "
        do $$ begin
            execute format('alter database %I owner to postgres', current_database());
        end $$;
        alter table observation owner to postgres;
        grant select, insert, update on observation to shop;
    ";
    sqlx::raw_sql(take_away).execute(&mut superuser).await.unwrap();
    assert_eq!(service.erase(1).await.status(), 200);
    until_async("the service says so", async || service.log().contains("may not vacuum")).await;
    let erase = ["erase", "2", "--reason", "customer-request", "--yes"];
    let erased = command(&erase).args(["--database-url", &ledger.url]).output().unwrap();
    let said = String::from_utf8(erased.stderr).unwrap();
    assert_eq!(erased.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the customer is erased, but") && said.contains("may not vacuum"),
        "{said}"
    );

    sqlx::raw_sql("alter table observation owner to shop").execute(&mut superuser).await.unwrap();
    until_async("the service vacuums it", async || {
        !erasure::is_due(&ledger.database, Duration::ZERO).await.unwrap()
    })
    .await;
}

/// As after a backup of a server before 17, or its upgrade, which list all that the owner may do.
#[tokio::test]
async fn an_owner_that_lacks_the_newer_right_to_vacuum_is_given_it() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.superuser().await;
    let server = query_scalar("select current_setting('server_version_num')::integer / 10000");
    let server: i32 = server.fetch_one(&mut superuser).await.unwrap();
    if server < 17 {
        eprintln!("this server has no such right: that it is given is not tried");
        return;
    }
    let take_away = "
        do $$ begin
            execute format('alter database %I owner to postgres', current_database());
            execute format('grant create on database %I to shop', current_database());
        end $$;
        revoke maintain on observation, contact, idempotency from shop;
    ";
    sqlx::raw_sql(take_away).execute(&mut superuser).await.unwrap();
    assert_eq!(erasure::sweep(&ledger.database).await.unwrap(), Swept::NotAllowed);
    identity_ledger::ledger::open(&ledger.database).await.unwrap();
    assert_eq!(erasure::sweep(&ledger.database).await.unwrap(), Swept::All);
}
