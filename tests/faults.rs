//! What goes wrong for one request or for a while goes wrong for nothing else.

use crate::support::{
    PHONES_ONLY, Seen, Service, TestLedger, append_activation, command, files_dir, hold_head,
    random_observations, scratch_dir, succeeds, until, until_async,
};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_scalar};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

/// The constraint stands for any data that Postgres will not take.
async fn refuse_poison(owner: &mut PgConnection) {
    query("alter table observation add constraint sound check (email not like 'poison%')")
        .execute(owner)
        .await
        .unwrap();
}

/// A trigger stands for a page that cannot be read.
#[tokio::test]
async fn a_request_that_postgres_refuses_fails_alone() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut owner = ledger.owner().await;
    refuse_poison(&mut owner).await;
    let damage = "create function damaged() returns trigger language plpgsql as
        $$ begin raise exception using errcode = 'data_corrupted'; end $$;
        create trigger damaged before insert on observation
        for each row when (new.email like 'damaged%') execute function damaged()";
    sqlx::raw_sql(damage).execute(&mut owner).await.unwrap();
    let name = |n| match n % 21 {
        5 => "poison",
        10 => "damaged",
        _ => "fine",
    };
    let all: Vec<_> = (0..64).map(|n| Seen::new(&format!("{}{n}@x.org", name(n)), "")).collect();
    let responses = join_all(all.iter().map(|seen| service.try_identify(seen))).await;
    for (seen, response) in all.iter().zip(responses) {
        let poisoned = !seen.email.as_ref().unwrap().starts_with("fine");
        let response = response.unwrap();
        assert_eq!(response.status(), if poisoned { 500 } else { 200 });
        if poisoned {
            let problem: Value = response.json().await.unwrap();
            assert_eq!(problem["recorded"], "no");
        }
    }
    ledger.verify().await.unwrap();
}

/// A trigger stands for a disk that is full, and a table that is gone for whatever else Postgres says
/// where it cannot read.
#[tokio::test]
async fn what_keeps_postgres_from_answering_is_told_and_no_traffic_is_asked_for() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut owner = ledger.owner().await;
    let fill = "create function full_disk() returns trigger language plpgsql as
        $$ begin raise exception using errcode = 'disk_full'; end $$;
        create trigger full_disk before insert on observation execute function full_disk()";
    sqlx::raw_sql(fill).execute(&mut owner).await.unwrap();
    let response = service.try_identify(&Seen::new("full@x.org", "")).await.unwrap();
    assert_eq!(response.status(), 503);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["detail"], "The disk of Postgres is full. Make room there, then ask again.");
    assert_eq!(problem["recorded"], "no");

    let rename = async |owner: &mut PgConnection, from: &str, to: &str| {
        let rename = format!("alter table {from} rename to {to}");
        query(AssertSqlSafe(rename)).execute(owner).await.unwrap();
    };
    rename(&mut owner, "head", "head_away").await;
    service.until_ready(503).await;
    let response = service.get("/health/ready").await;
    let problem: Value = response.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("SQLSTATE"), "{problem}");
    rename(&mut owner, "head_away", "head").await;
    service.until_ready(200).await;
}

/// The settings of a session that reads need a block of PL/pgSQL. sqlx tries to set such a session up again
/// and again.
#[tokio::test]
async fn a_session_that_cannot_be_set_up_is_told_without_the_words_of_postgres() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut superuser = ledger.superuser().await;
    let refuse = "revoke usage on language plpgsql from public;
        select pg_terminate_backend(pid)
        from pg_stat_activity
        where datname = current_database() and application_name = 'identity-ledger reader'";
    sqlx::raw_sql(refuse).execute(&mut superuser).await.unwrap();
    until_async("no session can read", async || service.get("/events").await.status() == 503).await;
    let log = service.log();
    assert!(!log.contains("permission denied"), "{log}");
}

