//! The tree, its checkpoints and its proofs are what RFC 6962 and C2SP say.

use crate::support::{
    SERVE, Seen, Service, SigningKey, TestLedger, command, hashes, misuse, random_observations,
    refuses, scratch_dir, succeeds, until, until_async,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::Value;
use sha2::Sha256;
use sqlx::{FromRow, PgConnection, query, query_as, query_scalar};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// The tree over all events, by another implementation.
async fn oracle(ledger: &TestLedger, size: i64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let lines: Vec<String> =
        query_scalar("select line from event where position <= $1 order by position")
            .bind(size)
            .fetch_all(&mut ledger.owner().await)
            .await
            .unwrap();
    assert_eq!(lines.len() as i64, size);
    let mut tree = MemoryBackedTree::new();
    lines.into_iter().for_each(|line| tree.push(line.into_bytes()));
    tree
}

/// What a node does about sealing.
async fn role_of(node: &Service) -> Value {
    node.get_json("/ledger").await["sealing"].take()
}

/// A checkpoint is there before its sealer says that it seals.
async fn until_active(node: &Service) {
    until_async("it seals", async || role_of(node).await == "active").await;
}

/// Waits until one node seals and the other stands by. Returns the index of the one that seals.
async fn until_one_seals(nodes: [&Service; 2]) -> usize {
    let mut active = None;
    until_async("one seals and the other stands by", async || {
        let roles = [role_of(nodes[0]).await, role_of(nodes[1]).await];
        let found = roles.iter().position(|role| role == "active");
        active = found.filter(|active| roles[1 - active] == "standby");
        active.is_some()
    })
    .await;
    active.unwrap()
}

/// The session that has the lock of the one sealer.
#[derive(FromRow)]
struct LockHolder {
    pid: i32,
    backend_start: DateTime<Utc>,
    query_start: DateTime<Utc>,
}

impl LockHolder {
    /// None for a moment when the lock goes from one session to another.
    async fn now(session: &mut PgConnection) -> Option<Self> {
        let holder = "
            select a.pid, a.backend_start, a.query_start
            from pg_locks as l
            join pg_stat_activity as a on a.pid = l.pid
            where l.locktype = 'advisory' and a.application_name = 'identity-ledger sealer'
                and a.datname = current_database()";
        query_as(holder).fetch_optional(session).await.unwrap()
    }

    async fn once_there_is_one(session: &mut PgConnection) -> Self {
        let mut holder = None;
        until_async("a sealer has the lock", async || {
            holder = Self::now(session).await;
            holder.is_some()
        })
        .await;
        holder.unwrap()
    }

    /// The number of a process may be given out again.
    fn id(&self) -> (i32, DateTime<Utc>) {
        (self.pid, self.backend_start)
    }

    /// Whether it keeps the lock for as long as that, and for how long it was silent at most meanwhile.
    async fn keeps(&self, time: Duration, session: &mut PgConnection) -> (bool, Duration) {
        let begun = Instant::now();
        let (mut last, mut silence_max) = (self.query_start, Duration::ZERO);
        loop {
            let holder = Self::now(session).await.filter(|holder| holder.id() == self.id());
            last = holder.as_ref().map_or(last, |holder| holder.query_start);
            let silence = SystemTime::now().duration_since(last.into());
            silence_max = silence_max.max(silence.unwrap_or_default());
            if holder.is_none() || begun.elapsed() >= time {
                return (holder.is_some(), silence_max);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn proofs_convince_another_implementation() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    let mut old: Vec<RootHash<Sha256>> = Vec::new();
    for round in 0..3 {
        service.identify_all(&random_observations(round, 400, 90)).await;
        let (size, root) = service.sealed().await;
        let tree = oracle(&ledger, size).await;
        assert_eq!(BASE64_STANDARD.encode(tree.root().as_bytes()), root);
        for position in [1, 2, 255, 256, 257, size / 2, size - 1, size] {
            let path = format!("/ledger/proof/inclusion?position={position}");
            let proof = service.get_json(&path).await;
            assert_eq!(
                (&proof["leafIndex"], &proof["size"]),
                (&(position - 1).into(), &size.into())
            );
            let path = InclusionProof::from_bytes(hashes(&proof));
            let index = position as u64 - 1;
            let line = tree.get(index as usize).unwrap();
            tree.root().verify_inclusion(line, index, &path).unwrap();
        }
        for old in &old {
            let path = format!("/ledger/proof/consistency?from={}", old.num_leaves());
            let proof = service.get_json(&path).await;
            assert_eq!(proof["to"], size);
            let proof = ConsistencyProof::try_from_bytes(hashes(&proof)).unwrap();
            tree.root().verify_consistency(old, &proof).unwrap();
        }
        old.push(tree.root());
    }
    let path = format!("/ledger/proof/inclusion?position=7&size={}", old[0].num_leaves());
    let path = InclusionProof::from_bytes(hashes(&service.get_json(&path).await));
    let line = oracle(&ledger, 7).await.get(6).unwrap().clone();
    old[0].verify_inclusion(&line, 6, &path).unwrap();
}

#[tokio::test]
async fn a_proof_that_cannot_be_is_refused() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    service.identify_all(&random_observations(1, 20, 10)).await;
    let (size, _) = service.sealed().await;
    let beyond = size + 1;
    for (query, says) in [
        ("inclusion".to_owned(), "position: expected a whole number from 1 to"),
        ("inclusion?position=0".to_owned(), "position: expected a whole number from 1 to"),
        (format!("inclusion?position={beyond}"), "position: expected a whole number from 1 to"),
        ("inclusion?position=4&size=3".to_owned(), "position: expected a whole number from 1 to 3"),
        (format!("inclusion?position=1&size={beyond}"), "size: expected a whole number from 1 to"),
        ("inclusion?position=1&size=canary".to_owned(), "size: expected a whole number from 1 to"),
        ("inclusion?position=1&position=1".to_owned(), "each parameter once"),
        ("consistency".to_owned(), "from: expected a whole number from 1 to"),
        ("consistency?from=0".to_owned(), "from: expected a whole number from 1 to"),
        ("consistency?from=4&to=3".to_owned(), "from: expected a whole number from 1 to 3"),
        (format!("consistency?from=1&to={beyond}"), "to: expected a whole number from 1 to"),
    ] {
        let response = service.get(&format!("/ledger/proof/{query}")).await;
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(says), "{query}: {problem}");
        assert!(!problem.to_string().contains("canary"));
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_sealed_and_the_ledger_says_so() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x.org", "1")).await;
    let told = service.get_json("/ledger").await;
    assert_eq!((&told["sealing"], &told["checkpoint"]), (&"off".into(), &Value::Null));
    assert_eq!((&told["position"], &told["lag"]), (&2.into(), &2.into()));
    assert_eq!(told["rules"]["name"], "default");
    assert!(service.log().contains("there is no signing key"));
    for path in ["checkpoint", "key", "proof/inclusion?position=1", "proof/consistency?from=1"] {
        assert_eq!(service.get(&format!("/ledger/{path}")).await.status(), 404, "{path}");
    }
}

/// As when a line is lost from an environment file: the alerts must be able to tell.
#[tokio::test]
async fn a_node_that_has_lost_its_key_warns_and_counts_what_is_not_sealed() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    service.identify(&Seen::new("a@x.org", "1")).await;
    assert_eq!(service.sealed().await.0, 2);
    assert!(service.stop().success());
    let service = Service::start(&ledger.url);
    assert!(service.log().contains("WARN"), "{}", service.log());
    assert!(service.log().contains("the ledger is sealed, and there is no signing key"));
    service.identify(&Seen::new("b@x.org", "2")).await;
    until_async("both are counted", async || {
        let text = service.get("/metrics").await.text().await.unwrap();
        text.contains("identity_ledger_sealed_events 2\n")
            && text.contains("identity_ledger_seal_lag_events 1\n")
    })
    .await;
}

#[tokio::test]
async fn under_load_a_checkpoint_is_signed_a_few_times_a_second() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    let (size, _) = service.sealed().await;
    let mut owner = ledger.owner().await;
    let before = checkpoints_len(&mut owner).await;
    let begun = Instant::now();
    let all = random_observations(50, 16_000, 4_000);
    let is_over = AtomicBool::new(false);
    let load = join_all(all.chunks(1_000).map(async |mine| {
        service.observe(mine.iter().cycle().take_while(|_| !is_over.load(Ordering::Relaxed))).await;
    }));
    let sealing = async {
        let has_sealed = async || checkpoints_len(&mut owner).await >= before + 6;
        until_async("it seals under load", has_sealed).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, sealing);
    let signed = checkpoints_len(&mut owner).await - before;
    let looks = (begun.elapsed().as_millis() / 400) as i64;
    assert!(signed <= looks + 2, "{signed} checkpoints in {looks} looks");
    assert!(begun.elapsed() < Duration::from_secs(15), "{signed} in {:?}", begun.elapsed());
    // The first event that a checkpoint covers and the one before does not has waited the longest. A machine
    // that stalls delays some of the checkpoints, and not most of them.
    let delay = "
        select (1000 * extract(epoch from
            percentile_disc(0.5) within group (order by c.signed_at - e.recorded_at)))::bigint
        from (
            select signed_at, lag(size) over (order by size) as size_before from checkpoint
        ) as c
        join event as e on e.position = c.size_before + 1
        where c.size_before >= $1";
    let delay_ms: i64 = query_scalar(delay).bind(size).fetch_one(&mut owner).await.unwrap();
    assert!(delay_ms < 1_000, "half of {signed} take {delay_ms} ms or longer");
}

/// While both record, and when the one that seals goes away.
#[tokio::test]
async fn of_two_nodes_one_seals_and_the_other_takes_over() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let nodes = [Service::start_with(&key.args(&ledger)), Service::start_with(&key.args(&ledger))];
    let all = random_observations(5, 2_000, 500);
    let (one, two) = all.split_at(1_000);
    tokio::join!(nodes[0].identify_all(one), nodes[1].identify_all(two));
    nodes[0].sealed().await;
    nodes[1].sealed().await;
    let active = until_one_seals(nodes.each_ref()).await;
    let sealed = format!("identity_ledger_sealed_events {}\n", ledger.position().await);
    for node in &nodes {
        until_async("each node measures how far all is sealed", async || {
            node.get("/metrics").await.text().await.unwrap().contains(&sealed)
        })
        .await;
    }

    let [first, second] = nodes;
    let (active, standby) = if active == 0 { (first, second) } else { (second, first) };
    active.signal(Signal::KILL);
    standby.identify_all(&random_observations(6, 500, 200)).await;
    let (size, root) = standby.sealed().await;
    until_active(&standby).await;
    assert_eq!(BASE64_STANDARD.encode(oracle(&ledger, size).await.root().as_bytes()), root);
}

