//! The command line: what configures it, and what it refuses in one line that says what to do.

use crate::support::{
    EXACT_FILE, SERVE, Seen, Service, SigningKey, TestLedger, VARIABLES, command, ended, misuse,
    refuses, scratch_dir, succeeds, told, until, until_async,
};
use identity_ledger::identity::DEFAULT_RULES;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{AssertSqlSafe, query, query_scalar};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use tokio::signal::unix::{SignalKind, signal};

/// A port that another process listens on.
fn port_in_use() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_made() {
    let dir = scratch_dir();
    let (_listener, address) = port_in_use();
    let serve = ["serve", "--listen", &address, "--data-dir", "data"];
    let said = refuses(command(&serve).current_dir(&dir));
    assert!(said.contains(&address) && said.contains("choose another with --listen"), "{said}");
    assert!(!dir.path().join("data").exists());
}

#[tokio::test]
async fn an_address_that_others_reach_needs_no_auth() {
    let ledger = TestLedger::new().await;
    let url = ["--database-url", &ledger.url];
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:127.0.0.1]:0"] {
        let said = refuses(command(&["serve", "--listen", open]).args(url));
        assert!(said.contains("--no-auth"), "{said}");
    }
    Service::spawn(command(&["serve", "--listen", "0.0.0.0:0", "--no-auth"]).args(url));
    Service::spawn(command(&["serve", "--listen", "127.0.0.2:0"]).args(url));
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("this machine has no IPv6: its addresses are not tried");
        return;
    }
    let service = Service::spawn(command(&["serve", "--listen", "[::1]:0"]).args(url));
    assert_eq!(service.try_identify(&Seen::new("a@x.org", "")).await.unwrap().status(), 200);
    Service::spawn(command(&["serve", "--listen", "[::]:0", "--no-auth"]).args(url));
}

#[tokio::test]
async fn a_wrong_database_url_is_refused_and_not_repeated() {
    let ledger = TestLedger::new().await;
    let (server, _) = ledger.url.rsplit_once('/').unwrap();
    let server = server.replace("//shop@", "//shop:hidden@");
    let cases = [
        ("hidden".to_owned(), "is not a Postgres URL"),
        ("localhost:5432/hidden".to_owned(), "is not a Postgres URL"),
        ("mysql://shop:hidden@127.0.0.1/shop".to_owned(), "is not a Postgres URL"),
        ("postgres://shop:hidden@127.0.0.1:port/shop".to_owned(), "is not a Postgres URL"),
        (
            "postgres://shop:hidden@127.0.0.1/shop?sslmode=hidden".to_owned(),
            "an option sslmode with",
        ),
        // No one listens there.
        ("postgres://shop:hidden@127.0.0.1:1/shop".to_owned(), "check DATABASE_URL"),
        (format!("{server}/nowhere"), "database \"nowhere\" does not exist; check DATABASE_URL"),
        (
            format!("{}/nowhere", server.replace("shop:", "stranger:")),
            "role \"stranger\" does not exist; check DATABASE_URL",
        ),
    ];
    for (url, expected) in cases {
        for verb in ["serve", "rebuild", "verify"] {
            let mut command = command(&[verb, "--log-level", "trace"]);
            let said = refuses(command.env("DATABASE_URL", &url).env("PORT", "0"));
            assert!(said.contains(expected) && !said.contains("hidden"), "{said}");
        }
    }
}

#[tokio::test]
async fn what_is_unknown_in_a_database_url_is_not_repeated() {
    let ledger = TestLedger::new().await;
    let url = format!("{}?passwd=hidden", ledger.url);
    let verify = ["verify", "--log-level", "trace", "--database-url", &url];
    let said = refuses(&mut command(&verify));
    assert!(said.contains("has an option that is not known") && !said.contains("hidden"), "{said}");
}