/// Settings that suit another program are not those of the ledger's sessions.
#[tokio::test]
async fn what_a_database_sets_for_its_sessions_changes_nothing() {
    let ledger = TestLedger::new().await;
    for setting in [
        "default_transaction_isolation = serializable",
        "statement_timeout = 600000",
        "lock_timeout = 600000",
        "idle_session_timeout = 600000",
        "idle_in_transaction_session_timeout = 600000",
        "synchronous_commit = off",
        "client_encoding = latin1",
    ] {
        let set = format!(
            "do $$ begin execute format('alter database %I set {setting}', current_database()); end $$"
        );
        query(AssertSqlSafe(set)).execute(&mut ledger.owner().await).await.unwrap();
    }
    let limits = "select array_agg(setting) from pg_settings
        where name in ('statement_timeout', 'lock_timeout', 'idle_session_timeout')";
    let mut owner = ledger.database.owner().await.unwrap();
    let limits: Vec<String> = query_scalar(limits).fetch_one(&mut owner).await.unwrap();
    assert_eq!(limits, ["0"; 3]);
    let database = &ledger.database;
    for (mut session, idle_in_transaction) in [
        (owner, "5s"),
        (database.pager().await.unwrap(), "5s"),
        (database.recorder().await.unwrap(), "3s"),
        (database.sealer().await.unwrap(), "0"),
        (database.eraser().await.unwrap(), "5s"),
        (database.access().await.unwrap(), "0"),
    ] {
        // What is acknowledged is durable, and a client that hangs keeps no one waiting.
        let settings = "select array[
            current_setting('synchronous_commit'),
            current_setting('idle_in_transaction_session_timeout')
        ]";
        let settings: Vec<String> = query_scalar(settings).fetch_one(&mut session).await.unwrap();
        assert_eq!(settings, ["on", idle_in_transaction]);
    }

    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    nodes[0].identify(&Seen::new("\u{2192}@x.org", "")).await;
    let all = random_observations(9, 1200, 250);
    let callers = all.chunks(50).enumerate().map(async |(caller, mine)| {
        for seen in mine {
            nodes[caller % 2].identify(seen).await;
        }
    });
    join_all(callers).await;
    let dir = scratch_dir();
    let dir = dir.path().join("backup");
    succeeds(command(&["backup", "--database-url", &ledger.url]).arg(dir));
}

/// Sending it again would not bring back a right that is missing.
#[tokio::test]
async fn what_postgres_refuses_for_good_is_not_to_be_sent_again() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let revoke = "revoke insert on event from current_user";
    query(revoke).execute(&mut ledger.owner().await).await.unwrap();
    let response = service.try_identify(&Seen::new("a@x.org", "")).await.unwrap();
    assert_eq!(response.status(), 500);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["recorded"], "no");
    assert!(problem["detail"].as_str().unwrap().contains("log says more"), "{problem}");
    let told = "not recorded: Postgres refused the statement (SQLSTATE 42501)";
    // The log is read a moment after the answer.
    until("it is told", || service.log().contains(told));
}

/// As after a failover to a standby that lagged behind.
#[tokio::test]
async fn a_node_does_not_give_out_again_the_numbers_of_events_that_are_lost() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    for n in 0..5 {
        service.identify(&Seen::new(&format!("a{n}@x.org"), "")).await;
    }
    ledger.cut_events_after(4).await;
    for n in 0..5 {
        let response = service.try_identify(&Seen::new(&format!("b{n}@x.org"), "")).await.unwrap();
        assert_eq!(response.status(), 503);
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("gone back in time"), "{problem}");
    }
    assert_eq!(ledger.position().await, 4, "nothing is recorded");
    let says = "gone back in time: it ends at event 4, and this node has recorded event 6";
    until("it is told", || service.log().contains(says));
    assert_eq!(service.log().matches(says).count(), 1, "{}", service.log());
}