#[tokio::test]
async fn a_sealer_that_is_killed_at_any_point_is_gone_on_from() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let mut owner = ledger.owner().await;
    for round in 0..6 {
        let before = checkpoints_len(&mut owner).await;
        let service = Service::start_with(&key.args(&ledger));
        let all = random_observations(20 + round, 4_000, 1_000);
        let kill = async {
            let has_sealed = async || checkpoints_len(&mut owner).await > before + 1;
            until_async("it seals under load", has_sealed).await;
            // Each time at another point between two looks at the head.
            tokio::time::sleep(Duration::from_millis(70 * round)).await;
            service.signal(Signal::KILL);
        };
        let load = join_all(all.chunks(250).map(async |mine| {
            for seen in mine.iter().cycle() {
                if service.try_identify(seen).await.is_err() {
                    break;
                }
            }
        }));
        tokio::join!(load, kill);
    }
    let service = Service::start_with(&key.args(&ledger));
    let (size, root) = service.sealed().await;
    let tree = oracle(&ledger, size).await;
    assert_eq!(BASE64_STANDARD.encode(tree.root().as_bytes()), root);
}

async fn checkpoints_len(session: &mut PgConnection) -> i64 {
    query_scalar("select count(*) from checkpoint").fetch_one(session).await.unwrap()
}

