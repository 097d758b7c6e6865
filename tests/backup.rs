//! A backup is the ledger as it was at one position, and restoring it gives that back.

use crate::support::{
    SERVE, Seen, Service, TestLedger, command, ended, is_waited_for, random_observations, refusal,
    refuses, scratch_dir, succeeds, until, until_async,
};
use futures_util::future::join_all;
use identity_ledger::ledger::{release_all, try_lock_rebuild};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{PgConnection, query, query_scalar};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

fn backup(ledger: &TestLedger, dir: &Path) -> Command {
    let mut backup = command(&["backup", "--database-url", &ledger.url]);
    backup.arg(dir);
    backup
}

fn restore(ledger: &TestLedger, dir: &Path) -> Command {
    let mut restore = command(&["restore", "--database-url", &ledger.url]);
    restore.arg(dir);
    restore
}

fn verify(ledger: &TestLedger) -> String {
    succeeds(&mut command(&["verify", "--database-url", &ledger.url]))
}

/// The last line that was printed ends with the directory, and has the position before it.
#[track_caller]
fn position_of(said: &str) -> i64 {
    let rest = said.strip_prefix("the ledger up to position ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_backup_under_load_is_the_ledger_at_one_position() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let backups: Vec<PathBuf> = (0..3).map(|n| dir.path().join(format!("backup{n}"))).collect();
    let service = Service::start(&ledger.url);
    let all = random_observations(3, 10_000, 3_000);
    let is_over = AtomicBool::new(false);
    let load = join_all(all.chunks(500).map(async |mine| {
        service.observe(mine.iter().cycle().take_while(|_| !is_over.load(Ordering::SeqCst))).await;
    }));
    let back_up = async {
        let mut positions = Vec::new();
        for dir in &backups {
            let mut backup = backup(&ledger, dir);
            let before = ledger.position().await;
            let said = tokio::task::spawn_blocking(move || succeeds(&mut backup)).await.unwrap();
            let position = position_of(&said);
            assert!((before..=ledger.position().await).contains(&position), "{said}");
            positions.push(position);
            until_async("it goes on", async || ledger.position().await > position).await;
        }
        is_over.store(true, Ordering::SeqCst);
        positions
    };
    let (_, positions) = tokio::join!(load, back_up);
    assert!(positions[0] < positions[1] && positions[1] < positions[2], "{positions:?}");
    assert!(service.stop().success());

    for (dir, position) in backups.iter().zip(positions) {
        let mode = fs::metadata(dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "no one else may read it");
        let said = succeeds(&mut restore(&other, dir));
        assert!(said.contains(&format!("up to position {position},")), "{said}");
        let said = verify(&other);
        assert!(said.contains(&format!("{position} events")), "{said}");
        other.drop_ledger().await;
    }
}

/// pg_dump would look for the table of its snapshot under the name that the new one has by then.
#[tokio::test]
async fn a_swap_waits_for_a_backup_that_has_its_snapshot_and_no_tables_yet() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let one = dir.path().join("one");
    let service = Service::start(&ledger.url);
    service.observe(&random_observations(6, 100, 30)).await;
    // The backup asks for this table after its snapshot, and a rebuild never.
    let mut holder = ledger.superuser().await;
    let hold = "begin; lock table access in access exclusive mode";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let backup = backup(&ledger, &one).stdout(Stdio::null()).spawn().unwrap();
    ledger.until_waited_for("access").await;
    let mut rebuild = command(&["rebuild", "--database-url", &ledger.url]);
    let mut rebuild = rebuild.stdout(Stdio::null()).spawn().unwrap();
    let mut owner = ledger.owner().await;
    until_async("the swap is tried", async || {
        rebuild.try_wait().unwrap().is_some() || is_waited_for(&mut owner, "contact").await
    })
    .await;
    sqlx::raw_sql("commit").execute(&mut holder).await.unwrap();
    for child in [backup, rebuild] {
        let output = tokio::task::spawn_blocking(|| ended(child)).await.unwrap();
        assert!(output.status.success());
    }
    succeeds(&mut restore(&other, &one));
    verify(&other);
    assert!(service.stop().success());
}