/// The position of the head alone does not tell, since another node has recorded as much as was lost.
#[tokio::test]
async fn a_node_does_not_go_on_from_a_lost_event_when_another_is_in_its_place() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("first@x.org", ""), ("lost@x.org", "")]).await;
    ledger.cut_events_after(2).await;
    let other = Service::start(&ledger.url);
    assert_eq!(other.identify(&Seen::new("other@x.org", "")).await.primary_contact_id, 2);
    let answer = service.identify(&Seen::new("lost@x.org", "1")).await;
    assert_eq!((answer.primary_contact_id, answer.emails), (3, vec!["lost@x.org".to_owned()]));
    ledger.verify().await.unwrap();
}

/// Lets no one else in, or everyone again. Returns a session of the superuser beside the database.
async fn set_open(ledger: &TestLedger, open: bool) -> PgConnection {
    let (server, name) = ledger.url.rsplit_once('/').unwrap();
    let server = server.replace("//shop@", "//postgres@");
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    let allow = format!("alter database {name} allow_connections {open}");
    query(AssertSqlSafe(allow)).execute(&mut admin).await.unwrap();
    admin
}

/// Kicks everyone out of a database and keeps them out, as a restart does.
async fn set_reachable(ledger: &TestLedger, reachable: bool) {
    let mut admin = set_open(ledger, reachable).await;
    let (_, name) = ledger.url.rsplit_once('/').unwrap();
    if !reachable {
        let kick = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        until_async("everyone is gone", async || {
            let kicked = query(kick).bind(name).fetch_all(&mut admin).await.unwrap();
            kicked.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn while_postgres_is_away_callers_are_told_and_afterwards_all_is_well() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("before@x.org", "")).await;
    assert_eq!(service.get("/health/ready").await.status(), 200);

    set_reachable(&ledger, false).await;
    for _ in 0..3 {
        let response = service.try_identify(&Seen::new("during@x.org", "")).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key("retry-after"));
        let problem: Value = response.json().await.unwrap();
        assert!(["no", "unknown"].contains(&problem["recorded"].as_str().unwrap()), "{problem}");
    }
    service.until_ready(503).await;
    assert_eq!(service.get("/contacts/1").await.status(), 503);
    assert_eq!(service.get("/contacts/1").await.status(), 503);
    assert_eq!(service.get("/health/live").await.status(), 200);

    set_reachable(&ledger, true).await;
    service.identify(&Seen::new("after@x.org", "")).await;
    service.until_ready(200).await;
    until("it is told", || service.log().contains("Postgres answers questions again"));
    for told in ["Postgres answers no questions", "Postgres answers questions again"] {
        assert_eq!(service.log().matches(told).count(), 1, "{told}");
    }

    set_reachable(&ledger, false).await;
    for _ in 0..2 {
        let response = service.try_identify(&Seen::new("again@x.org", "")).await.unwrap();
        assert_eq!(response.status(), 503);
    }
    set_reachable(&ledger, true).await;
    service.identify(&Seen::new("after@x.org", "")).await;
    until("it is told", || service.log().matches("recording again").count() == 2);
    assert_eq!(service.log().matches("not recorded: ").count(), 2, "{}", service.log());
    ledger.verify().await.unwrap();
}

/// As on a full disk, which lets no session begin.
#[tokio::test]
async fn a_session_that_does_not_begin_for_an_internal_error_may_begin_later() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("before@x.org", "")).await;
    let mut superuser = ledger.superuser().await;
    let map = files_dir(&mut superuser).await.join("pg_filenode.map");
    let whole = std::fs::read(&map).unwrap();
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    std::fs::write(&map, damaged).unwrap();
    let kick = "select pg_terminate_backend(pid)
        from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid()";
    query(kick).execute(&mut superuser).await.unwrap();
    for recorded in ["unknown", "no"] {
        let response = service.try_identify(&Seen::new("during@x.org", "")).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.json::<Value>().await.unwrap()["recorded"], recorded);
    }
    std::fs::write(&map, whole).unwrap();
    service.identify(&Seen::new("after@x.org", "")).await;
}