/// As when a node hangs: its lock is taken from it, and it cannot sign when it comes back.
#[tokio::test]
async fn a_sealer_that_hangs_is_replaced() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let hanging = Service::start_with(&key.args(&ledger));
    hanging.sealed().await;
    let other = Service::start_with(&key.args(&ledger));
    hanging.signal(Signal::STOP);
    other.identify(&Seen::new("a@x.org", "1")).await;
    other.sealed().await;
    until_active(&other).await;
    hanging.signal(Signal::CONT);
    // By then it has seen that its session is gone.
    until_one_seals([&hanging, &other]).await;
    let metrics = hanging.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("identity_ledger_sealing_refused 0"));
    assert!(!hanging.log().contains("nothing more is sealed"));
    other.identify(&Seen::new("b@x.org", "1")).await;
    other.sealed().await;
    succeeds(command(&["verify"]).args(key.args(&ledger)));
}

/// For longer than Postgres bears a session that is silent. Others may know nothing of what was signed.
#[tokio::test]
async fn a_sealer_that_refuses_keeps_the_others_from_signing() {
    for attempts_left in (0..3).rev() {
        let ledger = TestLedger::new().await;
        let key = SigningKey::new();
        let service = Service::start_with(&key.args(&ledger));
        service.identify(&Seen::new("a@x.org", "1")).await;
        service.sealed().await;
        let mut superuser = ledger.superuser().await;
        let rewrite = r#"
            alter table checkpoint disable trigger all;
            truncate tile, checkpoint;
            alter table event disable trigger all;
            update event set line = replace(line, ':"new"', ':"old"');
            select pg_terminate_backend(pid)
            from pg_stat_activity
            where application_name = 'identity-ledger sealer' and datname = current_database();
        "#;
        sqlx::raw_sql(rewrite).execute(&mut superuser).await.unwrap();
        until("it refuses", || service.log().contains("nothing more is sealed"));
        let holder = LockHolder::once_there_is_one(&mut superuser).await;
        let other = Service::start_with(&key.args(&ledger));
        let (is_kept, silence_max) = holder.keeps(Duration::from_secs(6), &mut superuser).await;
        // On a machine that stalls for so long, every sealer loses its lock.
        if !is_kept && silence_max > Duration::from_secs(4) && attempts_left > 0 {
            continue;
        }
        assert!(is_kept, "silent for {silence_max:?}");
        assert_eq!(checkpoints_len(&mut superuser).await, 0);
        assert_eq!(role_of(&other).await, "standby");
        return;
    }
}