/// What was restored goes on, and is as well protected as it was.
#[tokio::test]
async fn a_restored_ledger_goes_on_and_cannot_be_rewritten() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let service = Service::start(&ledger.url);
    service.observe(&random_observations(4, 60, 20)).await;
    let before = service.contacts(60).await;
    assert!(service.stop().success());
    // What a rebuild left that was broken off, on a server that grants what its administrator wants.
    let left = "create table contact_next as select * from contact;
        grant select on contact_next to current_user";
    sqlx::raw_sql(left).execute(&mut ledger.owner().await).await.unwrap();
    succeeds(&mut backup(&ledger, &dir.path().join("one")));
    succeeds(&mut restore(&other, &dir.path().join("one")));

    let service = Service::start(&other.url);
    assert_eq!(service.contacts(60).await, before);
    service.identify(&Seen::new("one.more@x.org", "")).await;
    assert!(service.stop().success());
    verify(&other);
    let mut sessions = [other.owner().await, other.superuser().await];
    for session in &mut sessions {
        for table in ["event", "rules", "checkpoint"] {
            for rewrite in ["delete from", "truncate"] {
                let rewrite = format!("{rewrite} {table}");
                assert_eq!(refusal(session, &rewrite).await, "42501", "{rewrite}");
            }
        }
    }
    let is_revoked = "select not has_table_privilege('event', 'delete')";
    assert!(query_scalar::<_, bool>(is_revoked).fetch_one(&mut sessions[0]).await.unwrap());
}

#[tokio::test]
async fn what_is_there_is_never_written_over() {
    let ledger = TestLedger::new().await;
    let dir = scratch_dir();
    let one = dir.path().join("one");
    succeeds(&mut backup(&ledger, &one));
    let said = refuses(&mut backup(&ledger, &one));
    assert!(said.contains("one exists already"), "{said}");
    let said = refuses(&mut restore(&ledger, &one));
    assert!(said.contains("there is a ledger named ledger in this database already"), "{said}");
    assert!(said.contains("drop schema \"ledger\" cascade"), "{said}");

    let said = refuses(&mut backup(&ledger, &dir.path().join("no/two")));
    assert!(said.contains("; make the directory above it first"), "{said}");
    fs::create_dir(dir.path().join("two.unfinished")).unwrap();
    let said = refuses(&mut backup(&ledger, &dir.path().join("two")));
    assert!(said.contains("if an earlier backup was interrupted, remove it"), "{said}");

    let other = TestLedger::empty_database().await;
    let said = refuses(restore(&other, &one).args(["--ledger", "shop"]));
    assert!(said.contains("restore it with --ledger ledger"), "{said}");
    // A schema that was made beforehand, and that is empty, is not in the way.
    let mut owner = other.owner().await;
    query("create schema ledger").execute(&mut owner).await.unwrap();
    // Of two restores at once, one is told of the other.
    assert!(try_lock_rebuild(&mut owner).await.unwrap());
    let said = refuses(&mut restore(&other, &one));
    assert!(said.contains("another restore brings back the ledger named ledger"), "{said}");
    release_all(&mut owner).await.unwrap();
    succeeds(&mut restore(&other, &one));
}