/// A service that has recorded one observation, and a session that keeps it from appending another.
async fn with_held_head() -> (TestLedger, Service, PgConnection) {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("before@x.org", "")).await;
    let mut owner = ledger.owner().await;
    hold_head(&mut owner).await;
    (ledger, service, owner)
}

/// Ends the session of an append that waits for the lock, as soon as there is one.
async fn cut_a_waiting_append(superuser: &mut PgConnection) {
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    until_async("an append waits", async || {
        query(cut).fetch_optional(&mut *superuser).await.unwrap().is_some()
    })
    .await;
}

/// It was sent, and Postgres, which could say what became of it, stays away.
#[tokio::test]
async fn a_caller_whose_append_cannot_be_settled_is_told_so() {
    let (ledger, service, owner) = with_held_head().await;
    let seen = Seen::new("during@x.org", "");
    let cut = async {
        let mut superuser = ledger.superuser().await;
        set_open(&ledger, false).await;
        cut_a_waiting_append(&mut superuser).await;
    };
    let (response, ()) = tokio::join!(service.try_identify(&seen), cut);
    let response = response.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.json::<Value>().await.unwrap()["recorded"], "unknown");
    // Only now: an append that is sent again would get the lock.
    owner.close().await.unwrap();
    set_open(&ledger, true).await;
    service.identify(&seen).await;
    let introduced = query_scalar::<_, i64>("select count(*) from contact");
    assert_eq!(introduced.fetch_one(&mut ledger.owner().await).await.unwrap(), 2);
    ledger.verify().await.unwrap();
}

/// A connection that dies while its append waits for the lock: the recorder connects again
/// and finds out that the batch can still be recorded, once.
#[tokio::test]
async fn a_connection_lost_during_an_append_is_settled() {
    let (ledger, service, mut owner) = with_held_head().await;
    let seen = Seen::new("during@x.org", "");
    let cut = async {
        let mut superuser = ledger.superuser().await;
        cut_a_waiting_append(&mut superuser).await;
        sqlx::raw_sql("commit").execute(&mut owner).await.unwrap();
    };
    let (answer, ()) = tokio::join!(service.identify(&seen), cut);
    assert_eq!(answer.emails, ["during@x.org"]);
    let observations = query_scalar::<_, i64>("select count(*) from observation");
    assert_eq!(observations.fetch_one(&mut ledger.owner().await).await.unwrap(), 2);
}

/// What stands at the batch's position then is not the batch.
#[tokio::test]
async fn an_append_whose_connection_was_lost_and_whose_place_was_taken_is_sent_again() {
    let (ledger, service, mut owner) = with_held_head().await;
    let seen = Seen::new("during@x.org", "");
    let cut = async {
        cut_a_waiting_append(&mut ledger.superuser().await).await;
        append_activation(&mut owner).await;
        sqlx::raw_sql("commit").execute(&mut owner).await.unwrap();
    };
    let (answer, ()) = tokio::join!(service.identify(&seen), cut);
    assert_eq!(answer.emails, ["during@x.org"]);
    let recorded =
        query_scalar::<_, i64>("select id from observation where email = 'during@x.org'");
    assert_eq!(recorded.fetch_all(&mut owner).await.unwrap(), [2]);
    ledger.verify().await.unwrap();
}

/// The connection of the careful path is used now and then, and may have died long ago.
#[tokio::test]
async fn a_connection_that_died_since_it_was_needed_costs_no_one_an_answer() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut owner = ledger.owner().await;
    refuse_poison(&mut owner).await;
    for _ in 0..2 {
        let retried = service.try_identify_once(&Seen::new("a@x.org", ""), "key").await.unwrap();
        assert_eq!(retried.status(), 200);
    }
    let cut = "select pg_terminate_backend(pid)
        from pg_stat_activity
        where datname = current_database() and application_name = 'identity-ledger recorder'
        order by state_change desc
        limit 1";
    query(cut).execute(&mut owner).await.unwrap();
    let refused = service.try_identify(&Seen::new("poison@x.org", "")).await.unwrap();
    assert_eq!(refused.status(), 500, "Postgres answers, and refuses");
}

