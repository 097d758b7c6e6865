//! A database that has gone back in time is noticed, and can be gone on with: no one who was erased
//! comes back, nothing that was given out is given again, and the ledger says what was lost.

use crate::support::{
    CHECK_EXPORT, DEFAULT_FILE, EXACT_FILE, SERVE, Seen, Service, SigningKey, TestLedger, command,
    hashes, misuse, random_observations, refuses, succeeds, until_async,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof};
use identity_ledger::backup::{self, Acceptance};
use identity_ledger::identity::EXACT_RULES;
use identity_ledger::seal::{self, CheckpointDir, Found, SealInputs};
use serde_json::Value;
use sha2::Sha256;
use sqlx::{AssertSqlSafe, Connection as _, query, query_scalar};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A ledger of which there is a backup from before some of its events, and an export from after them.
struct Lost {
    key: SigningKey,
    /// As it was in the end.
    ledger: TestLedger,
    /// Who was known when the backup was made, and was erased since.
    erased: Seen,
    erased_id: i64,
    /// The last position and the last number that were given out.
    position: i64,
    number: i64,
}

const BEFORE: usize = 300;

impl Lost {
    async fn new() -> Self {
        let (key, ledger) = (SigningKey::new(), TestLedger::new().await);
        let erased = Seen::new("canary@lost.example", "0049");
        let service = Service::start_with(&args(&key, &ledger));
        service.identify_all(&random_observations(1, BEFORE, 100)).await;
        let erased_id = service.identify(&erased).await.primary_contact_id;
        service.sealed().await;
        assert!(service.stop().success());
        let lost = Self { key, ledger, erased, erased_id, position: 0, number: 0 };
        succeeds(command(&["backup"]).arg(lost.backup()).args(lost.url()));
        fs::copy(lost.outside(), lost.old_checkpoint()).unwrap();
        lost.goes_on().await
    }

    async fn goes_on(self) -> Self {
        let service = Service::start_with(&args(&self.key, &self.ledger));
        service.identify_all(&random_observations(2, 200, 100)).await;
        let later = service.identify(&Seen::new("later@lost.example", "0050")).await;
        assert_eq!(service.erase(self.erased_id).await.status(), 200);
        assert_eq!(service.erase(later.primary_contact_id).await.status(), 200);
        service.sealed().await;
        assert!(service.stop().success());
        succeeds(command(&["export"]).arg(self.export()).args(self.key.args(&self.ledger)));
        // Not all that was given out is under the last checkpoint that was kept.
        let service = Service::start(&self.ledger.url);
        service.identify_all(&random_observations(3, 50, 100)).await;
        assert!(service.stop().success());
        let [position, number] = self.ledger.head().await;
        Self { position, number, ..self }
    }

    fn url(&self) -> [&str; 2] {
        ["--database-url", &self.ledger.url]
    }

    fn backup(&self) -> PathBuf {
        self.key.dir().join("backup")
    }

    fn export(&self) -> PathBuf {
        self.key.dir().join("export")
    }

    fn outside(&self) -> PathBuf {
        self.key.dir().join("ledger.checkpoint")
    }

    /// That the backup ends with.
    fn old_checkpoint(&self) -> PathBuf {
        self.key.dir().join("old.checkpoint")
    }

    /// What is left, in a database of its own.
    async fn restored(&self) -> TestLedger {
        let left = TestLedger::empty_database().await;
        succeeds(command(&["restore", "--database-url", &left.url]).arg(self.backup()));
        left
    }

    fn serve(&self, left: &TestLedger) -> Command {
        let mut serve = command(SERVE);
        serve.args(args(&self.key, left));
        serve
    }

    fn accept(&self, left: &TestLedger) -> Command {
        let mut accept = self.accept_undecided(left);
        accept.arg("--no-erasures");
        accept
    }

    /// Without a word on those who were erased.
    fn accept_undecided(&self, left: &TestLedger) -> Command {
        let mut accept = command(&["restore", "--accept-loss", "--reason", "the disk died"]);
        accept.args(args(&self.key, left)).args(["--by", "an-operator", "--yes"]);
        accept
    }

    fn accept_with_erasures(&self, left: &TestLedger) -> Command {
        let mut accept = self.accept_undecided(left);
        accept.arg("--erasures").arg(self.export());
        accept
    }