#[tokio::test]
async fn a_broken_backup_leaves_nothing_behind() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let service = Service::start(&ledger.url);
    service.observe(&random_observations(5, 300, 100)).await;
    assert!(service.stop().success());
    let one = dir.path().join("one");
    let tables = "
        select count(*)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'ledger'";
    type Break = fn(&Path);
    let breaks: [(&str, Break); 5] = [
        ("a file is missing", |dump| fs::remove_file(largest(dump)).unwrap()),
        ("a file is cut off", |dump| {
            let file = largest(dump);
            let bytes = fs::read(&file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("a byte was changed", |dump| {
            let file = largest(dump);
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 0x55;
            fs::write(file, bytes).unwrap();
        }),
        ("there is no list of contents", |dump| fs::remove_file(dump.join("toc.dat")).unwrap()),
        ("it has no manifest", |dump| {
            fs::remove_file(dump.parent().unwrap().join("manifest.json")).unwrap();
        }),
    ];
    for (what, break_it) in breaks {
        succeeds(&mut backup(&ledger, &one));
        break_it(&one.join("dump"));
        let said = refuses(&mut restore(&other, &one));
        assert!(!said.contains("shop.example"), "{what}: {said}");
        let left: i64 = query_scalar(tables).fetch_one(&mut other.owner().await).await.unwrap();
        assert_eq!(left, 0, "{what}: {said}");
        fs::remove_dir_all(&one).unwrap();
    }
    succeeds(&mut backup(&ledger, &one));
    succeeds(&mut restore(&other, &one));
    verify(&other);
}

/// Found out before anything is restored, so that no one takes it for the ledger.
#[tokio::test]
async fn a_backup_whose_manifest_says_something_else_is_not_restored() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let one = dir.path().join("one");
    succeeds(&mut backup(&ledger, &one));
    let right = fs::read_to_string(one.join("manifest.json")).unwrap();
    let version = identity_ledger::ledger::schema_version();
    for (member, said, found) in [("position", 7, 1), ("schemaVersion", version - 1, version)] {
        let changed =
            right.replace(&format!("\"{member}\": {found}"), &format!("\"{member}\": {said}"));
        assert_ne!(changed, right);
        fs::write(one.join("manifest.json"), changed).unwrap();
        let refusal = refuses(&mut restore(&other, &one));
        let expected = format!("the manifest says {member} {said}, and the dump has {found}");
        assert!(refusal.contains(&expected), "{refusal}");
        let schema = query("select from pg_namespace where nspname = 'ledger'");
        let schema = schema.fetch_optional(&mut other.owner().await).await.unwrap();
        assert!(schema.is_none(), "nothing was made");
    }
    fs::write(one.join("manifest.json"), right).unwrap();
    succeeds(&mut restore(&other, &one));
}

/// No one is told to drop the tables of others.
#[tokio::test]
async fn a_ledger_is_not_restored_among_tables_of_others() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let one = dir.path().join("one");
    succeeds(&mut backup(&ledger, &one));
    let foreign = "create schema ledger; create table ledger.event (id bigint)";
    sqlx::raw_sql(foreign).execute(&mut other.owner().await).await.unwrap();
    let said = refuses(&mut restore(&other, &one));
    assert!(said.contains("has tables that are no ledger's"), "{said}");
    assert!(!said.contains("drop schema"), "{said}");
}

/// What was taken from the owner is not in the dump, and is taken again after it.
#[tokio::test]
async fn a_restore_that_was_broken_off_is_not_served() {
    let ledger = TestLedger::new().await;
    query("update pg_class set relacl = null where oid = 'event'::regclass")
        .execute(&mut ledger.superuser().await)
        .await
        .unwrap();
    let said = refuses(command(SERVE).args(["--database-url", &ledger.url]));
    assert!(said.contains("was broken off") && said.contains("and restore it again"), "{said}");
}

/// The data of a table, compressed.
fn largest(dump: &Path) -> PathBuf {
    let files = fs::read_dir(dump).unwrap().map(|entry| entry.unwrap().path());
    let data = files.filter(|file| file.extension().is_some_and(|it| it == "gz"));
    data.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

#[tokio::test]
async fn a_backup_of_a_newer_version_is_refused() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let dir = scratch_dir();
    let one = dir.path().join("one");
    succeeds(&mut backup(&ledger, &one));
    let manifest = fs::read_to_string(one.join("manifest.json")).unwrap();
    let version = format!("\"schemaVersion\": {}", identity_ledger::ledger::schema_version());
    let newer = manifest.replace(&version, "\"schemaVersion\": 99991231235959");
    assert_ne!(newer, manifest);
    fs::write(one.join("manifest.json"), newer).unwrap();
    let said = refuses(&mut restore(&other, &one));
    assert!(said.contains("was made by a newer version"), "{said}");
}