/// No checkpoint outside shows it here: only the one in the database does.
#[tokio::test]
async fn a_tree_that_was_damaged_is_not_gone_on_from() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    service.observe([("a@x.org", "1"), ("b@x.org", "2")]).await;
    service.sealed().await;
    assert!(service.stop().success());
    let mut superuser = ledger.superuser().await;
    let signed = checkpoints_len(&mut superuser).await;
    let damage = "update tile set hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0))";
    query(damage).execute(&mut superuser).await.unwrap();
    let service = Service::start_with(&key.args(&ledger));
    service.identify(&Seen::new("c@x.org", "3")).await;
    until_async("it refuses", async || role_of(&service).await == "refused").await;
    assert_eq!(checkpoints_len(&mut superuser).await, signed);
}

#[tokio::test]
async fn sealing_goes_on_when_postgres_comes_back() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    let mut superuser = ledger.superuser().await;
    service.sealed().await;
    for round in 0..5 {
        let kill = "
            select pg_terminate_backend(pid)
            from pg_stat_activity
            where application_name = 'identity-ledger sealer' and datname = current_database()";
        until_async("it is killed", async || {
            query(kill).fetch_optional(&mut superuser).await.unwrap().is_some()
        })
        .await;
        service.identify_all(&random_observations(30 + round, 200, 90)).await;
        service.sealed().await;
    }
    until("it is told", || service.log().contains("sealing waits for Postgres"));
    succeeds(command(&["verify"]).args(key.args(&ledger)));
}