    /// An export of what has gone on since.
    fn export_of(&self, left: &TestLedger) -> PathBuf {
        let dir = self.key.dir().join("later");
        succeeds(command(&["export"]).arg(&dir).args(self.key.args(left)));
        dir
    }

    fn verify(&self, left: &TestLedger) -> String {
        succeeds(command(&["verify"]).args(args(&self.key, left)))
    }
}

/// With the checkpoint outside beside the key.
fn args<'a>(key: &'a SigningKey, ledger: &'a TestLedger) -> [&'a str; 6] {
    key.args_with_outside(ledger, key.dir())
}

async fn lines(ledger: &TestLedger) -> Vec<String> {
    let lines = query_scalar("select line from event order by position");
    lines.fetch_all(&mut ledger.owner().await).await.unwrap()
}

/// Of the one loss that was accepted last.
async fn restored_event(service: &Service) -> Value {
    service.pages("/events?kind=LedgerRestored").await.pop().unwrap()["event"].take()
}

#[tokio::test]
async fn a_lost_ledger_is_gone_on_with_and_nothing_is_given_out_twice() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let [left_position, left_number] = left.head().await;
    assert!(left_position < lost.position && left_number < lost.number);
    let left_lines = lines(&left).await;

    let said = refuses(&mut lost.serve(&left));
    assert!(said.contains("gone back in time"), "{said}");
    assert!(said.contains("identity-ledger restore --accept-loss --reason TEXT"), "{said}");
    let kept = fs::read_to_string(lost.outside()).unwrap();
    let said = succeeds(&mut lost.accept_with_erasures(&left));
    assert!(said.contains("erased again: 1 customer"), "{said}");
    let said = lost.verify(&left);
    assert!(said.contains("verified: it ends with the checkpoint outside"), "{said}");

    let service = Service::spawn(&mut lost.serve(&left));
    // The loss is in the ledger, and says what was signed and what is left.
    let event = restored_event(&service).await;
    let position = event["position"].as_i64().unwrap();
    let data = &event["data"];
    let mut kept_lines = kept.lines().skip(1);
    assert_eq!(data["oldSize"].to_string(), kept_lines.next().unwrap());
    assert_eq!(data["oldRoot"], kept_lines.next().unwrap());
    assert_eq!(data["newSize"], left_lines.len());
    assert_eq!(
        (&data["reason"], &data["acceptedBy"]),
        (&"the disk died".into(), &"an-operator".into())
    );
    let aside = lost.key.dir().join(format!("ledger.checkpoint.lost-{position}"));
    assert_eq!(fs::read_to_string(aside).unwrap(), kept, "the evidence is kept");

    // The numbers of reads have gone on, too.
    let reads = query_scalar("select id from access where route = 'restore --accept-loss'");
    let read: i64 = reads.fetch_one(&mut left.owner().await).await.unwrap();
    assert!(read >= 1_000_000_000, "{read}");

    // Who was erased stays erased.
    assert_eq!(service.get(&format!("/contacts/{}", lost.erased_id)).await.status(), 410);
    assert_eq!(service.lookup(&lost.erased).await.status(), 404);

    // No number and no position is given out again.
    let seen = Seen::new("new@x.example", "99");
    let response = service.try_identify(&seen).await.unwrap();
    let given: i64 = response.headers()["ledger-position"].to_str().unwrap().parse().unwrap();
    assert!(position > lost.position && given > position, "{position} {given}");
    let answer: Value = response.json().await.unwrap();
    let number = answer["contact"]["primaryContactId"].as_i64().unwrap();
    assert!(number > lost.number, "{number} was given out");
    assert_eq!(data["nextObservationId"], number);
    for skipped in [left_number + 1, lost.number, number - 1] {
        for path in [format!("/contacts/{skipped}"), format!("/contacts/{skipped}/history")] {
            assert_eq!(service.get(&path).await.status(), 404, "{path} was skipped");
        }
    }

    // A consumer of the lost ledger goes on with the event that tells of the loss.
    let page = service.get_json(&format!("/events?after={}", lost.position)).await;
    assert_eq!(page["events"][0]["event"], event);
    let all = service.get_with("/events", &[("accept", "application/x-ndjson".to_owned())]).await;
    let all = all.text().await.unwrap();
    assert_eq!(all.lines().count(), lines(&left).await.len());
    // A moment in the gap is that before it.
    for as_of in [left_position, lost.position, position] {
        let then = service.contact_as_of(1, &as_of.to_string()).await;
        assert_eq!(then, service.contact_as_of(1, &left_position.to_string()).await);
    }
    let time = event["recordedAt"].as_str().unwrap();
    assert!(service.contact_as_of(1, time).await.is_some());
    assert!(service.stop().success());
    lost.verify(&left);
    let said = refuses(&mut lost.accept(&left));
    assert!(said.contains("nothing is lost"), "{said}");
}

