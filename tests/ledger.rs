//! What the ledger promises in Postgres itself.

use crate::support::{Seen, Service, TestLedger, command, private_database, refusal, scratch_dir};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use identity_ledger::identity::Event;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Row as _, query};
use std::path::{Path, PathBuf};

const REWRITES: [&str; 12] = [
    "update access set purpose = null",
    "delete from access",
    "truncate access",
    "update event set line = line",
    "delete from event",
    "truncate event",
    "update rules set name = name",
    "delete from rules",
    "truncate rules cascade",
    "update checkpoint set note = note",
    "delete from checkpoint",
    "truncate checkpoint",
];

#[tokio::test]
async fn the_role_that_serves_cannot_rewrite_the_ledger() {
    let ledger = TestLedger::new().await;
    let mut sessions = [ledger.database.recorder().await.unwrap(), ledger.owner().await];
    for session in &mut sessions {
        for rewrite in REWRITES {
            assert_eq!(refusal(session, rewrite).await, "42501", "{rewrite}");
        }
    }
}

#[tokio::test]
async fn a_superuser_does_not_rewrite_the_ledger_by_mistake() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.superuser().await;
    for rewrite in REWRITES {
        assert_eq!(refusal(&mut superuser, rewrite).await, "42501", "{rewrite}");
    }
    let more = "insert into head select * from head";
    assert_eq!(refusal(&mut superuser, more).await, "23505");
    sqlx::raw_sql("set session_replication_role = replica").execute(&mut superuser).await.unwrap();
    for rewrite in REWRITES {
        assert_eq!(refusal(&mut superuser, rewrite).await, "42501", "{rewrite}");
    }
}

/// On the private server the service has a role of its own, that owns nothing.
#[tokio::test]
async fn the_service_role_of_the_private_server_may_only_append_and_read() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    service.identify(&Seen::new("a@x.org", "1")).await;
    let mut session = private_database(&data_dir).recorder().await.unwrap();
    let refused = [
        "update observation set email = email",
        "delete from observation",
        "truncate observation",
        "insert into rules (digest, name, version, document) values ('', '', 1, '')",
        "delete from head",
        "update head set rules_digest = rules_digest",
        "update head set schema_version = schema_version",
        "delete from contact",
        "update contact set email = email",
        "update contact set deleted_at = now()",
        "update idempotency set observation_id = observation_id",
        "truncate idempotency",
        "delete from tile",
        "truncate tile",
        "drop table contact",
        "create table more (id bigint)",
        "alter table event disable trigger append_only",
    ];
    for statement in REWRITES.into_iter().chain(refused) {
        assert_eq!(refusal(&mut session, statement).await, "42501", "{statement}");
    }
    // What it does beside that: link contacts, and wait its turn where it lost a race.
    service.identify(&Seen::new("b@x.org", "2")).await;
    let linked = service.identify(&Seen::new("a@x.org", "2")).await;
    assert_eq!(linked.secondary_contact_ids, [2]);
    let lock = "begin; lock table contact in row exclusive mode;
        select position from head for update; commit";
    sqlx::raw_sql(lock).execute(&mut session).await.unwrap();
    assert!(service.stop().success());
}

/// Where statements are that the service does not send.
const OWNERS: [&str; 4] =
    ["src/rebuild/", "src/ledger/open.rs", "src/ledger/rules.rs", "src/ledger/schema.rs"];

/// Postgres checks privileges before it explains: a statement that no test sends under its own role
/// is held to be allowed, too.
#[tokio::test]
async fn the_roles_of_the_private_server_may_send_what_they_have_to() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    let database = private_database(&data_dir);
    let mut serving = database.recorder().await.unwrap();
    let mut erasing = database.eraser().await.unwrap();
    for (file, statement, parameters_len) in checked_statements() {
        let session = match file.as_str() {
            file if OWNERS.iter().any(|prefix| file.starts_with(prefix)) => continue,
            file if file.starts_with("src/erasure/") => &mut erasing,
            _ => &mut serving,
        };
        let nulls = vec!["null"; parameters_len].join(", ");
        let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let explain = format!(
            "prepare sent as {statement}\n; explain execute sent {arguments}; deallocate sent"
        );
        let explained = sqlx::raw_sql(AssertSqlSafe(explain)).execute(session).await;
        explained.unwrap_or_else(|error| panic!("{file}: {error}: {statement}"));
    }
    assert!(service.stop().success());
}

