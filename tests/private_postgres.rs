//! A Postgres of our own: it comes and goes with those who use it, wherever it has to live.

use crate::support::{
    BINARY, SERVE, Seen, Service, command, command_of, ended, hold_head, patient, postmaster,
    private_database, refuses, scratch_dir, succeeds, told, until, until_async,
};
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, query, query_scalar};
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A user with no rights and no home; every system has it.
const NOBODY: u32 = 65534;

fn on(data_dir: &Path, verb: &str) -> Command {
    let mut command = command(&[verb, "--data-dir", data_dir.to_str().unwrap()]);
    if verb == "serve" {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command
}

async fn records(service: &Service, email: &str) {
    let response = service.try_identify(&Seen::new(email, "")).await.unwrap();
    assert_eq!(response.status(), 200);
}

async fn superuser(data_dir: &Path) -> PgConnection {
    patient(&private_database(data_dir)).await
}

/// Stops a service while a request waits for the line, which is held until the service has said
/// that it stops.
async fn finishes_what_is_queued(stop: impl FnOnce(Pid)) {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::spawn(on(&data_dir, "serve").process_group(0));
    let mut holder = superuser(&data_dir).await;
    hold_head(&mut holder).await;
    let stopping = async {
        let waiting = "select exists (select from pg_locks where not granted)";
        until_async("the request waits", async || {
            query_scalar::<_, bool>(waiting).fetch_one(&mut holder).await.unwrap()
        })
        .await;
        stop(service.pid());
        tokio::task::block_in_place(|| {
            until("it says that it stops", || service.log().contains("finishing what is queued"));
            until("it accepts no one", || TcpStream::connect(&service.address).is_err());
        });
        sqlx::raw_sql("commit").execute(&mut holder).await.unwrap();
    };
    tokio::join!(records(&service, "in-flight@x.org"), stopping);
    assert!(service.wait().success());
    assert_eq!(postmaster(&data_dir), None);
    let said = succeeds(&mut on(&data_dir, "verify"));
    assert!(said.starts_with("verified: 1 contact "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_requests_finish_and_stops_postgres() {
    finishes_what_is_queued(|service| kill_process(service, Signal::TERM).unwrap()).await;
}

/// As a terminal sends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_does_not_reach_postgres_before_the_queue_is_drained() {
    finishes_what_is_queued(|group| kill_process_group(group, Signal::INT).unwrap()).await;
}

fn make_ledger(data_dir: &Path) {
    assert!(Service::spawn(&mut on(data_dir, "serve")).stop().success());
}

fn spawn_and_wait_for(verb: &str, data_dir: &Path, signs: &[&str]) -> (Child, Pid) {
    let mut command = on(data_dir, verb);
    let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    until("it is under way", || signs.iter().any(|sign| data_dir.join(sign).exists()));
    let pid = Pid::from_child(&child);
    (child, pid)
}

#[test]
fn a_signal_during_the_start_leaves_no_postgres_and_no_harm() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");

    // The first one is there for a moment.
    let signs = ["postgres.new", "postgres"];
    let (service, pid) = spawn_and_wait_for("serve", &data_dir, &signs);
    kill_process_group(pid, Signal::INT).unwrap();
    let output = ended(service);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(postmaster(&data_dir), None);

    let (service, pid) = spawn_and_wait_for("serve", &data_dir, &["postgres/postmaster.pid"]);
    kill_process(pid, Signal::TERM).unwrap();
    let output = ended(service);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(postmaster(&data_dir), None);

    // Each session begins seconds later: else it may have done its work before it is told to stop.
    let settings = data_dir.join("postgres/postgresql.auto.conf");
    let right = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{right}post_auth_delay = 4\n")).unwrap();
    let (verify, pid) = spawn_and_wait_for("verify", &data_dir, &["postgres/postmaster.pid"]);
    kill_process(pid, Signal::TERM).unwrap();
    let output = ended(verify);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told(&output), "error: interrupted by SIGTERM; run it again\n");
    assert_eq!(postmaster(&data_dir), None);

    std::fs::write(&settings, right).unwrap();
    make_ledger(&data_dir);
}

#[test]
fn why_a_server_does_not_start_is_told_though_it_logs_nothing() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    make_ledger(&data_dir);
    std::fs::remove_file(data_dir.join("postgres/PG_VERSION")).unwrap();
    let said = refuses(&mut on(&data_dir, "serve"));
    assert!(said.contains("is not a database cluster directory"), "{said}");
}