/// Says that it is another version, and answers any statement with that.
fn server_of_version(version: &'static str, listener: TcpListener) -> String {
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        let startup = client.read(&mut buffer).unwrap();
        assert!(startup > 8, "the startup message");
        client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
        while client.read(&mut buffer).unwrap() > 0 {
            let len = u8::try_from(version.len()).unwrap();
            let mut answer =
                b"T\0\0\0\x1a\0\x01v\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0".to_vec();
            answer.extend([b'D', 0, 0, 0, 10 + len, 0, 1, 0, 0, 0, len]);
            answer.extend(version.as_bytes());
            answer.extend(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
            client.write_all(&answer).unwrap();
        }
    });
    format!("postgres://shop@{address}/shop?sslmode=disable")
}

#[test]
fn a_postgres_too_old_is_refused() {
    // A machine may have no IPv6.
    for listener in ["127.0.0.1:0", "[::1]:0"].map(TcpListener::bind).into_iter().flatten() {
        let url = server_of_version("130012", listener);
        let said = refuses(&mut command(&["verify", "--database-url", &url]));
        assert_eq!(said, "error: Postgres 13 is too old; identity-ledger needs 14 or newer\n");
    }
}

/// Each character that it lacks would be a request that fails.
#[tokio::test]
async fn a_database_that_is_not_utf_8_is_refused() {
    let ledger = TestLedger::new().await;
    let (server, name) = ledger.url.rsplit_once('/').unwrap();
    let create =
        format!("create database {name}_latin encoding 'LATIN1' locale 'C' template template0;");
    let mut superuser = ledger.superuser().await;
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut superuser).await.unwrap();
    let url = format!("{server}/{name}_latin");
    let said = refuses(command(SERVE).args(["--database-url", &url]));
    assert!(said.contains("LATIN1") && said.contains("encoding 'UTF8'"), "{said}");
    let drop = format!("drop database {name}_latin");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut superuser).await.unwrap();
}

/// As `head` does, it has read enough: the work has been done all the same.
#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("a@x.org", "2")]).await;
    let (verify, list) = (["verify", "--json"], ["rules", "list"]);
    let (history, why) = (["history", "1"], ["why", "1", "2"]);
    for args in [&["verify"][..], &verify, &list, &["rebuild"], &history, &why] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(args);
        let output = command.args(["--database-url", &ledger.url]).stdout(writer).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{args:?}: {said}");
    }
}