#[tokio::test]
async fn what_goes_on_is_proven_in_its_new_name() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let left_len = lines(&left).await.len();
    let said = succeeds(&mut lost.accept(&left));
    let service = Service::spawn(&mut lost.serve(&left));
    service.identify_all(&random_observations(7, 40, 20)).await;
    service.sealed().await;
    let position = restored_event(&service).await["position"].as_i64().unwrap();
    assert!(service.stop().success());

    let service = Service::spawn(&mut lost.serve(&left));
    let keys = service.get("/ledger/key").await.text().await.unwrap();
    let [new_key, old_key] = keys.lines().collect::<Vec<_>>()[..] else { panic!("{keys}") };
    assert_eq!(old_key, lost.key.verifier_key);
    assert!(new_key.starts_with(&format!("ledger.test/shop/restored-{position}+")), "{new_key}");
    assert!(said.contains(new_key), "{said}");
    let note = service.get("/ledger/checkpoint").await.text().await.unwrap();
    assert!(note.starts_with(&format!("ledger.test/shop/restored-{position}\n")), "{note}");
    let mut told = Value::Null;
    until_async("one seals", async || {
        told = service.get_json("/ledger").await;
        told["sealing"] != "standby"
    })
    .await;
    assert_eq!((&told["lag"], &told["sealing"]), (&0.into(), &"active".into()));

    // Another implementation is convinced, at both sides of the gap.
    let lines = lines(&left).await;
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut old_root = None;
    for line in &lines {
        tree.push(line.clone().into_bytes());
        old_root = if tree.len() == left_len as u64 { Some(tree.root()) } else { old_root };
    }
    assert_eq!(told["checkpoint"]["size"], lines.len());
    assert_eq!(note.lines().nth(2).unwrap(), BASE64_STANDARD.encode(tree.root().as_bytes()));
    let last = left.position().await;
    for (position, index) in [
        (1, 0),
        (left_len, left_len - 1),
        (position as usize, left_len),
        (last as usize, lines.len() - 1),
    ] {
        let path = format!("/ledger/proof/inclusion?position={position}");
        let proof = service.get_json(&path).await;
        assert_eq!(proof["leafIndex"], index, "{path}");
        let hashes = InclusionProof::from_bytes(hashes(&proof));
        let line = lines[index].clone().into_bytes();
        tree.root().verify_inclusion(&line, index as u64, &hashes).unwrap();
    }
    for skipped in [left_len as i64 + 1, position - 1] {
        let path = format!("/ledger/proof/inclusion?position={skipped}");
        assert_eq!(service.get(&path).await.status(), 404, "{path}");
    }
    let path = format!("/ledger/proof/consistency?from={left_len}");
    let proof = ConsistencyProof::try_from_bytes(hashes(&service.get_json(&path).await)).unwrap();
    tree.root().verify_consistency(&old_root.unwrap(), &proof).unwrap();
    assert!(service.stop().success());

    // And so are two programs, by an export and the keys, and what was signed before counts.
    let export = lost.key.dir().join("after");
    succeeds(command(&["export", "--observations"]).arg(&export).args(lost.key.args(&left)));
    assert_eq!(fs::read_to_string(export.join("key")).unwrap(), keys);
    let key_file = export.join("key");
    for since in [None, Some(lost.old_checkpoint())] {
        let since = since.iter().flat_map(|file| [Path::new("--since"), file]);
        succeeds(
            command(&["verify", "--export"])
                .arg(&export)
                .arg("--key")
                .arg(&key_file)
                .args(since.clone()),
        );
        succeeds(Command::new("python3").arg(CHECK_EXPORT).arg(&export).arg(&key_file).args(since));
    }
    let old_key = lost.key.dir().join("old.key");
    fs::write(&old_key, &lost.key.verifier_key).unwrap();
    let said = refuses(command(&["verify", "--export"]).arg(&export).arg("--key").arg(&old_key));
    assert!(said.contains("no checkpoint that counts"), "{said}");
    let said =
        refuses(command(&["verify", "--key"]).arg(&old_key).args(["--database-url", &left.url]));
    assert!(said.contains("of another log"), "{said}");
    // What was signed of the lost events proves nothing of these.
    let aside = lost.key.dir().join(format!("ledger.checkpoint.lost-{position}"));
    let mut since = command(&["verify", "--export"]);
    since.arg(&export).arg("--key").arg(&key_file).arg("--since").arg(aside);
    assert!(refuses(&mut since).contains("name"), "in a name that it had no more at that size");
}