/// All of them come at once after a restart. One that finds no room tries again only after a second.
#[tokio::test]
async fn many_clients_may_connect_before_the_service_accepts_any() {
    // The system may allow fewer.
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let clients_len = allowed.trim().parse().unwrap_or(100).min(500);
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.signal(Signal::STOP);
    let connecting = (0..clients_len).map(|_| TcpStream::connect(&service.address));
    let connected = timeout(Duration::from_secs(20), join_all(connecting)).await;
    service.signal(Signal::CONT);
    assert!(connected.expect("there is no room for all").iter().all(Result::is_ok));
    service.identify(&Seen::new("a@x.org", "")).await;
}

/// A way to the server of a ledger on which an answer can be lost, and its connection with it.
struct Way {
    url: String,
    loses_next: Arc<AtomicBool>,
}

impl Way {
    async fn to(ledger: &TestLedger) -> Self {
        let (user, place) = ledger.url.split_once('@').unwrap();
        let (socket_dir, name) = place.split_once('/').unwrap();
        let socket = format!("{}/.s.PGSQL.5432", socket_dir.replace("%2F", "/"));
        let entry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}?sslmode=disable", entry.local_addr().unwrap());
        let loses_next = Arc::new(AtomicBool::new(false));
        let is_lost = loses_next.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = entry.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(connect(client, server, is_lost.clone()));
            }
        });
        Self { url, loses_next }
    }
}

/// Passes on what both say, until an answer is lost.
async fn connect(client: TcpStream, server: UnixStream, is_lost: Arc<AtomicBool>) {
    let (mut questions, mut asker) = client.into_split();
    let (mut answers, mut answerer) = server.into_split();
    let answering = async {
        let mut answer = vec![0; 16 * 1024];
        while let Ok(len @ 1..) = answers.read(&mut answer).await
            && !is_lost.swap(false, Ordering::Relaxed)
        {
            asker.write_all(&answer[..len]).await.unwrap();
        }
    };
    tokio::select! {
        () = answering => {}
        _ = tokio::io::copy(&mut questions, &mut answerer) => {}
    }
}

/// It takes effect, and is not made again. On two threads: the way is open while the service is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_found_in_the_ledger() {
    let ledger = TestLedger::new().await;
    let way = Way::to(&ledger).await;
    let service = Service::start_with(&["--database-url", &way.url, "--log-level", "debug"]);
    let known = "all keys that contacts hold are known";
    until("nothing else is being asked for", || service.log().contains(known));
    let mut owner = ledger.owner().await;
    hold_head(&mut owner).await;
    let lose = async {
        let waiting = "select true from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let mut superuser = ledger.superuser().await;
        until_async("an append waits", async || {
            query(waiting).fetch_optional(&mut superuser).await.unwrap().is_some()
        })
        .await;
        way.loses_next.store(true, Ordering::Relaxed);
        sqlx::raw_sql("commit").execute(&mut owner).await.unwrap();
    };
    let seen = Seen::new("a@x.org", "");
    let (answer, ()) = tokio::join!(service.identify(&seen), lose);
    assert_eq!(answer.emails, ["a@x.org"]);
    assert!(service.log().contains("the connection was lost during an append"));
    assert_eq!(ledger.head().await, [2, 1]);
    ledger.verify().await.unwrap();
}