/// After a crash, the number of the server that died may be that of another program.
#[tokio::test]
async fn a_process_that_postgres_takes_for_its_own_is_named_with_what_to_do() {
    let dir = scratch_dir();
    let [data_dir, other] = ["data", "other"].map(|name| dir.path().join(name));
    make_ledger(&data_dir);
    let running = Service::spawn(&mut on(&other, "serve"));
    let [left_behind, pid_file] =
        [&other, &data_dir].map(|data_dir| data_dir.join("postgres/postmaster.pid"));
    std::fs::copy(&left_behind, &pid_file).unwrap();
    let owner = left_behind.metadata().unwrap();
    chown(&pid_file, Some(owner.uid()), Some(owner.gid())).unwrap();
    // It looks as if the whole directory had been copied.
    let said = refuses(&mut on(&data_dir, "serve"));
    assert!(said.contains(&format!("is a copy of {}", other.join("postgres").display())), "{said}");
    let lines = std::fs::read_to_string(&left_behind).unwrap();
    let [here, there] = [&data_dir, &other].map(|dir| dir.join("postgres").display().to_string());
    std::fs::write(&pid_file, lines.replace(&there, &here)).unwrap();
    let said = refuses(&mut on(&data_dir, "serve"));
    let pid = postmaster(&other).unwrap().as_raw_nonzero();
    assert!(said.contains(&format!("takes process {pid} for the Postgres")), "{said}");
    assert!(said.contains(&format!("remove {}", pid_file.display())), "{said}");
    std::fs::remove_file(&pid_file).unwrap();
    make_ledger(&data_dir);
    assert!(running.stop().success());
}

/// A start may take minutes: a command that waits for one says so, and can be told to leave.
#[test]
fn a_command_that_waits_for_another_start_says_so_and_hears_ctrl_c() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    make_ledger(&data_dir);
    let gate = File::options().write(true).open(data_dir.join("gate")).unwrap();
    gate.lock().unwrap();
    let stderr = dir.path().join("stderr");
    let waiting = on(&data_dir, "verify").stderr(File::create(&stderr).unwrap()).spawn().unwrap();
    until("it says so", || {
        let said = std::fs::read_to_string(&stderr).unwrap();
        said.contains("another process is starting or stopping the Postgres in")
    });
    kill_process(Pid::from_child(&waiting), Signal::INT).unwrap();
    assert_eq!(ended(waiting).status.code(), Some(1));
    drop(gate);
    succeeds(&mut on(&data_dir, "verify"));
}

#[tokio::test]
async fn every_command_works_with_and_without_the_service() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    make_ledger(&data_dir);
    for verb in ["rebuild", "verify"] {
        succeeds(&mut on(&data_dir, verb));
        assert_eq!(postmaster(&data_dir), None, "{verb} left Postgres behind");
    }
    let service = Service::spawn(&mut on(&data_dir, "serve"));
    let postgres = postmaster(&data_dir);
    for verb in ["verify", "rebuild"] {
        records(&service, &format!("{verb}@x.org")).await;
        succeeds(&mut on(&data_dir, verb));
        assert_eq!(postmaster(&data_dir), postgres, "{verb} stopped the service's Postgres");
    }
    records(&service, "after@x.org").await;
    assert!(service.stop().success());

    let at_once = ["verify", "rebuild", "verify"].map(|verb| {
        let mut command = on(&data_dir, verb);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for child in at_once {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(" 3 contacts "), "{said}");
    }
    assert_eq!(postmaster(&data_dir), None);
}