/// From 17 on, pg_restore sets what older servers do not know.
#[tokio::test]
async fn a_dump_that_the_server_is_too_old_for_is_refused_before_anything_is_made() {
    let (ledger, other) = (TestLedger::new().await, TestLedger::empty_database().await);
    let server = query_scalar("select current_setting('server_version_num')::integer / 10000");
    let server: i32 = server.fetch_one(&mut other.owner().await).await.unwrap();
    if server >= 17 {
        eprintln!("this server takes what any pg_dump writes: that one does not is not tried");
        return;
    }
    let dir = scratch_dir();
    let one = dir.path().join("one");
    succeeds(&mut backup(&ledger, &one));
    let manifest = fs::read_to_string(one.join("manifest.json")).unwrap();
    let (before, rest) = manifest.split_once("\"pgDump\": ").unwrap();
    let (_, after) = rest.split_once(',').unwrap();
    fs::write(one.join("manifest.json"), format!("{before}\"pgDump\": 17,{after}")).unwrap();
    let said = refuses(&mut restore(&other, &one));
    assert!(said.contains("was written by pg_dump 17"), "{said}");
    assert!(said.contains("restore it into Postgres 17 or newer"), "{said}");
    let schema = query("select from pg_namespace where nspname = 'ledger'");
    let schema = schema.fetch_optional(&mut other.owner().await).await.unwrap();
    assert!(schema.is_none(), "nothing was made");
}

/// Something that only pg_dump looks at: a backup waits there until the transaction ends.
async fn hold_up(superuser: &mut PgConnection) {
    let lock = "begin; lock table pg_catalog.pg_ts_dict in access exclusive mode";
    sqlx::raw_sql(lock).execute(superuser).await.unwrap();
}

/// A command that is killed leaves what does not look like a backup, and the next one says so.
#[tokio::test]
async fn a_backup_that_was_broken_off_does_not_look_like_one() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.superuser().await;
    hold_up(&mut superuser).await;
    let dir = scratch_dir();
    let (one, unfinished) = (dir.path().join("one"), dir.path().join("one.unfinished"));
    let mut killed = backup(&ledger, &one).spawn().unwrap();
    ledger.until_waited_for("pg_catalog.pg_ts_dict").await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!one.exists() && unfinished.join("dump").exists());
    query("commit").execute(&mut superuser).await.unwrap();
    // It outlives who has started it.
    let dumping = "select exists (
        select from pg_stat_activity
        where datname = current_database() and application_name = 'identity-ledger backup'
    )";
    until_async("pg_dump is gone", async || {
        !query_scalar::<_, bool>(dumping).fetch_one(&mut superuser).await.unwrap()
    })
    .await;
    let said = refuses(&mut restore(&TestLedger::empty_database().await, &unfinished));
    assert!(said.contains("is not a backup"), "{said}");
    let said = refuses(&mut backup(&ledger, &one));
    assert!(said.contains("one.unfinished") && said.contains("remove it"), "{said}");
    fs::remove_dir_all(&unfinished).unwrap();
    succeeds(&mut backup(&ledger, &one));
    assert!(one.join("manifest.json").exists() && !unfinished.exists());

    // A command that is asked to stop clears it away.
    hold_up(&mut superuser).await;
    let two = dir.path().join("two");
    let mut stopped = backup(&ledger, &two).stderr(Stdio::null()).spawn().unwrap();
    ledger.until_waited_for("pg_catalog.pg_ts_dict").await;
    assert!(dir.path().join("two.unfinished/dump").exists());
    kill_process(Pid::from_child(&stopped), Signal::TERM).unwrap();
    until("it stops", || stopped.try_wait().unwrap().is_some());
    assert_eq!(stopped.wait().unwrap().code(), Some(1));
    assert!(!two.exists() && !dir.path().join("two.unfinished").exists());
}