/// The second time what had gone on after the first one is lost, with the event that told of it.
#[tokio::test]
async fn a_loss_of_an_accepted_loss_skips_what_was_given_out_after_it() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    succeeds(&mut lost.accept(&left));
    let service = Service::spawn(&mut lost.serve(&left));
    service.identify_all(&random_observations(8, 100, 30)).await;
    assert_eq!(service.erase(lost.erased_id).await.status(), 200);
    service.sealed().await;
    assert!(service.stop().success());
    let export = lost.export_of(&left);
    let [position, number] = left.head().await;

    let again = lost.restored().await;
    let said = refuses(&mut lost.serve(&again));
    assert!(said.contains("gone back in time"), "{said}");
    let said = succeeds(lost.accept_undecided(&again).arg("--erasures").arg(export));
    assert!(said.contains("erased again: 1 customer"), "{said}");
    let service = Service::spawn(&mut lost.serve(&again));
    let event = restored_event(&service).await;
    assert!(event["position"].as_i64().unwrap() > position, "{event}");
    assert!(event["data"]["nextObservationId"].as_i64().unwrap() > number, "{event}");
    service.identify_all(&random_observations(9, 20, 30)).await;
    assert!(service.stop().success());
    lost.verify(&again);
}

#[tokio::test]
async fn an_acceptance_that_was_broken_off_is_finished() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let kept = fs::read_to_string(lost.outside()).unwrap();
    succeeds(&mut lost.accept(&left));
    // As if it had been killed when the event was there, and nothing else.
    fs::write(lost.outside(), kept).unwrap();
    let said = refuses(&mut lost.serve(&left));
    assert!(said.contains("interrupted: run identity-ledger restore --accept-loss"), "{said}");
    // Going on without a word on erasures would lose them for good.
    let said = misuse(&mut lost.accept_undecided(&left));
    assert!(said.contains("--erasures") && said.contains("--no-erasures"), "{said}");
    misuse(lost.accept_with_erasures(&left).arg("--no-erasures"));
    let finished = lost.accept_with_erasures(&left).output().unwrap();
    let shown = String::from_utf8(finished.stderr).unwrap();
    assert!(shown.contains("accepts the loss already, by an-operator at 2"), "{shown}");
    let said = String::from_utf8(finished.stdout).unwrap();
    assert!(said.contains("erased again: 1 customer"), "{said}");
    let service = Service::spawn(&mut lost.serve(&left));
    assert_eq!(service.get(&format!("/contacts/{}", lost.erased_id)).await.status(), 410);
    assert!(service.stop().success());
    let events = "select count(*) from event where kind = 'LedgerRestored'";
    let events: i64 = query_scalar(events).fetch_one(&mut left.owner().await).await.unwrap();
    assert_eq!(events, 1, "the loss was accepted once");
    lost.verify(&left);
}

/// Nothing is signed beside a service that may sign, and the command can be run again.
#[tokio::test]
async fn a_loss_is_not_accepted_to_its_end_beside_another_sealer() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let kept = fs::read_to_string(lost.outside()).unwrap();
    let mut sealer = left.owner().await;
    let lock =
        "select pg_advisory_lock(hashtext('identity-ledger sealer'), hashtext(current_schema()))";
    query(lock).execute(&mut sealer).await.unwrap();
    let refused = lost.accept(&left).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("stop every service"), "{said}");
    assert_eq!(fs::read_to_string(lost.outside()).unwrap(), kept);
    let said = refuses(&mut lost.serve(&left));
    assert!(said.contains("interrupted: run identity-ledger restore --accept-loss"), "{said}");
    sealer.close().await.unwrap();
    succeeds(&mut lost.accept(&left));
    assert!(Service::spawn(&mut lost.serve(&left)).stop().success());
    lost.verify(&left);
}