/// A log outlives an erasure.
#[tokio::test]
async fn what_postgres_refuses_is_not_in_its_log() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::spawn(&mut on(&data_dir, "serve"));
    let mut owner = superuser(&data_dir).await;
    let sound = "alter table observation add constraint sound check (email not like 'canary%')";
    sqlx::raw_sql(sound).execute(&mut owner).await.unwrap();
    let refused = service.try_identify(&Seen::new("canary@x.org", "")).await.unwrap();
    assert_eq!(refused.status(), 500);
    // In a parameter, and in the statement itself.
    let no_number = query_scalar::<_, i64>("select $1::text::bigint").bind("canary@x.org");
    no_number.fetch_one(&mut owner).await.unwrap_err();
    sqlx::raw_sql("select 'canary@x.org'::bigint").execute(&mut owner).await.unwrap_err();
    assert!(service.stop().success());
    let log = std::fs::read_to_string(data_dir.join("postgres.log")).unwrap();
    assert!(log.contains("ready to accept connections"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    assert!(!data_dir.join("postgres/log").exists(), "there is no other log");
}

/// A path with a blank, and one too long for a unix socket.
#[tokio::test]
async fn two_services_on_two_data_directories_know_nothing_of_each_other() {
    let dir = scratch_dir();
    let blank = dir.path().join("it's a \"path\", with blanks");
    let long = dir.path().join("long".repeat(30)).join("data");
    let services =
        [&blank, &long].map(|data_dir| (data_dir, Service::spawn(&mut on(data_dir, "serve"))));
    records(&services[0].1, "a@x.org").await;
    records(&services[0].1, "b@x.org").await;
    records(&services[1].1, "a@x.org").await;
    for ((data_dir, service), contacts) in services.into_iter().zip(["2 contacts ", "1 contact "]) {
        let said = succeeds(&mut on(data_dir, "verify"));
        assert!(said.starts_with(&format!("verified: {contacts}")), "{said}");
        let elsewhere = socket_dir_elsewhere(data_dir);
        assert_eq!(elsewhere.is_some(), data_dir == &long);
        assert!(service.stop().success());
        assert_eq!(postmaster(data_dir), None);
        assert!(!elsewhere.is_some_and(|dir| dir.exists()), "it goes with the server");
    }
}

/// Where the socket is, if not in the data directory.
fn socket_dir_elsewhere(data_dir: &Path) -> Option<PathBuf> {
    let configuration = std::fs::read_to_string(data_dir.join("postgres.conf")).unwrap();
    let (_, rest) = configuration.split_once("\"/tmp/identity-ledger-")?;
    let (id, _) = rest.split_once('"')?;
    Some(format!("/tmp/identity-ledger-{id}").into())
}

#[tokio::test]
async fn a_second_service_is_refused_while_the_first_lives_and_only_then() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let first = Service::spawn(&mut on(&data_dir, "serve"));
    records(&first, "first@x.org").await;
    let postgres = postmaster(&data_dir);

    let said = refuses(&mut on(&data_dir, "serve"));
    assert!(said.contains("another service uses the data directory"), "{said}");
    assert!(said.contains("stop it, or choose another --data-dir"), "{said}");
    records(&first, "still@x.org").await;

    first.kill();
    assert!(postgres.is_some_and(|pid| test_kill_process(pid).is_ok()), "kill -9 spares Postgres");
    let second = Service::spawn(&mut on(&data_dir, "serve"));
    assert_eq!(postmaster(&data_dir), postgres, "the next one joins it");
    records(&second, "second@x.org").await;
    assert!(second.stop().success());
    assert_eq!(postmaster(&data_dir), None);
    let said = succeeds(&mut on(&data_dir, "verify"));
    assert!(said.starts_with("verified: 3 contacts"), "{said}");
}

fn we_are_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not root: this is about root, and is not tried");
    }
    root
}

/// All the other tests run as the user who runs them: this one is for when that is root.
#[tokio::test]
async fn a_normal_user_runs_postgres_as_themselves() {
    if !we_are_root() {
        return;
    }
    let dir = scratch_dir();
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let binary = dir.path().join("identity-ledger");
    std::fs::copy(BINARY, &binary).unwrap();
    let as_nobody = |args| {
        let mut command = command_of(&binary, args);
        command.uid(NOBODY).gid(NOBODY).current_dir(&dir);
        command
    };
    let service = Service::spawn(&mut as_nobody(SERVE));
    records(&service, "a@x.org").await;
    let data_dir = dir.path().join(".identity-ledger");
    for path in [&data_dir, &data_dir.join("postgres/postmaster.pid")] {
        assert_eq!(path.metadata().unwrap().uid(), NOBODY);
    }
    succeeds(&mut as_nobody(&["rebuild"]));
    assert!(service.stop().success());
    // What they may not enter is not taken for empty.
    let rooted = closed_dir();
    let said = refuses(as_nobody(&["verify"]).arg("--data-dir").arg(rooted.path()));
    assert!(said.contains("cannot look into the data directory"), "{said}");
    let said = succeeds(&mut as_nobody(&["verify"]));
    assert!(said.starts_with("verified: 1 contact "), "{said}");
    assert_eq!(postmaster(&data_dir), None);

    // Root comes by. Anyone could have made a directory of that name for root to find; one that root names is
    // used, and its files stay theirs.
    let said = refuses(command(&["verify"]).current_dir(&dir));
    assert!(said.contains("is another user's: run this as that user"), "{said}");
    succeeds(command(&["verify"]).arg("--data-dir").arg(&data_dir));
    succeeds(&mut as_nobody(&["verify"]));
}