/// What is wrong is stdout, not the ledger.
#[tokio::test]
async fn a_stdout_that_takes_nothing_is_named() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x.org", "")).await;
    assert!(service.stop().success());
    let (history, why) = (["history", "1"], ["why", "1", "1"]);
    for args in [&["verify"][..], &["rebuild"], &["rules", "show"], &history, &why] {
        let mut command = command(args);
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = command.args(["--database-url", &ledger.url]).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("error: cannot write to stdout: No space left"), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn tables_of_others_are_left_alone() {
    let ledger = TestLedger::new().await;
    let foreign = "
        create schema crm; create table crm.contact (name text);
        create schema log; create table log.event (id bigint);
        create schema app; create table app._sqlx_migrations (like ledger._sqlx_migrations including defaults);
        insert into app._sqlx_migrations (version, description, success, checksum, execution_time)
        values (20200101000000, 'of another program', true, '', 0);
    ";
    sqlx::raw_sql(foreign).execute(&mut ledger.owner().await).await.unwrap();
    for name in ["crm", "log", "app"] {
        let there = ["--database-url", &ledger.url, "--ledger", name];
        for args in [SERVE, &["rebuild"], &["verify"]] {
            let said = refuses(command(args).args(there));
            let expected = format!(
                "error: the schema {name} has tables that are no ledger's; choose another name with \
                 --ledger\n"
            );
            assert_eq!(said, expected);
        }
    }
    let tables =
        "select count(*) from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('crm', 'log', 'app') and c.relkind = 'r'";
    let mut owner = ledger.owner().await;
    assert_eq!(query_scalar::<_, i64>(tables).fetch_one(&mut owner).await.unwrap(), 3);

    // In a ledger's own schema, too.
    let other = "drop table contact; create table contact (name text)";
    sqlx::raw_sql(other).execute(&mut owner).await.unwrap();
    for args in [SERVE, &["rebuild"], &["verify"]] {
        let said = refuses(command(args).args(["--database-url", &ledger.url]));
        assert!(said.contains("was not made by identity-ledger"), "{said}");
    }
    sqlx::raw_sql("select name from contact; drop table contact")
        .execute(&mut owner)
        .await
        .unwrap();
    succeeds(command(&["rebuild"]).args(["--database-url", &ledger.url]));
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_refused() {
    let (ledger, empty) = (TestLedger::new().await, TestLedger::empty_database().await);
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x.org", "")).await;
    assert!(service.stop().success());
    for ledger in [&ledger, &empty] {
        let (_, name) = ledger.url.rsplit_once('/').unwrap();
        let read_only = format!("alter database {name} set default_transaction_read_only = on");
        let mut superuser = ledger.superuser().await;
        sqlx::raw_sql(AssertSqlSafe(read_only)).execute(&mut superuser).await.unwrap();
    }
    let dir = scratch_dir();
    let backup = dir.path().join("backup");
    let url = ["--database-url", &ledger.url];
    succeeds(command(&["verify"]).args(url));
    succeeds(command(&["backup"]).arg(&backup).args(url));
    for (args, ledger) in [
        (SERVE, &ledger),
        (&["rebuild"], &ledger),
        (&["rules", "activate", EXACT_FILE, "--reason", "r", "--yes"], &ledger),
        (&["erase", "1", "--reason", "customer-request", "--yes"], &ledger),
        (&["restore", backup.to_str().unwrap()], &empty),
    ] {
        let output = command(args).args(["--database-url", &ledger.url]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("error: Postgres takes no writes here") && said.lines().count() == 1
        );
    }
}

#[tokio::test]
async fn a_role_that_may_not_use_the_schema_is_told_so() {
    let ledger = TestLedger::new().await;
    let (_, name) = ledger.url.rsplit_once('/').unwrap();
    let stranger = format!("stranger_{name}");
    let create = AssertSqlSafe(format!("create role {stranger} login"));
    sqlx::raw_sql(create).execute(&mut ledger.superuser().await).await.unwrap();
    let url = ledger.url.replace("//shop@", &format!("//{stranger}@"));
    for args in [SERVE, &["rebuild"], &["verify"]] {
        let said = refuses(command(args).args(["--database-url", &url]));
        let expected = format!(
            "error: the role {stranger} may not use the schema ledger; log in as its owner, shop\n"
        );
        assert_eq!(said, expected);
    }
}

/// Of two functions of one name, Postgres calls the one whose types fit better, wherever it is.
#[tokio::test]
async fn a_schema_in_which_others_may_create_functions_is_refused() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    query("grant create on schema ledger to public").execute(&mut owner).await.unwrap();
    for args in [SERVE, &["rebuild"], &["verify"]] {
        let said = refuses(command(args).args(["--database-url", &ledger.url]));
        assert!(said.contains("revoke create on schema \"ledger\" from public"), "{said}");
    }
    query("revoke create on schema ledger from public").execute(&mut owner).await.unwrap();
    succeeds(command(&["verify"]).args(["--database-url", &ledger.url]));
}

#[tokio::test]
async fn a_role_that_may_not_record_is_told_which_rights_it_lacks() {
    let ledger = TestLedger::new().await;
    assert!(Service::start(&ledger.url).stop().success());
    let (_, name) = ledger.url.rsplit_once('/').unwrap();
    let reader = format!("reader_{name}");
    let create = format!("create role {reader} login");
    let grant = format!(
        "grant usage on schema ledger to {reader};
        grant select on all tables in schema ledger to {reader};
        grant insert on event, contact to {reader};
        grant update (position, observation_id, recorded_at) on head to {reader};"
    );
    for sql in [create, grant] {
        let mut superuser = ledger.superuser().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut superuser).await.unwrap();
    }
    let url = ledger.url.replace("//shop@", &format!("//{reader}@"));
    let said = refuses(command(SERVE).args(["--database-url", &url]));
    let expected = format!(
        "error: the role {reader} may not record in the ledger, for it lacks insert on observation, update \
         on contact, insert on idempotency, update on idempotency, delete on idempotency; log in as its \
         owner, shop, or grant that\n"
    );
    assert_eq!(said, expected);
    succeeds(&mut command(&["verify", "--database-url", &url]));
}