/// Rule changes, rebuilds and backups bear the gaps.
#[tokio::test]
async fn what_reads_all_of_history_goes_on_over_a_gap() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    succeeds(&mut lost.accept_with_erasures(&left));
    let url = ["--database-url", &left.url];
    let activate = ["rules", "activate", EXACT_FILE, "--reason", "to see", "--yes"];
    let mut owner = left.owner().await;
    let restored = "select position from event where kind = 'LedgerRestored'";
    let restored: i64 = query_scalar(restored).fetch_one(&mut owner).await.unwrap();
    owner.close().await.unwrap();
    for (change, says) in [
        ("kind = 'canary'", "column kind: expected LedgerRestored"),
        ("line = replace(line, '\"newSize\":', '\"newSize\":1')", "line: expected newSize"),
        ("line = replace(line, '\"newSize\":', '\"newSize\":-1')", "line: expected newSize"),
        (
            "line = regexp_replace(line, '\"newSize\":\\d+', '\"newSize\":9223372036854775807')",
            "line: expected newSize",
        ),
        ("line = 'canary'", "line: expected"),
    ] {
        let copy = left.copy().await;
        let change = format!(
            "alter table event disable trigger all;
            update event set {change} where kind = 'LedgerRestored'"
        );
        sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut copy.superuser().await).await.unwrap();
        let said = refuses(command(&["verify"]).args(args(&lost.key, &copy)));
        assert!(said.contains(&format!("event {}: {says}", restored)), "{said}");
    }
    let mut superuser = left.superuser().await;
    let stray = "insert into observation
        select h.observation_id - 1, 1, now(), 'stray@x.org', null, '' from head as h";
    query(stray).execute(&mut superuser).await.unwrap();
    let said = refuses(command(&["verify"]).args(args(&lost.key, &left)));
    assert!(said.contains("observation: expected those up to"), "{said}");
    let gone = "alter table observation disable trigger all;
        delete from observation where email = 'stray@x.org';
        alter table observation enable always trigger append_only;
        alter table observation enable always trigger erased_only";
    sqlx::raw_sql(gone).execute(&mut superuser).await.unwrap();
    // First right behind the gap, then after some more observations.
    succeeds(command(&activate).args(url));
    lost.verify(&left);
    let service = Service::spawn(&mut lost.serve(&left));
    service.identify_all(&random_observations(10, 60, 30)).await;
    let default = activate.map(|arg| if arg == EXACT_FILE { DEFAULT_FILE } else { arg });
    succeeds(command(&["rules", "diff", DEFAULT_FILE]).args(url));
    succeeds(command(&default).args(url));
    succeeds(command(&["rebuild"]).args(url));
    service.identify_all(&random_observations(11, 60, 30)).await;
    assert!(service.stop().success());
    lost.verify(&left);
    let (backup, export) = (lost.key.dir().join("second"), lost.key.dir().join("after"));
    succeeds(command(&["backup"]).arg(&backup).args(url));
    let other = TestLedger::empty_database().await;
    succeeds(command(&["restore", "--database-url", &other.url]).arg(&backup));
    lost.verify(&other);
    succeeds(command(&["export", "--observations"]).arg(&export).args(lost.key.args(&other)));
    succeeds(command(&["verify", "--export"]).arg(&export).arg("--key").arg(export.join("key")));
}

/// What was to be told can be read in the ledger; what was to be done is done.
#[tokio::test]
async fn a_loss_is_accepted_to_the_end_though_nothing_can_be_printed() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let accepted = lost.accept_with_erasures(&left).stdout(full).output().unwrap();
    let said = String::from_utf8(accepted.stderr).unwrap();
    assert!(said.contains("error: cannot write to stdout"), "{said}");
    assert!(Service::spawn(&mut lost.serve(&left)).stop().success());
    lost.verify(&left);
}