/// The same for a node that has lost a race, and so appends in a transaction under the lock: the
/// connection dies in the middle of it, or while it commits.
#[tokio::test]
async fn a_connection_lost_under_the_lock_is_settled() {
    for trigger in [
        "create trigger held before insert on observation for each row execute function hold()",
        "create constraint trigger held after insert on observation
        deferrable initially deferred for each row execute function hold()",
    ] {
        let ledger = TestLedger::new().await;
        let hold = "create function hold() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared(7); return new; end $$;";
        let mut owner = ledger.owner().await;
        sqlx::raw_sql(AssertSqlSafe(format!("{hold} {trigger}")))
            .execute(&mut owner)
            .await
            .unwrap();
        let other = Service::start(&ledger.url);
        let mut has_lost_a_race = false;
        let mut len = 0;
        while !has_lost_a_race {
            // It loses one if it has looked within the last second, and knows all keys. One that has
            // noticed the other node reads before it decides, for seconds.
            assert!(len < 300, "it loses no race");
            let args = ["--database-url", &ledger.url, "--log-level", "debug"];
            let service = Service::start_with(&args);
            let mut superuser = ledger.superuser().await;
            service.identify(&Seen::new("first@x.org", "")).await;
            let known = "all keys that contacts hold are known";
            until("all keys are known", || service.log().contains(known));
            service.identify(&Seen::new("first@x.org", "")).await;
            other.identify(&Seen::new("first@x.org", "")).await;
            query("select pg_advisory_lock(7)").execute(&mut superuser).await.unwrap();
            let cut = async {
                let held = "select pg_terminate_backend(pid) from pg_stat_activity
                    where datname = current_database() and wait_event = 'advisory'
                        and application_name = 'identity-ledger recorder'";
                until_async("the append is held", async || {
                    query(held).fetch_optional(&mut superuser).await.unwrap().is_some()
                })
                .await;
                superuser.close().await.unwrap();
            };
            // A new one, which no one has: what a key leads to would be read.
            let email = format!("second{len}@x.org");
            let seen = Seen::new(&email, "");
            let (answer, ()) = tokio::join!(service.identify(&seen), cut);
            assert_eq!(answer.emails, [email]);
            len += 4;
            has_lost_a_race = service.log().contains("LostRace");
        }
        let observations = query_scalar::<_, i64>("select count(*) from observation");
        assert_eq!(observations.fetch_one(&mut owner).await.unwrap(), len);
        ledger.verify().await.unwrap();
    }
}

/// The server is there, and would never answer. Its statement timeout hangs with it.
#[tokio::test]
async fn a_server_that_hangs_while_new_rules_are_read_holds_up_no_one_for_long() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("first@x.org", "")).await;
    // A recorder that has noticed that others append reads before it decides, without the lock.
    ledger.append_activation().await;
    service.identify(&Seen::new("second@x.org", "")).await;
    ledger.put_in_force(PHONES_ONLY).await;
    let mut superuser = ledger.superuser().await;
    let lock = "begin; lock table rules in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut superuser).await.unwrap();
    let seen = Seen::new("third@x.org", "");
    let hang = async {
        let waiting = "select pid from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        let mut hanging = None;
        until_async("the rules are being read", async || {
            hanging = query_scalar::<_, i32>(waiting).fetch_optional(&mut superuser).await.unwrap();
            hanging.is_some()
        })
        .await;
        let hanging = hanging.and_then(Pid::from_raw).unwrap();
        kill_process(hanging, Signal::STOP).unwrap();
        sqlx::raw_sql("commit").execute(&mut superuser).await.unwrap();
        hanging
    };
    let (response, hanging) = tokio::join!(service.try_identify(&seen), hang);
    let problem = response.unwrap().json::<Value>().await.unwrap();
    let again = service.try_identify(&seen).await.map(|response| response.status());
    kill_process(hanging, Signal::CONT).unwrap();
    // It is refused only if the session was a new one.
    assert_ne!(problem["recorded"], "unknown");
    assert_eq!(again.unwrap(), 200);
}