/// As when the terminal is closed: a private Postgres must not be left behind.
#[tokio::test]
async fn sighup_ends_a_command_as_ctrl_c_does() {
    // Under `nohup` a process that is started here would ignore it: what is caught is not inherited.
    let _caught = signal(SignalKind::hangup()).unwrap();
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    sqlx::raw_sql("begin; lock table head").execute(&mut owner).await.unwrap();
    let mut verify = command(&["verify", "--database-url", &ledger.url]);
    let child = verify.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waits = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let mut superuser = ledger.superuser().await;
    until_async("it waits", async || {
        query_scalar::<_, i64>(waits).fetch_one(&mut superuser).await.unwrap() > 0
    })
    .await;
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let output = ended(child);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said, "error: interrupted by SIGHUP; run it again\n");
}

/// Reading a long file is no reason to be deaf: this one never ends.
#[test]
fn a_signal_ends_the_reading_of_an_export() {
    let (dir, key) = (scratch_dir(), SigningKey::new());
    let (events, key_file) = (dir.path().join("events.ndjson"), dir.path().join("key"));
    std::fs::write(&key_file, &key.verifier_key).unwrap();
    succeeds(Command::new("mkfifo").arg(&events));
    let mut verify = command(&["verify", "--export"]);
    verify.arg(dir.path()).arg("--key").arg(key_file);
    let child = verify.stderr(Stdio::piped()).spawn().unwrap();
    let mut writer = File::options();
    // Opens once it is read, and else would wait for that without an end.
    let writer = writer.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let mut opened = None;
    until("it is read", || {
        opened = writer.open(&events).ok();
        opened.is_some()
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = ended(child);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "error: interrupted by SIGTERM; run it again\n");
}

#[tokio::test]
async fn a_database_newer_than_the_binary_is_refused() {
    let ledger = TestLedger::new().await;
    query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (99991231235959, 'of a later year', true, '', 0)",
    )
    .execute(&mut ledger.owner().await)
    .await
    .unwrap();
    for verb in ["serve", "rebuild", "verify"] {
        let mut command = command(&[verb, "--database-url", &ledger.url]);
        let said = refuses(command.env("PORT", "0"));
        assert!(said.contains("newer than this binary") && said.contains("use the"), "{said}");
    }
}

/// Every command that works on a ledger that `serve` has made.
const NEED_ONE: [&[&str]; 10] = [
    &["history", "1"],
    &["why", "1", "2"],
    &["erase", "1", "--reason", "customer-request"],
    &["verify"],
    &["export", "to"],
    &["backup", "to"],
    &["rules", "show"],
    &["rules", "list"],
    &["rules", "diff", EXACT_FILE],
    &["rules", "activate", EXACT_FILE, "--reason", "x"],
];
const ACCEPT: &[&str] = &["restore", "--accept-loss", "--reason", "x", "--no-erasures"];