/// The event would say for ever that less is left than what it follows.
#[tokio::test]
async fn a_loss_is_not_accepted_once_something_was_recorded_beside_what_was_found() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let key = seal::SigningKey::read(Path::new(lost.key.file())).unwrap();
    let outside = Some(CheckpointDir::new(lost.key.dir(), left.database.ledger()));
    let inputs = SealInputs { database: left.database.clone(), key, outside };
    let Found::Loss(loss) = seal::loss(inputs).await.unwrap() else { panic!("it is accepted") };
    let service = Service::start(&left.url);
    service.identify(&Seen::new("in.between@x.example", "")).await;
    assert!(service.stop().success());
    let before = left.head().await;
    let acceptance = Acceptance { by: "an-operator".to_owned(), reason: "it died".to_owned() };
    let refused = backup::accept(&left.database, &loss, acceptance).await.unwrap_err().to_string();
    assert!(refused.contains("a service records in this database"), "{refused}");
    assert_eq!(left.head().await, before, "nothing was recorded");
}

/// No one is erased whom the lost ledger had not erased: what an export says counts as it was
/// signed.
#[tokio::test]
async fn an_export_that_was_changed_erases_no_one() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let before = left.position().await;
    let kept = fs::read_to_string(lost.outside()).unwrap();
    let (file, checkpoint) =
        (lost.export().join("events.ndjson"), lost.export().join("checkpoint"));
    let whole = fs::read_to_string(&file).unwrap();
    let erased = format!("\"observationIds\":[{}", lost.erased_id);
    for changed in [
        whole.replace(&erased, "\"observationIds\":[1"),
        whole.replace(&erased, "\"observationIds\":[x"),
        whole.replace("customer-request", "customer-wish"),
        format!("{whole}{}\n", whole.lines().last().unwrap()),
        whole.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n",
    ] {
        assert_ne!(changed, whole);
        fs::write(&file, changed).unwrap();
        let said = refuses(&mut lost.accept_with_erasures(&left));
        assert!(said.contains("cannot be used; pass an export"), "{said}");
    }
    fs::write(&file, &whole).unwrap();
    let signed = fs::read_to_string(&checkpoint).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    let said = refuses(&mut lost.accept_with_erasures(&left));
    assert!(said.contains("cannot be used; pass an export"), "{said}");
    assert_eq!(left.position().await, before, "nothing was recorded");
    assert_eq!(fs::read_to_string(lost.outside()).unwrap(), kept);

    fs::write(&checkpoint, signed).unwrap();
    let accepted = lost.accept_with_erasures(&left).output().unwrap();
    let said = String::from_utf8(accepted.stderr).unwrap();
    let (has, all) = (whole.lines().count(), kept.lines().nth(1).unwrap());
    assert!(said.contains("To be erased again, for ever: 1 customer."), "{said}");
    assert!(said.contains(&format!("has {has} of the {all} events that were signed")), "{said}");
}

/// As a database that a disk failure has set back, but for an event. Its checkpoints would show that.
async fn rewrite(left: &TestLedger) {
    let rewrite = "
        alter table event disable trigger all;
        alter table checkpoint disable trigger all;
        update event set line = line || ' ' where position = 40;
        delete from checkpoint;
        delete from tile;
    ";
    sqlx::raw_sql(rewrite).execute(&mut left.superuser().await).await.unwrap();
}

#[tokio::test]
async fn nothing_is_signed_anew_that_an_export_contradicts() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    rewrite(&left).await;
    let (before, kept) = (left.head().await, fs::read_to_string(lost.outside()).unwrap());
    let said = refuses(&mut lost.accept_with_erasures(&left));
    assert!(said.contains("or what is left was rewritten"), "{said}");
    assert_eq!(left.head().await, before, "nothing was recorded");
    assert_eq!(fs::read_to_string(lost.outside()).unwrap(), kept);
    let accepted = lost.accept(&left).output().unwrap();
    let said = String::from_utf8(accepted.stderr).unwrap();
    let told = format!("No checkpoint here covers the last {} events of what is left", before[0]);
    assert!(accepted.status.success() && said.contains(&told), "{said}");
}