/// Those that sqlx has checked: the file that each is in, its text, and how many parameters it has.
fn checked_statements() -> Vec<(String, String, usize)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [files(&root.join("src")), files(&root.join("projections"))].concat();
    let mut found = Vec::new();
    for (_, checked) in files(&root.join(".sqlx")) {
        let checked: Value = serde_json::from_str(&checked).unwrap();
        let statement = checked["query"].as_str().unwrap();
        let parameters_len = checked["describe"]["parameters"]["Left"].as_array().unwrap().len();
        let in_files = sources.iter().filter(|(_, text)| text.contains(statement));
        let found_before = found.len();
        found.extend(in_files.map(|(path, _)| {
            let file = path.strip_prefix(root).unwrap().display().to_string();
            (file, statement.to_owned(), parameters_len)
        }));
        assert!(found.len() > found_before, "it is in no file: {statement}");
    }
    found
}

/// All files below a directory, with what is in them.
fn files(dir: &Path) -> Vec<(PathBuf, String)> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.clone(), std::fs::read_to_string(path).unwrap())],
    };
    paths.flat_map(read).collect()
}

#[tokio::test]
async fn events_are_canonical_lines_without_gaps_and_without_personal_data() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "2"), ("A@x.org", "2"), ("c@x.org", "1")]).await;
    let mut owner = ledger.owner().await;
    let rows = query(
        "select position, kind, contact_id, observation_id, primary_id, line
        from event
        order by position",
    );
    let rows = rows.fetch_all(&mut owner).await.unwrap();
    let kinds: Vec<String> = rows.iter().map(|row| row.get("kind")).collect();
    assert_eq!(
        kinds,
        [
            "RulesActivated",
            "ContactObserved",
            "ContactObserved",
            "ContactObserved",
            "PrimaryDemoted",
            "ContactObserved",
            "ContactLinked"
        ]
    );
    for (n, row) in rows.iter().enumerate() {
        let line: String = row.get("line");
        let event = Event::parse(&line).unwrap();
        assert_eq!(event.line(), line);
        assert_eq!(event.position.get(), n as i64 + 1);
        assert_eq!(row.get::<i64, _>("position"), n as i64 + 1);
        assert_eq!(
            row.get::<Option<i64>, _>("contact_id"),
            event.fact.contact_id().map(|id| id.get())
        );
        assert_eq!(
            row.get::<Option<i64>, _>("primary_id"),
            event.fact.primary_id().map(|id| id.get())
        );
        let observation_id = event.fact.observation_id().map(|id| id.get());
        assert_eq!(row.get::<Option<i64>, _>("observation_id"), observation_id);
        assert!(!line.contains("@x.org"));
    }
}

/// Recomputed from the words of the documentation, with none of the project's code.
#[tokio::test]
async fn an_event_commits_to_its_observation() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("Ä@x.org", " 1 "), ("", "2"), ("b@x.org", "")]).await;
    let mut owner = ledger.owner().await;
    let rows = query(
        "select o.email, o.phone_number, o.salt, e.line
        from observation as o
        join event as e on e.position = o.position
        order by o.id",
    );
    let rows = rows.fetch_all(&mut owner).await.unwrap();
    assert_eq!(rows.len(), 3);
    let mut salts = Vec::new();
    for row in rows {
        let salt: Vec<u8> = row.get("salt");
        assert_eq!(salt.len(), 16);
        let mut hash = Sha256::new_with_prefix(&salt);
        for column in ["email", "phone_number"] {
            match row.get::<Option<String>, _>(column) {
                None => hash.update([0]),
                Some(value) => {
                    hash.update([1]);
                    hash.update((value.len() as u32).to_be_bytes());
                    hash.update(value);
                }
            }
        }
        let line: Value = serde_json::from_str(row.get("line")).unwrap();
        assert_eq!(line["data"]["commitment"], BASE64_STANDARD.encode(hash.finalize()));
        assert!(!salts.contains(&salt), "a salt is never used twice");
        salts.push(salt);
    }
}

#[tokio::test]
async fn two_ledgers_in_one_database_know_nothing_of_each_other() {
    let ledger = TestLedger::new().await;
    let one = Service::start_with(&["--database-url", &ledger.url, "--ledger", "one"]);
    let two = Service::start_with(&["--database-url", &ledger.url, "--ledger", "two"]);
    assert_eq!(one.identify(&Seen::new("a@x.org", "1")).await.primary_contact_id, 1);
    assert_eq!(one.identify(&Seen::new("b@x.org", "2")).await.primary_contact_id, 2);
    let other = two.identify(&Seen::new("b@x.org", "1")).await;
    assert_eq!((other.primary_contact_id, other.emails.len()), (1, 1));
    for name in ["one", "two"] {
        let verified =
            command(&["verify", "--database-url", &ledger.url, "--ledger", name]).status();
        assert!(verified.unwrap().success());
    }
}