#[tokio::test]
async fn commands_that_need_a_ledger_create_none() {
    let ledger = TestLedger::new().await;
    let dir = scratch_dir();
    for args in NEED_ONE.into_iter().chain([ACCEPT, &["rebuild"]]) {
        let mut there = command(args);
        there.args(["--database-url", &ledger.url, "--ledger", "shop"]).current_dir(&dir);
        let said = refuses(&mut there);
        let expected = "error: there is no ledger named shop in this database; serve creates one, \
            and restore brings one back\n";
        assert_eq!(said, expected);
        let said = refuses(command(args).current_dir(&dir));
        let looked = dir.path().join(".identity-ledger");
        let expected = format!("no ledger named ledger in {}; serve creates one", looked.display());
        assert!(said.contains(&expected), "{said}");
    }
    let made = "select exists (select from pg_namespace where nspname = 'shop')";
    assert!(!query_scalar::<_, bool>(made).fetch_one(&mut ledger.owner().await).await.unwrap());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    let said = refuses(&mut command(&["verify", "--data-dir", EXACT_FILE]));
    assert!(said.contains("cannot look into the data directory"), "{said}");
    // The private server is there, and another ledger on it.
    let mut serve = command(SERVE);
    assert!(Service::spawn(serve.current_dir(&dir)).stop().success());
    let mut there = command(&["verify", "--ledger", "shop"]);
    assert!(refuses(there.current_dir(&dir)).contains("no ledger named shop in this database"));
    succeeds(command(&["verify"]).current_dir(&dir));
}

#[tokio::test]
async fn commands_that_need_a_ledger_migrate_none() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.owner().await;
    let last = "delete from _sqlx_migrations
        where version = (select max(version) from _sqlx_migrations)";
    query(last).execute(&mut owner).await.unwrap();
    let len = "select count(*) from _sqlx_migrations";
    let before: i64 = query_scalar(len).fetch_one(&mut owner).await.unwrap();
    for args in NEED_ONE {
        let said = refuses(command(args).args(["--database-url", &ledger.url]));
        assert!(said.contains("older than this binary") && said.contains("migrate it"), "{said}");
    }
    let after: i64 = query_scalar(len).fetch_one(&mut owner).await.unwrap();
    assert_eq!(after, before);
}