/// A right that is missing, say, which a new session does not bring back, nor another node.
#[tokio::test]
async fn that_checkpoints_are_refused_is_told_once() {
    // What a sequence has given out stays so when the transaction is rolled back.
    let refuse = "
        create sequence attempt;
        create function refuse() returns trigger language plpgsql as $$
        begin
            perform nextval('attempt');
            raise insufficient_privilege;
        end
        $$;
        create trigger refuse before insert on checkpoint for each row execute function refuse();
    ";
    let told = "nothing is sealed until this is put right: Postgres refused the statement (SQLSTATE 42501)";
    for attempts_left in (0..3).rev() {
        let ledger = TestLedger::new().await;
        let key = SigningKey::new();
        let service = Service::start_with(&key.args(&ledger));
        service.sealed().await;
        let mut owner = ledger.owner().await;
        let before = LockHolder::once_there_is_one(&mut owner).await.id();
        let other = Service::start_with(&key.args(&ledger));
        sqlx::raw_sql(refuse).execute(&mut owner).await.unwrap();
        service.identify(&Seen::new("a@x.org", "1")).await;
        until_async("it is tried several times", async || {
            let attempts = query_scalar::<_, i64>("select last_value from attempt");
            attempts.fetch_one(&mut owner).await.unwrap() > 3
        })
        .await;
        let logs = [service.log(), other.log()];
        let roles = [role_of(&service).await, role_of(&other).await];
        let after = LockHolder::now(&mut owner).await.map(|holder| holder.id());
        // On a machine that stalls for seconds, Postgres ends the session of either of them.
        let is_lost = after != Some(before) || logs[1].contains("sealing waits");
        if is_lost && attempts_left > 0 {
            continue;
        }
        assert_eq!(after, Some(before));
        assert_eq!(logs[0].matches(told).count(), 1, "{}", logs[0]);
        assert!(!logs.concat().contains("sealing waits"));
        assert_eq!(roles, ["stuck", "standby"]);
        query("drop trigger refuse on checkpoint").execute(&mut owner).await.unwrap();
        service.sealed().await;
        return;
    }
}

/// As after a crash between the two places that a checkpoint is written to.
#[tokio::test]
async fn a_checkpoint_that_only_the_directory_has_is_agreed_with() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let args = key.args_with_outside(&ledger, key.dir());
    let start = || Service::start_with(&args);
    let service = start();
    service.identify_all(&random_observations(40, 400, 100)).await;
    let (size, root) = service.sealed().await;
    assert!(service.stop().success());
    let file = key.dir().join("ledger.checkpoint");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains(&format!("\n{size}\n{root}\n")));

    let forget = "
        alter table checkpoint disable trigger all;
        truncate tile, checkpoint;
        alter table checkpoint enable always trigger append_only;
    ";
    sqlx::raw_sql(forget).execute(&mut ledger.superuser().await).await.unwrap();
    let service = start();
    assert_eq!(service.sealed().await, (size, root));
    service.identify(&Seen::new("a@x.org", "1")).await;
    service.sealed().await;
    assert!(service.stop().success());
    assert_ne!(std::fs::read_to_string(&file).unwrap(), kept);
    succeeds(command(&["verify"]).args(args));

    // The same with another history in between: nothing is signed.
    let rewrite = r#"
        alter table event disable trigger all;
        update event set line = replace(line, ':"new"', ':"old"')
        where position = (select min(position) from event where line like '%:"new"%');
    "#;
    let mut superuser = ledger.superuser().await;
    sqlx::raw_sql(&*format!("{forget}{rewrite}").leak()).execute(&mut superuser).await.unwrap();
    let said = refuses(command(SERVE).args(args));
    assert!(said.contains("differs from a checkpoint kept outside"), "{said}");
    assert_eq!(checkpoints_len(&mut superuser).await, 0);
}