/// It is in the environment of the programs that are run, which only their user can read.
#[tokio::test]
async fn a_password_is_on_no_command_line() {
    let ledger = TestLedger::new().await;
    let mut superuser = ledger.superuser().await;
    hold_up(&mut superuser).await;
    let dir = scratch_dir();
    let url = ledger.url.replace("//shop@", "//shop:secret-of-backup%2Fword@");
    let mut backup = command(&["backup"]);
    backup.env("DATABASE_URL", url).arg(dir.path().join("one"));
    let mut running = backup.stdout(Stdio::null()).spawn().unwrap();
    ledger.until_waited_for("pg_catalog.pg_ts_dict").await;
    let mut seen = 0;
    for process in fs::read_dir("/proc").unwrap() {
        let line = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let is_dump = line.contains("pg_dump") && line.contains(dir.path().to_str().unwrap());
        seen += usize::from(is_dump);
        assert!(!line.contains("secret-of-backup"), "{line}");
    }
    assert!(seen > 0, "pg_dump was seen");
    query("commit").execute(&mut superuser).await.unwrap();
    until("the backup is done", || running.try_wait().unwrap().is_some());
    assert!(running.wait().unwrap().success());
}

#[test]
fn the_private_server_is_backed_up_and_restored_into_a_new_one() {
    let dir = scratch_dir();
    let at = |verb: &str, data_dir: &str| {
        let mut command = command(&[verb, "--data-dir", data_dir]);
        command.current_dir(&dir);
        command
    };
    let mut serve = at("serve", "data");
    assert!(Service::spawn(serve.args(["--listen", "127.0.0.1:0"])).stop().success());
    let said = refuses(at("backup", "nowhere").arg("one"));
    let nowhere = dir.path().join("nowhere");
    let expected = format!("there is no ledger named ledger in {}; serve", nowhere.display());
    assert!(said.contains(&expected), "{said}");
    let said = succeeds(at("backup", "data").arg("one"));
    assert_eq!(said, "the ledger up to position 1 is in one\n");
    for (backup, ledger, reason) in
        [("nosuch", "ledger", "nosuch is not a backup"), ("one", "shop", "--ledger ledger")]
    {
        let said = refuses(at("restore", "new").arg(backup).args(["--ledger", ledger]));
        assert!(said.contains(reason), "{said}");
        assert!(!dir.path().join("new").exists(), "nothing was made for it");
    }
    succeeds(at("restore", "new").arg("one"));
    let said = succeeds(&mut at("verify", "new"));
    assert!(said.contains("verified: 1 event with"), "{said}");
}

/// Another key would be published as the ledger's, and sign nothing.
#[tokio::test]
async fn no_key_is_made_for_a_ledger_that_is_sealed_already() {
    let dir = scratch_dir();
    let [data, new, one] = ["data", "new", "one"].map(|name| dir.path().join(name));
    let data_dir = |path: &Path| ["--data-dir".to_owned(), path.display().to_string()];
    let service = Service::start_with(&data_dir(&data).each_ref().map(String::as_str));
    service.identify(&Seen::new("a@x.org", "")).await;
    until_async("it is sealed", async || {
        service.get("/ledger/checkpoint").await.status().is_success()
    })
    .await;
    succeeds(command(&["backup"]).arg(&one).args(data_dir(&data)));
    assert!(service.stop().success());
    succeeds(command(&["restore"]).arg(&one).args(data_dir(&new)));
    let said = refuses(command(SERVE).args(data_dir(&new)));
    assert!(said.contains("put the key back there, or pass --signing-key"), "{said}");
    fs::copy(data.join("ledger.key"), new.join("ledger.key")).unwrap();
    let service = Service::start_with(&data_dir(&new).each_ref().map(String::as_str));
    service.identify(&Seen::new("b@x.org", "")).await;
    assert_eq!(service.get_json("/ledger").await["refusal"], Value::Null);
    assert!(service.stop().success());
}