#[test]
fn bad_values_are_refused_by_name() {
    let dir = scratch_dir();
    let too_long = "a".repeat(42);
    for name in ["pg_x", "A", "2", "a-b", &too_long] {
        let said = misuse(command(&["verify", "--ledger", name]).current_dir(&dir));
        assert!(said.contains("--ledger"), "{said}");
        let said = misuse(command(&["verify"]).env("LEDGER", name).current_dir(&dir));
        assert!(said.contains("--ledger"), "{said}");
    }
    for address in ["localhost", ":10000", "127.0.0.1", "127.0.0.1:65536"] {
        let said = misuse(command(&["serve"]).env("LISTEN", address).current_dir(&dir));
        assert!(said.contains("expected an address such as 127.0.0.1:10000"), "{said}");
    }
    for port in ["-1", "65536", "http"] {
        let said = refuses(command(&["serve"]).env("PORT", port).current_dir(&dir));
        assert_eq!(said, "error: PORT is not a number from 0 to 65535\n");
    }
    for flag in ["--log-level", "--log-format", "--database-url", "--data-dir"] {
        let said = misuse(command(&["verify", flag, ""]).current_dir(&dir));
        assert!(said.contains(flag), "{said}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn what_is_no_number_of_an_observation_is_refused() {
    for number in ["0", "x", "1.5", "9223372036854775808"] {
        let said = misuse(&mut command(&["history", number]));
        assert!(said.contains("expected the number of an observation, such as 1"), "{said}");
    }
}

#[test]
fn a_glob_that_blocks_nothing_is_named() {
    let dir = scratch_dir();
    let file = dir.path().join("rules.toml");
    std::fs::write(
        &file,
        DEFAULT_RULES.replacen("blocked = []", "blocked = ['no?reply', 'a[b]']", 1),
    )
    .unwrap();
    let output = command(&["rules", "check"]).arg(&file).output().unwrap();
    assert!(output.status.success());
    let said = told(&output);
    assert!(said.contains("the glob \"a[b]\" in blocked matches no normal form"), "{said}");
    assert_eq!(said.lines().count(), 1);
}

#[test]
fn no_usage_shows_options_that_come_from_variables() {
    let mut erase = command(&["erase"]);
    let said = misuse(erase.env("DATABASE_URL", "postgres://x").env("CHECKPOINT_DIR", "x"));
    assert!(said.contains("identity-ledger erase [OPTIONS] --reason <CODE> <ID>\n"), "{said}");
    let said = misuse(command(&["serve"]).env("TLS_CERT", "x"));
    assert!(said.contains("--tls-key <FILE>"), "{said}");
    assert!(said.contains("identity-ledger serve [OPTIONS]\n"), "{said}");
}

#[tokio::test]
async fn a_ledger_may_have_any_name_that_is_allowed() {
    let ledger = TestLedger::new().await;
    let longest = format!("a{}", "_".repeat(40));
    for name in ["user", "default", "order", &longest] {
        let args = ["--database-url", &ledger.url, "--ledger", name];
        let service = Service::start_with(&args);
        assert_eq!(service.try_identify(&Seen::new("a@x.org", "")).await.unwrap().status(), 200);
        assert!(service.stop().success());
        succeeds(command(&["rebuild"]).args(args));
        let said = succeeds(command(&["verify"]).args(args));
        assert!(said.starts_with("verified: 1 contact "), "{name} knows of others: {said}");
    }
}

#[tokio::test]
async fn flags_win_over_variables_and_listen_over_port() {
    let ledger = TestLedger::new().await;
    let (_listener, taken) = port_in_use();
    let (_, taken_port) = taken.rsplit_once(':').unwrap();
    let serve = || {
        let mut serve = command(&["serve"]);
        serve.env("DATABASE_URL", &ledger.url);
        serve
    };
    let said = refuses(serve().env("PORT", taken_port));
    assert!(said.contains(&format!("cannot listen on {taken}")), "PORT changes the port: {said}");
    Service::spawn(serve().env("LISTEN", "127.0.0.1:0").env("PORT", taken_port));
    Service::spawn(serve().env("LISTEN", &taken).args(["--listen", "127.0.0.1:0"]));

    Service::start_with(&["--database-url", &ledger.url, "--ledger", "shop"]);
    let flags = ["--database-url", &ledger.url, "--ledger", "shop", "--log-format", "text"];
    let (before, after) =
        ([&flags[..], &["rebuild"]].concat(), [&["rebuild"], &flags[..]].concat());
    for args in [before, after] {
        let mut rebuild = command(&args);
        rebuild.env("DATABASE_URL", "postgres://shop@127.0.0.1:1/shop");
        rebuild.env("LEDGER", "other").env("LOG_FORMAT", "json");
        succeeds(&mut rebuild);
    }
    let made = query_scalar("select nspname::text from pg_namespace where nspname in ($1, $2)");
    let made: Vec<String> =
        made.bind("shop").bind("other").fetch_all(&mut ledger.owner().await).await.unwrap();
    assert_eq!(made, ["shop"]);
}

#[test]
fn empty_variables_count_as_not_set() {
    let dir = scratch_dir();
    let empty = |args| {
        let mut command = command(args);
        for name in VARIABLES {
            command.env(name, "");
        }
        command.current_dir(&dir);
        command
    };
    succeeds(&mut empty(&["token", "new", "shop", "--role", "caller"]));
    let said = refuses(&mut empty(&["rebuild"]));
    assert!(said.contains("/.identity-ledger; serve creates one"), "{said}");
    // Where this fails, another process listens there, and that will do.
    let _listener = TcpListener::bind("127.0.0.1:10000");
    let said = refuses(&mut empty(&["serve"]));
    assert!(said.contains("cannot listen on 127.0.0.1:10000"), "{said}");
}

#[test]
fn help_lists_every_option_with_its_variable_and_default() {
    let for_all = [
        "--database-url <URL>",
        "[env: DATABASE_URL]",
        "--data-dir <DIR>",
        "[default: .identity-ledger]",
        "[env: DATA_DIR=]",
        "--ledger <NAME>",
        "[env: LEDGER=]",
        "[default: ledger]",
        "[env: LOG_LEVEL=] [default: info]",
        "[env: LOG_FORMAT=] [default: text]",
    ];
    let for_serve = [
        "[default: 127.0.0.1:10000] [env: LISTEN=]",
        "PORT",
        "--no-auth",
        "--tokens <FILE>",
        "[env: TOKENS]",
        "--tls-cert <FILE>",
        "[env: TLS_CERT=]",
        "--tls-key <FILE>",
        "[env: TLS_KEY=]",
    ];
    for verb in ["", "serve", "rebuild", "verify", "export"] {
        let help =
            succeeds(command(&[]).args(Some(verb).filter(|it| !it.is_empty())).arg("--help"));
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = for_all.iter().chain(for_serve.iter().filter(|_| verb == "serve"));
        for words in expected {
            assert!(help.contains(words), "{verb} --help lacks {words}: {help}");
        }
    }
}

#[test]
fn without_a_command_there_is_help() {
    for data_dir in ["", "somewhere"] {
        let said = misuse(command(&[]).env("DATA_DIR", data_dir));
        assert!(said.contains("Usage: identity-ledger [OPTIONS] <COMMAND>"), "{said}");
        assert!(said.contains("Serve the HTTP API"), "{said}");
    }
}

#[test]
fn the_version_is_the_packages() {
    let expected = format!("identity-ledger {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(succeeds(&mut command(&["--version"])), expected);
}

#[tokio::test]
async fn a_json_log_is_json_to_the_last_line() {
    let ledger = TestLedger::new().await;
    let json = ["--database-url", &ledger.url, "--log-format", "json", "--log-level", "trace"];
    let service = Service::start_with(&json);
    service.try_identify(&Seen::new("a@x.org", "")).await.unwrap();
    service.signal(rustix::process::Signal::TERM);
    crate::support::until("the service stops", || service.log().contains("\"stopped\""));
    let (_listener, taken) = port_in_use();
    let refusal = command(&["serve", "--listen", &taken]).args(json).output().unwrap();
    assert_eq!(refusal.status.code(), Some(1));
    let refusal = String::from_utf8(refusal.stderr).unwrap();
    assert!(refusal.contains("choose another with --listen"), "{refusal}");
    for line in service.log().lines().chain(refusal.lines()) {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["level"].is_string() && entry["message"].is_string(), "{line}");
    }
}

/// Postgres may quote what it stumbled over.
#[tokio::test]
async fn of_a_failed_statement_no_command_repeats_what_postgres_says() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("canary@x.org", "")).await;
    assert!(service.stop().success());
    let quoting = r#"
        create function quoted(value text) returns text language plpgsql as $$
            begin raise exception 'not a value: %', value; end
        $$;
        alter table observation rename to seen;
        create view observation as
        select id, position, observed_at, quoted(email) as email, phone_number, salt from seen;
    "#;
    sqlx::raw_sql(quoting).execute(&mut ledger.owner().await).await.unwrap();
    let dir = scratch_dir();
    let export = dir.path().join("export");
    let (file, export) = (EXACT_FILE, export.to_str().unwrap());
    for args in [
        &["rebuild"][..],
        &["rules", "diff", file],
        &["rules", "activate", file, "--yes", "--reason", "r"],
        &["verify"],
        &["verify", "--json"],
        &["export", export, "--observations"],
    ] {
        for format in ["text", "json"] {
            let mut command = command(args);
            command.args(["--database-url", &ledger.url, "--log-format", format]);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{args:?}");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(said.contains("SQLSTATE P0001"), "{args:?}: {said}");
            assert!(!said.contains("canary") && !said.contains("not a value"), "{args:?}: {said}");
        }
    }
}