/// As on a full disk: nothing was tampered with, and no one is told that it was.
#[tokio::test]
async fn a_checkpoint_directory_that_cannot_be_written_is_no_contradiction() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let (dir, aside) = (key.dir().join("outside"), key.dir().join("aside"));
    let service = Service::start_with(&key.args_with_outside(&ledger, &dir));
    service.sealed().await;
    std::fs::rename(&dir, &aside).unwrap();
    std::fs::write(&dir, "").unwrap();
    service.identify(&Seen::new("a@x.org", "1")).await;
    until("it is stuck", || service.log().contains("nothing is sealed until this is put right"));
    let told = service.get_json("/ledger").await;
    assert_eq!(told["sealing"], "stuck");
    assert!(told["refusal"].as_str().unwrap().contains("cannot read or write"), "{told}");
    let metrics = service.get("/metrics").await.text().await.unwrap();
    for line in ["identity_ledger_sealing_stuck 1", "identity_ledger_sealing_refused 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    // The lock is kept for longer than Postgres bears a session that is silent, unless the machine stalls.
    let mut owner = ledger.owner().await;
    let mut is_kept = false;
    for _ in 0..3 {
        let holder = LockHolder::once_there_is_one(&mut owner).await;
        (is_kept, _) = holder.keeps(Duration::from_secs(6), &mut owner).await;
        if is_kept {
            break;
        }
    }
    assert!(is_kept);
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    service.sealed().await;
    until_active(&service).await;
}

/// As when its disk is not mounted any more: in its place a new directory would hold nothing of what was
/// signed.
#[tokio::test]
async fn a_checkpoint_directory_that_vanishes_is_missed_and_not_made_anew() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let (dir, aside) = (key.dir().join("outside"), key.dir().join("aside"));
    let service = Service::start_with(&key.args_with_outside(&ledger, &dir));
    service.sealed().await;
    std::fs::rename(&dir, &aside).unwrap();
    service.identify(&Seen::new("a@x.org", "1")).await;
    until("it is stuck", || service.log().contains("nothing is sealed until this is put right"));
    // The next looks begin anew.
    let looked = "select max(query_start) from pg_stat_activity
        where datname = current_database() and application_name = 'identity-ledger sealer'";
    let mut owner = ledger.owner().await;
    let last: DateTime<Utc> = query_scalar(looked).fetch_one(&mut owner).await.unwrap();
    until_async("it has looked again", async || {
        let now: DateTime<Utc> = query_scalar(looked).fetch_one(&mut owner).await.unwrap();
        now > last + Duration::from_secs(1)
    })
    .await;
    assert_eq!(service.get_json("/ledger").await["sealing"], "stuck");
    assert!(!dir.exists());
    std::fs::rename(&aside, &dir).unwrap();
    service.sealed().await;
}