/// As root's home is, which the user that runs Postgres for root cannot enter.
fn closed_dir() -> tempfile::TempDir {
    let dir = scratch_dir();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    dir
}

#[test]
fn a_chosen_directory_that_postgres_cannot_enter_is_refused() {
    if !we_are_root() {
        return;
    }
    let dir = closed_dir();
    for data_dir in [dir.path().join("data"), dir.path().join("more/data")] {
        let said = refuses(&mut on(&data_dir, "serve"));
        assert!(said.contains(&format!("cannot enter {}", dir.path().display())), "{said}");
        assert!(said.contains("choose another --data-dir"), "{said}");
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "something is half done");
}

/// Removes what was made for a test under `/var/lib`.
struct Fallback(PathBuf);

impl Drop for Fallback {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // Others may have theirs there.
        let _ = std::fs::remove_dir(self.0.parent().unwrap());
    }
}

#[tokio::test]
async fn a_default_directory_that_postgres_cannot_enter_gives_way_and_says_so() {
    if !we_are_root() {
        return;
    }
    let dir = closed_dir();
    let service = Service::spawn(command(SERVE).current_dir(&dir));
    let log = service.log();
    let place = log.split("the data is in ").nth(1).and_then(|rest| rest.split(',').next());
    let fallback = Fallback(place.unwrap_or_else(|| panic!("it does not say so: {log}")).into());
    assert!(fallback.0.starts_with("/var/lib/identity-ledger"));
    records(&service, "a@x.org").await;
    assert!(service.stop().success());
    let said = succeeds(command(&["verify"]).current_dir(&dir));
    assert!(said.starts_with("verified: 1 contact "), "{said}");
    assert_eq!(postmaster(&fallback.0), None);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

/// As the manual restores to a point in time. No one can write until Postgres has ended that.
#[test]
fn a_server_that_restores_an_archive_is_waited_for() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    make_ledger(&data_dir);
    let database = data_dir.join("postgres");
    let settings = database.join("postgresql.auto.conf");
    let right = std::fs::read_to_string(&settings).unwrap();
    // The archive is slow, and has nothing in it.
    std::fs::write(&settings, format!("{right}restore_command = 'sleep 1; false'\n")).unwrap();
    File::create(database.join("recovery.signal")).unwrap();
    let said = succeeds(&mut on(&data_dir, "verify"));
    assert!(said.starts_with("verified: 0 contacts "), "{said}");
    assert!(database.join("recovery.signal").exists(), "a check does not wait");
    let service = Service::spawn(&mut on(&data_dir, "serve"));
    assert!(service.log().contains("Postgres still restores an archive"), "{}", service.log());
    assert!(!database.join("recovery.signal").exists());
    assert!(service.stop().success());
}

/// What is committed here and confirmed by no standby may be lost with this server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_standby_has_confirmed_is_not_acknowledged() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::spawn(&mut on(&data_dir, "serve"));
    records(&service, "confirmed@x.org").await;
    let mut superuser = superuser(&data_dir).await;
    let wait_for_one = async |session: &mut PgConnection, standbys: &str| {
        let set = format!("alter system set synchronous_standby_names = '{standbys}'");
        query(AssertSqlSafe(set)).execute(&mut *session).await.unwrap();
        query("select pg_reload_conf()").execute(session).await.unwrap();
    };
    wait_for_one(&mut superuser, "none").await;
    // It takes Postgres a moment to hear of it.
    let mut len = 1;
    let refused = loop {
        len += 1;
        let seen = Seen::new(&format!("{len}@x.org"), "");
        let response = service.try_identify(&seen).await.unwrap();
        if response.status() != 200 || len == 1000 {
            break response;
        }
    };
    assert_eq!(refused.status(), 503);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["recorded"], "unknown", "{problem}");
    wait_for_one(&mut superuser, "").await;
    records(&service, &format!("{len}@x.org")).await;
    assert!(service.stop().success());
    let said = succeeds(&mut on(&data_dir, "verify"));
    assert!(said.starts_with(&format!("verified: {len} contacts ")), "{said}");
}