/// Someone who has rewritten the ledger may have added the event that has the rest signed.
#[tokio::test]
async fn an_acceptance_of_something_else_is_not_finished() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let kept = fs::read_to_string(lost.outside()).unwrap();
    let accepted = lost.accept(&left).output().unwrap();
    assert!(!String::from_utf8(accepted.stderr).unwrap().contains("No checkpoint here"));
    fs::write(lost.outside(), &kept).unwrap();
    rewrite(&left).await;
    for mut accept in [lost.accept(&left), lost.accept_with_erasures(&left)] {
        let said = refuses(&mut accept);
        assert!(said.contains("are not those that it says are left"), "{said}");
        assert_eq!(fs::read_to_string(lost.outside()).unwrap(), kept);
    }
}

/// It would be as good as --no-erasures, which no one has said.
#[tokio::test]
async fn an_export_that_is_no_newer_than_what_is_left_is_refused() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let before = left.position().await;
    let export = lost.export_of(&left);
    let said = refuses(lost.accept_undecided(&left).arg("--erasures").arg(export));
    assert!(said.contains("it names no erasure that is missing here"), "{said}");
    assert_eq!(left.position().await, before, "nothing was recorded");
}

/// Two who share a phone number are one customer by the rules of the backup, and were two by those that
/// are lost.
#[tokio::test]
async fn a_customer_who_was_not_erased_is_not_erased_with_another() {
    let (key, ledger) = (SigningKey::new(), TestLedger::new().await);
    let with_outside = args(&key, &ledger);
    let service = Service::start_with(&with_outside);
    service.identify(&Seen::new("a@x.org", "030 1")).await;
    service.identify(&Seen::new("b@x.org", "0301")).await;
    service.sealed().await;
    assert!(service.stop().success());
    let (backup, export) = (key.dir().join("backup"), key.dir().join("export"));
    succeeds(command(&["backup"]).arg(&backup).args(["--database-url", &ledger.url]));
    ledger.put_in_force(EXACT_RULES).await.unwrap();
    let service = Service::start_with(&with_outside);
    assert_eq!(service.erase(1).await.status(), 200);
    assert_eq!(service.contact(2).await.emails, ["b@x.org"]);
    service.sealed().await;
    assert!(service.stop().success());
    succeeds(command(&["export"]).arg(&export).args(key.args(&ledger)));

    let left = TestLedger::empty_database().await;
    succeeds(command(&["restore", "--database-url", &left.url]).arg(&backup));
    let before = left.head().await;
    let mut accept = command(&["restore", "--accept-loss", "--reason", "the disk died", "--yes"]);
    let said = refuses(accept.args(args(&key, &left)).arg("--erasures").arg(&export));
    assert!(said.contains("one customer here with observation 2, which was not"), "{said}");
    assert_eq!(left.head().await, before);
}

/// What had made one customer of the two is lost, and each has to be erased again.
#[tokio::test]
async fn a_customer_who_is_back_in_parts_is_erased_again_in_every_part() {
    let (key, ledger) = (SigningKey::new(), TestLedger::new().await);
    let with_outside = args(&key, &ledger);
    let service = Service::start_with(&with_outside);
    service.observe([("a@x.org", "1"), ("b@x.org", "2")]).await;
    service.sealed().await;
    assert!(service.stop().success());
    let (backup, export) = (key.dir().join("backup"), key.dir().join("export"));
    succeeds(command(&["backup"]).arg(&backup).args(["--database-url", &ledger.url]));
    let service = Service::start_with(&with_outside);
    service.observe([("a@x.org", "2")]).await;
    assert_eq!(service.erase(1).await.status(), 200);
    service.sealed().await;
    assert!(service.stop().success());
    succeeds(command(&["export"]).arg(&export).args(key.args(&ledger)));

    let left = TestLedger::empty_database().await;
    succeeds(command(&["restore", "--database-url", &left.url]).arg(&backup));
    let mut accept = command(&["restore", "--accept-loss", "--reason", "the disk died", "--yes"]);
    let said = succeeds(accept.args(args(&key, &left)).arg("--erasures").arg(&export));
    assert!(said.contains("erased again: 2 customers"), "{said}");
    let service = Service::start_with(&args(&key, &left));
    for id in [1, 2] {
        assert_eq!(service.get(&format!("/contacts/{id}")).await.status(), 410, "{id}");
    }
}