/// What was signed by a former key still counts when it is listed behind the new one.
#[tokio::test]
async fn a_key_can_be_changed() {
    let ledger = TestLedger::new().await;
    let (former, key) = (SigningKey::new(), SigningKey::new());
    let service = Service::start_with(&former.args(&ledger));
    service.sealed().await;
    assert!(service.stop().success());

    let service = Service::start_with(&key.args(&ledger));
    until("it refuses", || service.log().contains("it is not signed with a key of this log"));
    drop(service);
    let private = std::fs::read_to_string(key.file()).unwrap();
    std::fs::write(key.file(), format!("{private}{}\n", former.verifier_key)).unwrap();
    let service = Service::start_with(&key.args(&ledger));
    service.identify(&Seen::new("a@x.org", "1")).await;
    service.sealed().await;
    let keys = service.get("/ledger/key").await.text().await.unwrap();
    assert_eq!(keys, format!("{}\n{}\n", key.verifier_key, former.verifier_key));
    succeeds(command(&["verify"]).args(key.args(&ledger)));
    refuses(command(&["verify"]).args(former.args(&ledger)));
}

#[test]
fn a_key_is_made_once_for_its_owner_only() {
    let key = SigningKey::new();
    assert!(key.verifier_key.starts_with("ledger.test/shop+"), "{}", key.verifier_key);
    let secret = std::fs::read_to_string(key.file()).unwrap();
    assert!(secret.starts_with("PRIVATE+KEY+ledger.test/shop+"));
    let mode = std::fs::metadata(key.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = refuses(command(&["key", "new"]).arg(key.file()));
    assert!(said.contains("a key is never overwritten"), "{said}");
    assert_eq!(std::fs::read_to_string(key.file()).unwrap(), secret);
    let other = key.dir().join("other.key");
    for (name, why) in [("a b", "without blanks"), ("shop/restored-7", "after an accepted loss")] {
        let said = misuse(command(&["key", "new", "--name", name]).arg(&other));
        assert!(said.contains("'--name <NAME>'") && said.contains(why), "{said}");
    }
    assert!(!other.exists());
    let named = succeeds(command(&["key", "new", "--ledger", "shop"]).arg(&other));
    assert!(named.starts_with("identity-ledger/shop+"), "{named}");
    assert_eq!(std::fs::read_dir(key.dir()).unwrap().count(), 2, "nothing is left beside them");
}

#[tokio::test]
async fn a_key_that_is_none_stops_the_start() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    std::fs::write(key.dir().join("none"), "PRIVATE+KEY+canary").unwrap();
    for (name, says) in [("none", "is not a key"), ("missing", "cannot read the key")] {
        let file = key.dir().join(name);
        let mut serve = command(SERVE);
        serve.args(["--database-url", &ledger.url]).env("SIGNING_KEY", &file);
        let said = refuses(&mut serve);
        assert!(said.contains(says) && !said.contains("canary"), "{said}");
    }
}

/// A key in the data directory, the same at the next start.
#[tokio::test]
async fn with_the_private_postgres_a_key_is_made() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let start = || Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    let service = start();
    service.identify(&Seen::new("a@x.org", "1")).await;
    service.sealed().await;
    let key = service.get("/ledger/key").await.text().await.unwrap();
    assert!(key.starts_with("identity-ledger/ledger+"), "{key}");
    assert!(service.stop().success());
    let file = data_dir.join("ledger.key");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    let service = start();
    service.identify(&Seen::new("b@x.org", "2")).await;
    service.sealed().await;
    assert_eq!(service.get("/ledger/key").await.text().await.unwrap(), key);
    assert!(service.stop().success());
}

/// A service that is stopped seals what it has recorded before it ends.
#[tokio::test]
async fn the_last_events_of_a_service_are_sealed() {
    let ledger = TestLedger::new().await;
    let key = SigningKey::new();
    let service = Service::start_with(&key.args(&ledger));
    service.sealed().await;
    service.identify_all(&random_observations(9, 50, 20)).await;
    assert!(service.stop().success());
    let behind: i64 =
        query_scalar("select position - (select max(size) from checkpoint) from head")
            .fetch_one(&mut ledger.owner().await)
            .await
            .unwrap();
    assert_eq!(behind, 0);
}