/// It may hold the line: no one would wait for it any more, and everyone behind it.
#[tokio::test]
async fn a_long_statement_ends_with_the_command_that_sent_it() {
    let ledger = TestLedger::new().await;
    let mut owner = ledger.database.owner().await.unwrap();
    let pid: i32 = query_scalar("select pg_backend_pid()").fetch_one(&mut owner).await.unwrap();
    let sleeping = query("select pg_sleep(600)").execute(&mut owner);
    assert!(tokio::time::timeout(Duration::from_millis(200), sleeping).await.is_err());
    drop(owner);
    let mut superuser = ledger.superuser().await;
    let is_there = "select exists (select from pg_stat_activity where pid = $1)";
    until_async("it ends", async || {
        !query_scalar::<_, bool>(is_there).bind(pid).fetch_one(&mut superuser).await.unwrap()
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_service_without_open_files_says_so_once_and_goes_on_when_it_has_some() {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let limit = |current| {
        let new = Rlimit { current, ..getrlimit(Resource::Nofile) };
        prlimit(Some(service.pid()), Resource::Nofile, new).unwrap()
    };
    let before = limit(Some(0));
    let waiting = service.get("/health/live");
    let given_back = async {
        let begun = Instant::now();
        until_async("it is told, some tries ago", async || {
            let is_told = service.log().contains("cannot accept connections");
            is_told && begun.elapsed() > Duration::from_millis(500)
        })
        .await;
        limit(before.current);
    };
    let (answer, ()) = tokio::join!(waiting, given_back);
    assert_eq!(answer.status(), 200);
    until("it is told", || service.log().contains("connections are accepted again"));
    assert_eq!(service.log().matches("cannot accept connections").count(), 1);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_open_transaction() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    for n in 0..50 {
        let body = format!(r#"{{"email": "gone{n}@x.org"}}"#);
        let mut client = std::net::TcpStream::connect(&service.address).unwrap();
        let head = "POST /identify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
    service.identify(&Seen::new("stayed@x.org", "")).await;
    // All is answered by now. One that is left open is ended by Postgres after three seconds.
    let mut superuser = ledger.superuser().await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let open = query_scalar::<_, i64>(
        "select count(*) from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%'
            and state_change < now() - interval '1s'",
    );
    assert_eq!(open.fetch_one(&mut superuser).await.unwrap(), 0);
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn no_log_at_any_level_shows_an_identifier() {
    let ledger = TestLedger::new().await;
    let args = ["--database-url", &ledger.url, "--log-level", "trace", "--log-format", "json"];
    let service = Service::start_with(&args);
    let canaries = ["canary@hidden.example", "5550100199"];
    service.identify(&Seen::new(canaries[0], canaries[1])).await;
    let mut shown = Vec::new();
    for body in [
        r#"{"email": "canary@hidden.example", "phoneNumber": "5550100199x"}"#,
        r#"{"email": "canary@hidden.example\u0000"}"#,
        r#"{"email": ["canary@hidden.example"], "phoneNumber": "5550100199"}"#,
        r#"{"phoneNumber": -5550100199}"#,
        r#"{"email": "canary@hidden.example" "phoneNumber": "5550100199"}"#,
        r#"{"email": "canary@hidden.example", "email": "canary@hidden.example"}"#,
        r#""canary@hidden.example""#,
    ] {
        let response = service.post(body).await.unwrap();
        assert_eq!(response.status(), 400);
        shown.push(response.text().await.unwrap());
    }
    set_reachable(&ledger, false).await;
    let away = service.try_identify(&Seen::new(canaries[0], canaries[1])).await.unwrap();
    shown.push(away.text().await.unwrap());
    service.get("/contacts/1").await;
    set_reachable(&ledger, true).await;
    shown.push(service.get("/contacts/canary@hidden.example").await.text().await.unwrap());
    shown.push(service.get("/canary@hidden.example").await.text().await.unwrap());
    shown.push(service.get("/metrics").await.text().await.unwrap());
    shown.push(service.log());
    for canary in canaries {
        assert!(shown.iter().all(|text| !text.contains(canary)), "{shown:?}");
    }
}