#[tokio::test]
async fn no_loss_is_accepted_that_cannot_be_told() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let accept = || {
        let mut accept = command(&["restore", "--accept-loss", "--reason", "x", "--no-erasures"]);
        accept.args(lost.key.args(&left));
        accept
    };
    let said = refuses(accept().arg("--yes"));
    assert!(said.contains("pass --checkpoint-dir"), "{said}");
    assert!(said.contains("the checkpoint of an export"), "{said}");
    let said =
        refuses(accept().args(["--yes", "--checkpoint-dir"]).arg(lost.key.dir().join("typo")));
    assert!(said.contains("there is no checkpoint"), "{said}");
    let output = accept().arg("--checkpoint-dir").arg(lost.key.dir()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("of them are lost") && said.contains("pass --yes"), "{said}");
    let said = refuses(&mut lost.accept(&lost.ledger));
    assert!(said.contains("nothing is lost"), "{said}");

    // An export of another history does not say whom to erase.
    let service = Service::start(&left.url);
    service.identify(&Seen::new("in.between@x.example", "")).await;
    assert!(service.stop().success());
    let said = refuses(&mut lost.accept_with_erasures(&left));
    assert!(said.contains("was recorded here after the database had gone back"), "{said}");
    let erased = query("select from observation where id = $1 and salt is null");
    let erased = erased.bind(lost.erased_id);
    assert!(erased.fetch_optional(&mut left.owner().await).await.unwrap().is_none());

    // A ledger as long as what was signed has lost nothing: it is another one.
    let service = Service::start(&left.url);
    service.identify_all(&random_observations(12, 400, 100)).await;
    assert!(service.stop().success());
    let said = refuses(&mut lost.accept(&left));
    assert!(said.contains("differs from a checkpoint kept outside"), "{said}");
}

/// Checkpoints that cover more than is left are not of what is left.
#[tokio::test]
async fn no_loss_is_accepted_of_a_ledger_that_was_restored_in_part() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let [position, _] = left.head().await;
    left.cut_events_after(position - 20).await;
    let before = left.head().await;
    let said = refuses(&mut lost.accept(&left));
    assert!(said.contains("it was restored in part: what is left is damaged"), "{said}");
    assert_eq!(left.head().await, before, "nothing was recorded");
}

/// A start does not send the operator to a command that refuses.
#[tokio::test]
async fn a_start_offers_to_accept_no_loss_that_cannot_be_accepted() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let mut superuser = left.superuser().await;
    let damage = "alter table checkpoint disable trigger all;
        update checkpoint set note = note || 'x' where size = (select max(size) from checkpoint)";
    sqlx::raw_sql(damage).execute(&mut superuser).await.unwrap();
    let not_acceptable =
        "so the loss cannot be accepted; put the newer database back, or drop the ledger";
    let said = refuses(&mut lost.serve(&left));
    assert!(said.contains("gone back in time") && said.contains(not_acceptable), "{said}");
    assert!(!said.contains("--accept-loss"), "{said}");
    let said = refuses(&mut lost.accept(&left));
    assert!(said.contains(not_acceptable), "{said}");
}

/// As docs/personal-data.md says.
#[tokio::test]
async fn without_a_checkpoint_outside_that_of_an_export_will_do() {
    let lost = Lost::new().await;
    let left = lost.restored().await;
    let dir = lost.key.dir().join("from-export");
    fs::create_dir(&dir).unwrap();
    fs::copy(lost.export().join("checkpoint"), dir.join("ledger.checkpoint")).unwrap();
    let mut accept = command(&["restore", "--accept-loss", "--reason", "restored", "--yes"]);
    accept.args(lost.key.args(&left)).arg("--checkpoint-dir").arg(dir);
    let said = succeeds(accept.arg("--erasures").arg(lost.export()));
    assert!(said.contains("erased again: 1 customer"), "{said}");
    let service = Service::start_with(&lost.key.args(&left));
    assert_eq!(service.get(&format!("/contacts/{}", lost.erased_id)).await.status(), 410);
    assert_eq!(service.lookup(&lost.erased).await.status(), 404);
    assert!(service.stop().success());
    succeeds(command(&["verify"]).args(lost.key.args(&left)));
}
