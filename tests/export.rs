//! An export is enough to check the ledger, offline, by another program.

use crate::support::{
    CHECK_EXPORT, Seen, Service, SigningKey, TestLedger, command, random_observations, refuses,
    scratch_dir, succeeds, until,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use identity_ledger::identity::{E164_RULES, EXACT_RULES};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, query};
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

type Change = fn(&str) -> String;

/// A ledger with some hundred events, a key, and a folder for its exports.
struct Exports {
    ledger: TestLedger,
    key: SigningKey,
    dir: PathBuf,
}

impl Exports {
    async fn new() -> Self {
        let (ledger, key) = (TestLedger::new().await, SigningKey::new());
        let dir = key.dir().join("export");
        fs::write(key.dir().join("key"), &key.verifier_key).unwrap();
        let exports = Self { ledger, key, dir };
        exports.record(1).await;
        exports
    }

    async fn record(&self, seed: u64) {
        let service = Service::start_with(&self.key.args(&self.ledger));
        service.identify_all(&random_observations(seed, 200, 60)).await;
        assert!(service.stop().success());
    }

    fn export(&self, args: &[&str]) -> Command {
        let mut export = command(&["export"]);
        export.arg(&self.dir).args(self.key.args(&self.ledger)).args(args);
        export
    }

    fn verify(&self, args: &[&str]) -> Command {
        let mut verify = command(&["verify", "--export"]);
        verify.arg(&self.dir).arg("--key").arg(self.key_file()).args(args);
        // Offline: this leads nowhere.
        verify.env("DATABASE_URL", "postgres://shop@127.0.0.1:1/shop");
        verify
    }

    fn key_file(&self) -> PathBuf {
        self.key.dir().join("key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// Both programs find the same.
    #[track_caller]
    fn check(&self, holds: bool) {
        let script = python(&[self.dir.to_str().unwrap(), self.key_file().to_str().unwrap()], "");
        let said = String::from_utf8_lossy(&script.stderr);
        assert_eq!(script.status.success(), holds, "the script: {said}");
        let verify = self.verify(&[]).output().unwrap();
        let said = String::from_utf8_lossy(&verify.stderr);
        assert_eq!(verify.status.success(), holds, "verify: {said}");
    }
}

/// Runs the independent script.
fn python(args: &[&str], stdin: &str) -> Output {
    let mut python = Command::new("python3");
    python.arg(CHECK_EXPORT).args(args).stdin(Stdio::piped());
    python.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().expect(
        "python3 is not there: install it (apt, apk, dnf or brew: python3), because the proofs \
         are checked by a program that shares no code with this one",
    );
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test]
async fn another_program_recomputes_everything_from_an_export() {
    let exports = Exports::new().await;
    let said = succeeds(&mut exports.export(&["--observations"]));
    let events = exports.read("events.ndjson");
    assert!(said.starts_with(&format!("{} events are in", events.lines().count())), "{said}");
    exports.check(true);
    let old = exports.key.dir().join("old.checkpoint");
    fs::copy(exports.file("checkpoint"), &old).unwrap();
    let old = old.to_str().unwrap();

    exports.record(2).await;
    succeeds(&mut exports.export(&["--observations"]));
    exports.check(true);
    let (dir, key) = (exports.dir.to_str().unwrap(), exports.key_file());
    let script = python(&[dir, key.to_str().unwrap(), "--since", old], "");
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let said = succeeds(&mut exports.verify(&["--since", old]));
    assert!(said.contains("events are those of the earlier checkpoint"), "{said}");
    let facts = succeeds(&mut exports.verify(&["--json"]));
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!((&facts["verified"], &facts["observations"]), (&true.into(), &400.into()));
    assert!(exports.read("events.ndjson").starts_with(&events), "what was there has stayed");
}

#[tokio::test]
async fn another_program_is_convinced_by_the_proofs_of_the_service() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let service = Service::start_with(&exports.key.args(&exports.ledger));
    let note = service.get("/ledger/checkpoint").await.text().await.unwrap();
    assert_eq!(note, exports.read("checkpoint"));
    let events = exports.read("events.ndjson");
    let lines: Vec<_> = events.lines().collect();
    let root = |note: &str| note.lines().nth(2).unwrap().to_owned();
    let size = lines.len().to_string();
    for position in [1, 2, 100, lines.len() - 1, lines.len()] {
        let path = format!("/ledger/proof/inclusion?position={position}");
        let proof = service.get(&path).await.text().await.unwrap();
        let included = |line| python(&["--inclusion", line, &size, &root(&note)], &proof);
        let script = included(lines[position - 1]);
        assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
        for other in [lines[position % lines.len()], &lines[position - 1].replace(':', ": ")] {
            assert!(!included(other).status.success());
        }
    }
    service.identify(&Seen::new("one.more@x.org", "99")).await;
    service.sealed().await;
    assert!(service.stop().success());
    let service = Service::start_with(&exports.key.args(&exports.ledger));
    let path = format!("/ledger/proof/consistency?from={}", lines.len());
    let proof = service.get(&path).await.text().await.unwrap();
    let new = service.get("/ledger/checkpoint").await.text().await.unwrap();
    let new_size = new.lines().nth(1).unwrap();
    let consistent = |size: &str, old: &str| {
        python(&["--consistency", size, &root(old), new_size, &root(&new)], &proof)
    };
    let script = consistent(&size, &note);
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    for (size, old) in [(&*size, &new), ("1", &note), (new_size, &note)] {
        assert!(!consistent(size, old).status.success());
    }
}

/// Whoever has the key signs a tree in which the third event is another, and makes the numbers of the proofs
/// fit it.
#[test]
fn another_program_takes_no_number_from_a_proof() {
    let hash = |tag: u8, parts: &[&[u8]]| {
        let mut sha = Sha256::new_with_prefix([tag]);
        parts.iter().for_each(|part| sha.update(part));
        <[u8; 32]>::from(sha.finalize())
    };
    let lines = [1, 2, 3].map(|n| format!(r#"{{"position":{n}}}"#));
    let [one, two, three] = lines.each_ref().map(|line| hash(0, &[line.as_bytes()]));
    let kept = hash(1, &[&hash(1, &[&one, &two]), &three]);
    let other = r#"{"position":3,"other":1}"#;
    let forged = hash(1, &[&kept, &hash(0, &[other.as_bytes()])]);
    let [forged_leaf, kept_root, forged_root] =
        [hash(0, &[other.as_bytes()]), kept, forged].map(|hash| BASE64_STANDARD.encode(hash));
    let says = |script: Output| String::from_utf8_lossy(&script.stderr).into_owned();

    let proof = format!(r#"{{"from":4,"to":5,"hashes":["{forged_leaf}"]}}"#);
    let script = python(&["--consistency", "3", &kept_root, "5", &forged_root], &proof);
    assert!(says(script).contains("of another from"));
    let proof = format!(r#"{{"leafIndex":4,"size":5,"hashes":["{kept_root}"]}}"#);
    let script = python(&["--inclusion", other, "5", &forged_root], &proof);
    assert!(says(script).contains("of another leafIndex"));
}

#[tokio::test]
async fn an_export_that_was_changed_convinces_no_one() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&["--observations"]));
    let changes: [(&str, Change); 9] = [
        ("events.ndjson", |text| text.replacen("\"holderIds\":[", "\"holderIds\":[1", 1)),
        ("events.ndjson", |text| text.split_inclusive('\n').skip(1).collect()),
        ("events.ndjson", |text| format!("{text}{}\n", text.lines().last().unwrap())),
        ("events.ndjson", |text| text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n"),
        ("observations.ndjson", |text| text.replacen("user", "loser", 1)),
        ("observations.ndjson", |text| text.split_inclusive('\n').skip(1).collect()),
        ("checkpoint", |text| text.replacen("shop\n", "shop\n1", 1)),
        ("checkpoint", |text| {
            let (text, signature) = text.trim_end().rsplit_once(' ').unwrap();
            let other = if &signature[20..21] == "A" { "B" } else { "A" };
            format!("{text} {}{other}{}\n", &signature[..20], &signature[21..])
        }),
        // A second signature by the key, which is wrong.
        ("checkpoint", |text| {
            let (before, signature) = text.trim_end().rsplit_once(' ').unwrap();
            let (_, name) = before.rsplit_once('\n').unwrap();
            let other = if &signature[20..21] == "A" { "B" } else { "A" };
            format!("{text}{name} {}{other}{}\n", &signature[..20], &signature[21..])
        }),
    ];
    for (name, change) in changes {
        let right = exports.read(name);
        assert_ne!(right, change(&right));
        fs::write(exports.file(name), change(&right)).unwrap();
        exports.check(false);
        fs::write(exports.file(name), right).unwrap();
    }
    exports.check(true);

    // The same values, written in another way; and a file that leads nowhere.
    let (file, right) = (exports.file("observations.ndjson"), exports.read("observations.ndjson"));
    for other in [right.replacen("\":", "\": ", 1), right.replacen('\n', "\r\n", 1)] {
        fs::write(&file, other).unwrap();
        let said = refuses(&mut exports.verify(&[]));
        assert!(said.contains("observation: expected a line as export writes it"), "{said}");
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    let said = refuses(&mut exports.verify(&[]));
    assert!(said.contains("observations.ndjson"), "{said}");
    fs::remove_file(&file).unwrap();
    fs::write(file, right).unwrap();

    // Another log's checkpoint and key, right by themselves.
    let other = Exports::new().await;
    fs::copy(other.key_file(), exports.key_file()).unwrap();
    exports.check(false);
}

/// What cannot be read, on the other hand, was not necessarily changed.
#[tokio::test]
async fn a_checkpoint_that_does_not_count_is_told_as_a_difference() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let right = exports.read("checkpoint");
    let other_root = right.replacen("shop\n", "shop\n1", 1);
    let other_log = right.replacen("shop\n", "shops\n", 1);
    let other_name = right.replacen("shop\n", "shop/restored-7\n", 1);
    let told = |args: &[&str]| -> Value {
        let output = exports.verify(args).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let aside = exports.key.dir().join("ledger.checkpoint");
    let outside = ["--checkpoint-dir", exports.key.dir().to_str().unwrap()];
    let since = ["--since", aside.to_str().unwrap()];
    for changed in [&other_root, &other_log, &other_name, "no note"] {
        fs::write(exports.file("checkpoint"), changed).unwrap();
        fs::write(&aside, changed).unwrap();
        let said = told(&[]);
        assert_eq!(said["failure"]["part"], "checkpoint", "{said}");
        assert_eq!(said["error"], Value::Null);
        fs::write(exports.file("checkpoint"), &right).unwrap();
        for (args, part) in [(since, "since"), (outside, "checkpoint outside")] {
            let said = told(&args);
            assert_eq!(said["failure"]["part"], part, "{said}");
            assert_eq!(said["error"], Value::Null);
        }
    }
    fs::remove_file(exports.file("checkpoint")).unwrap();
    let said = told(&[]);
    assert_eq!(said["failure"], Value::Null);
    assert!(said["error"].as_str().unwrap().contains("cannot read"), "{said}");
}

/// Others may sign, too, in ways that no one here knows.
#[tokio::test]
async fn verifier_keys_of_other_algorithms_are_skipped() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let public = BASE64_STANDARD.encode([4; 33]);
    let others = format!("witness.example/w+0a0b0c0d+{public}\n");
    fs::write(exports.key_file(), format!("{others}{}\n", exports.key.verifier_key)).unwrap();
    exports.check(true);
    fs::write(exports.key_file(), others).unwrap();
    exports.check(false);
    assert!(refuses(&mut exports.verify(&[])).contains("there is no Ed25519 verifier key"));
}

/// An easy mistake, since one file has both in its name.
#[tokio::test]
async fn a_signing_key_in_the_place_of_a_verifier_key_is_named() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let mut verify = command(&["verify", "--export"]);
    let said = refuses(verify.arg(&exports.dir).args(["--key", exports.key.file()]));
    assert!(said.contains("it is the private signing key"), "{said}");
    assert!(said.contains("pass the verifier key") && !said.contains("PRIVATE"), "{said}");
}

#[tokio::test]
async fn an_export_continues_the_checkpoint_that_is_kept_outside() {
    let exports = Exports::new().await;
    let outside = exports.key.dir().join("outside");
    let serve = exports.key.args_with_outside(&exports.ledger, &outside);
    let outside = ["--checkpoint-dir", outside.to_str().unwrap()];
    let begin = [&serve[..], &["--new-checkpoint-dir"]].concat();
    let service = Service::start_with(&begin);
    service.identify(&Seen::new("one@x.org", "98")).await;
    service.sealed().await;
    assert!(service.stop().success());
    let other = exports.ledger.copy().await;
    succeeds(&mut exports.export(&[]));
    let said = succeeds(&mut exports.verify(&outside));
    assert!(said.contains("verified: it ends with the checkpoint outside"), "{said}");

    let service = Service::start_with(&serve);
    service.identify(&Seen::new("one.more@x.org", "99")).await;
    service.sealed().await;
    assert!(service.stop().success());
    let said = succeeds(&mut exports.verify(&outside));
    assert!(said.contains("not compared: the checkpoint outside covers"), "{said}");
    succeeds(&mut exports.export(&[]));
    let facts = succeeds(exports.verify(&outside).arg("--json"));
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["afterOutside"], 0);

    // Another history, which the same key has signed.
    let exports = Exports { ledger: other, dir: exports.key.dir().join("other"), ..exports };
    exports.record(2).await;
    succeeds(&mut exports.export(&[]));
    succeeds(&mut exports.verify(&[]));
    let said = refuses(&mut exports.verify(&outside));
    assert!(said.contains("checkpoint outside: expected root"), "{said}");
    let nowhere = exports.key.dir().join("nowhere");
    let said = refuses(exports.verify(&["--checkpoint-dir"]).arg(&nowhere));
    assert!(said.contains("there is no checkpoint"), "{said}");
    // That is for the service on this machine.
    succeeds(exports.verify(&[]).env("CHECKPOINT_DIR", nowhere));
}

#[tokio::test]
async fn an_export_that_was_interrupted_is_gone_on_with() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    exports.record(2).await;
    succeeds(&mut exports.export(&["--observations"]));
    let names = ["events.ndjson", "observations.ndjson", "checkpoint", "key"];
    let whole = names.map(|name| exports.read(name));
    for cut in [1, 40, 700, 9_000] {
        for name in &names[..2] {
            let text = exports.read(name);
            fs::write(exports.file(name), &text[..text.len() - cut]).unwrap();
        }
        let said = refuses(&mut exports.verify(&[]));
        assert!(said.contains("torn") || said.contains("covers"), "{said}");
        succeeds(&mut exports.export(&["--observations"]));
        assert_eq!(names.map(|name| exports.read(name)), whole);
    }
    for name in &names[2..] {
        fs::remove_file(exports.file(name)).unwrap();
    }
    succeeds(&mut exports.export(&["--observations"]));
    assert_eq!(names.map(|name| exports.read(name)), whole);
}

/// Else events would go on, and observations stay behind: an export that looks tampered with.
#[tokio::test]
async fn a_folder_with_observations_goes_on_with_them_only() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&["--observations"]));
    let names = ["events.ndjson", "observations.ndjson", "checkpoint"];
    let whole = names.map(|name| exports.read(name));
    exports.record(2).await;
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains("has observations") && said.contains("give --observations"), "{said}");
    assert_eq!(names.map(|name| exports.read(name)), whole);
    exports.check(true);
}

#[tokio::test]
async fn an_export_holds_no_personal_data_unless_it_was_asked_for() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    for entry in fs::read_dir(&exports.dir).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_dir() || !fs::read_to_string(path).unwrap().contains("shop.example"));
    }
    assert!(!exports.file("observations.ndjson").exists());
    succeeds(&mut exports.export(&["--observations"]));
    assert!(exports.read("observations.ndjson").contains("shop.example"));
}

#[tokio::test]
async fn a_folder_of_another_ledger_is_left_alone() {
    let (exports, other) = (Exports::new().await, Exports::new().await);
    succeeds(&mut exports.export(&[]));
    let events = exports.read("events.ndjson");
    let mut export = command(&["export"]);
    export.arg(&exports.dir).args(other.key.args(&other.ledger));
    let said = refuses(&mut export);
    assert!(said.contains("another ledger"), "{said}");
    assert_eq!(exports.read("events.ndjson"), events);
}

#[tokio::test]
async fn two_exports_do_not_write_to_one_folder_at_once() {
    let exports = Exports::new().await;
    fs::create_dir(&exports.dir).unwrap();
    let other = fs::File::open(&exports.dir).unwrap();
    other.lock().unwrap();
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains("another export writes to"), "{said}");
    assert!(!exports.file("events.ndjson").exists());
    drop(other);
    succeeds(&mut exports.export(&[]));
}

/// Also where it looks like what a crash leaves: a line without its end.
#[tokio::test]
async fn the_files_of_others_are_left_alone() {
    let exports = Exports::new().await;
    fs::create_dir_all(&exports.dir).unwrap();
    for content in ["what another program wrote", "{\"a\": 1}\n{\"b\": 2}", "\n"] {
        fs::write(exports.file("events.ndjson"), content).unwrap();
        refuses(&mut exports.export(&[]));
        assert_eq!(exports.read("events.ndjson"), content);
    }
    fs::write(exports.file("events.ndjson"), r#"{"data":{"activatedBy":"ident"#).unwrap();
    succeeds(&mut exports.export(&[]));
    succeeds(&mut exports.verify(&[]));
}

/// Such as a data directory, or the working directory.
#[tokio::test]
async fn a_folder_with_something_else_in_it_is_left_alone() {
    let exports = Exports::new().await;
    for name in ["postgres", "key"] {
        fs::create_dir_all(exports.file(name)).unwrap();
        let said = refuses(&mut exports.export(&[]));
        assert!(said.contains("is not empty, and no export is in it"), "{said}");
        assert_eq!(fs::read_dir(&exports.dir).unwrap().count(), 1);
        fs::remove_dir(exports.file(name)).unwrap();
    }
    // What an export leaves that was broken off at once.
    fs::create_dir(exports.file("rules")).unwrap();
    succeeds(&mut exports.export(&[]));
    exports.check(true);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let key = exports.file("key");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains(&format!("cannot write {}", key.display())), "{said}");
}

/// Files are named by digests.
#[tokio::test]
async fn no_file_is_written_beside_the_folder() {
    let exports = Exports::new().await;
    let aim = exports.key.dir().join("tokens");
    let mut superuser = exports.ledger.superuser().await;
    let rules = "insert into rules select $1, name, version, 'no = \"document\"', '' from rules";
    query(rules).bind(aim.to_str().unwrap()).execute(&mut superuser).await.unwrap();
    let head = "update head set rules_digest = $1";
    query(head).bind(aim.to_str().unwrap()).execute(&mut superuser).await.unwrap();
    exports.ledger.append_activation().await;
    // A command without a key seals nothing, and what is not sealed is no part of an export.
    let mut without_key = command(&["export"]);
    without_key.arg(&exports.dir).args(["--database-url", &exports.ledger.url]);
    succeeds(&mut without_key);
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains("is not what an event looks like"), "{said}");
    assert!(!aim.with_extension("toml").exists());
}

/// Their digest is that of the normaliser, too: not what this binary would make of the document.
#[tokio::test]
async fn rules_of_another_normaliser_are_no_difference() {
    let exports = Exports::new().await;
    exports.ledger.put_foreign_rules_in_force().await;
    assert!(exports.ledger.put_in_force(EXACT_RULES).await.is_some());
    exports.record(2).await;
    succeeds(&mut exports.export(&[]));
    succeeds(&mut exports.verify(&[]));
    succeeds(&mut exports.export(&["--observations"]));
    succeeds(&mut exports.verify(&[]));
    for entry in fs::read_dir(exports.file("rules")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "normaliser") {
            fs::write(path, "another one").unwrap();
        }
    }
    assert!(refuses(&mut exports.verify(&[])).contains("rules"));
}

/// The version is part of the digest, as other programs compute it, wherever it is the same here.
#[tokio::test]
async fn a_normaliser_that_is_not_that_of_the_digest_is_a_difference() {
    let exports = Exports::new().await;
    assert!(exports.ledger.put_in_force(E164_RULES).await.is_some());
    exports.record(2).await;
    succeeds(&mut exports.export(&[]));
    succeeds(&mut exports.verify(&[]));
    let files = fs::read_dir(exports.file("rules")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|it| it.extension().is_some_and(|it| it == "normaliser"));
    fs::write(file.unwrap(), "phonenumber 0.1.0\n").unwrap();
    let said = refuses(&mut exports.verify(&[]));
    assert!(said.contains("rules: expected e164 version"), "{said}");
}

/// A disk that fails has not rewritten anything.
#[tokio::test]
async fn rules_that_cannot_be_read_are_no_difference() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let file = fs::read_dir(exports.file("rules")).unwrap().next().unwrap().unwrap().path();
    let file = file.with_extension("toml");
    fs::remove_file(&file).unwrap();
    assert!(refuses(&mut exports.verify(&[])).contains("event 1: rules: expected"));
    fs::create_dir(&file).unwrap();
    let said = refuses(&mut exports.verify(&[]));
    assert!(said.contains(&format!("cannot read {}", file.display())), "{said}");
}

/// Erasures of one ledger name numbers that others have in another.
#[tokio::test]
async fn a_folder_of_another_ledger_keeps_its_observations() {
    let (exports, other) = (Exports::new().await, Exports::new().await);
    succeeds(&mut exports.export(&["--observations"]));
    let observations = exports.read("observations.ndjson");
    let url = ["--database-url", &other.ledger.url];
    succeeds(command(&["erase", "1", "--reason", "test", "--yes"]).args(url));
    // Longer than the one in the folder, whose checkpoint alone does not tell them apart.
    other.record(2).await;
    let mut export = command(&["export", "--observations"]);
    let said = refuses(export.arg(&exports.dir).args(other.key.args(&other.ledger)));
    assert!(said.contains("another ledger"), "{said}");
    assert_eq!(exports.read("observations.ndjson"), observations);
}

#[tokio::test]
async fn an_older_ledger_does_not_take_the_place_of_a_newer_checkpoint() {
    let exports = Exports::new().await;
    let earlier = exports.ledger.copy().await;
    exports.record(2).await;
    succeeds(&mut exports.export(&[]));
    let checkpoint = exports.read("checkpoint");
    fs::remove_file(exports.file("events.ndjson")).unwrap();
    let mut export = command(&["export"]);
    let said = refuses(export.arg(&exports.dir).args(exports.key.args(&earlier)));
    assert!(said.contains("gone back in time"), "{said}");
    assert_eq!(exports.read("checkpoint"), checkpoint);
}

/// Without a key there is nothing to sign with: all is written, and it is said what it is worth.
#[tokio::test]
async fn a_ledger_that_was_never_sealed_is_exported_whole() {
    let ledger = TestLedger::new().await;
    let dir = scratch_dir();
    let mut export = command(&["export", "--database-url", &ledger.url]);
    let output = export.arg(dir.path().join("export")).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no checkpoint with them"), "{said}");
    assert!(!dir.path().join("export/checkpoint").exists());

    // Sealed by the command itself, once there is a key.
    let key = SigningKey::new();
    let export = ["export", dir.path().join("sealed").to_str().unwrap()].map(str::to_owned);
    let export = export.each_ref().map(String::as_str);
    succeeds(command(&export).args(key.args(&ledger)));
    assert!(dir.path().join("sealed/checkpoint").exists());
}

/// What was signed is in the way of passing on something else.
#[tokio::test]
async fn what_was_changed_in_the_database_is_not_exported() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let checkpoint = exports.read("checkpoint");
    exports.record(2).await;
    let changes = [
        (r#"update event set line = replace(line, '"heldBy":', '"heldBy":1')"#, "root"),
        (
            "update event set line = 'garbage' where position = (select max(position) - 9 from event)",
            "root",
        ),
        ("delete from event where position = 3", "event"),
        ("delete from observation where id = 3", "observation is missing"),
        (
            "update observation set email = null, phone_number = null, salt = null where id = 3",
            "observation is missing",
        ),
        (
            "update rules set document = replace(document, 'version = 1', 'version = 2')",
            "was changed",
        ),
    ];
    for (change, reason) in changes {
        let copy = exports.ledger.copy().await;
        let off = ["event", "observation", "rules"]
            .map(|table| format!("alter table {table} disable trigger all;"));
        let change = AssertSqlSafe(off.concat() + change);
        sqlx::raw_sql(change).execute(&mut copy.superuser().await).await.unwrap();
        let dir = exports.key.dir().join("changed");
        let mut export = command(&["export", "--observations"]);
        export.arg(&dir).args(exports.key.args(&copy));
        // It is no better the second time.
        for _ in 0..2 {
            let said = refuses(&mut export);
            assert!(said.contains(reason) && said.contains("identity-ledger verify"), "{said}");
        }
        assert!(!dir.join("checkpoint").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
    let change = "alter table event disable trigger all;
        update event set line = 'garbage' where position = (select max(position) - 9 from event)";
    sqlx::raw_sql(change).execute(&mut exports.ledger.superuser().await).await.unwrap();
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains("do not have the root that was signed: an event was changed"), "{said}");
    assert_eq!(exports.read("checkpoint"), checkpoint, "what was right is left as it was");
}

#[tokio::test]
async fn a_folder_whose_events_were_changed_is_not_gone_on_with() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let [events, checkpoint] = ["events.ndjson", "checkpoint"].map(|name| exports.read(name));
    exports.record(2).await;
    let changed = events.replacen("\"holderIds\":[", "\"holderIds\":[1", 1);
    assert_ne!(changed, events);
    fs::write(exports.file("events.ndjson"), &changed).unwrap();
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains("does not have the root that the checkpoint beside it has"), "{said}");
    assert_eq!(exports.read("events.ndjson"), changed);
    assert_eq!(exports.read("checkpoint"), checkpoint);
    fs::remove_file(exports.file("checkpoint")).unwrap();
    let said = refuses(&mut exports.export(&[]));
    assert!(said.contains("export to a new folder"), "{said}");
    assert!(!exports.file("checkpoint").exists());
    fs::write(exports.file("events.ndjson"), events).unwrap();
    succeeds(&mut exports.export(&[]));
    exports.check(true);
}

/// A large folder takes long to read, and no one should have to wait for that to be erased.
#[tokio::test]
async fn a_folder_is_read_before_erasures_have_to_wait() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&[]));
    let events = exports.read("events.ndjson").replacen("\"new\"", "\"neW\"", 1);
    fs::write(exports.file("events.ndjson"), events).unwrap();
    let mut erasing = exports.ledger.superuser().await;
    let lock = "select pg_advisory_lock(hashtext('identity-ledger erasure'), hashtext('ledger'))";
    query(lock).execute(&mut erasing).await.unwrap();
    let mut export = exports.export(&[]);
    let mut export = export.stderr(Stdio::piped()).spawn().unwrap();
    until("the export has ended", || export.try_wait().unwrap().is_some());
    let said = String::from_utf8(export.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("does not have the root that the checkpoint beside it has"), "{said}");
}

#[tokio::test]
async fn decisions_are_made_again_offline_across_a_rule_change() {
    let exports = Exports::new().await;
    let ledger = &exports.ledger;
    ledger.put_in_force(EXACT_RULES).await;
    exports.record(3).await;
    succeeds(&mut exports.export(&["--observations"]));
    succeeds(&mut exports.verify(&[]));
}

#[tokio::test]
async fn a_decision_that_was_forged_before_it_was_sealed_is_named_offline() {
    let (ledger, key) = (TestLedger::new().await, SigningKey::new());
    let dir = key.dir().join("export");
    fs::write(key.dir().join("key"), &key.verifier_key).unwrap();
    let exports = Exports { ledger, key, dir };
    let service = Service::start(&exports.ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "2"), ("a@x.org", "")]).await;
    let forge = r#"
        alter table event disable trigger append_only;
        update event
        set line = replace(replace(line, '"heldBy":1', '"heldBy":2'), '"contactId":1', '"contactId":2'),
            contact_id = 2
        where position = 4;
    "#;
    sqlx::raw_sql(forge).execute(&mut exports.ledger.superuser().await).await.unwrap();
    succeeds(&mut exports.export(&["--observations"]));
    let error = refuses(&mut exports.verify(&[]));
    assert!(error.contains("event 4: decision: expected ContactObserved"), "{error}");
}

#[tokio::test]
async fn an_export_leaves_out_what_was_erased_since() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&["--observations"]));
    let line_of = |id: i64| {
        let is_it = |line: &&str| line.contains(&format!("\"id\":{id},"));
        exports.read("observations.ndjson").lines().find(is_it).map(str::to_owned)
    };
    let (first, last) = (line_of(1).unwrap(), line_of(200).unwrap());
    let service = Service::start_with(&exports.key.args(&exports.ledger));
    for id in [1, 200] {
        let status = service.erase(id).await.status();
        assert!([200, 410].contains(&status.as_u16()), "{status}");
    }
    let page = service.get_json("/events?kind=ContactErased").await;
    let events = page["events"].as_array().unwrap().iter();
    let erased = events.flat_map(|it| it["event"]["data"]["observationIds"].as_array().unwrap());
    let erased: Vec<_> = erased.map(|id| id.as_i64().unwrap()).collect();
    assert!(service.stop().success());

    succeeds(&mut exports.export(&["--observations"]));
    assert!(erased.iter().all(|id| line_of(*id).is_none()));
    assert_eq!(exports.read("observations.ndjson").lines().count(), 200 - erased.len());
    exports.check(true);
    exports.record(2).await;
    succeeds(&mut exports.export(&["--observations"]));
    exports.check(true);
    let facts: Value = serde_json::from_str(&succeeds(&mut exports.verify(&["--json"]))).unwrap();
    assert_eq!((&facts["observations"], &facts["erased"]), (&400.into(), &erased.len().into()));

    // What was erased is not put back, and nothing else taken away.
    let observations = exports.read("observations.ndjson");
    let without_one = observations.split_inclusive('\n').skip(1).collect();
    for changed in
        [format!("{first}\n{observations}"), format!("{observations}{last}\n"), without_one]
    {
        fs::write(exports.file("observations.ndjson"), changed).unwrap();
        exports.check(false);
    }
}

#[tokio::test]
async fn exported_observations_are_for_their_owner_only_also_when_written_anew() {
    let exports = Exports::new().await;
    let mode = || {
        let metadata = fs::metadata(exports.file("observations.ndjson")).unwrap();
        metadata.permissions().mode() & 0o777
    };
    succeeds(&mut exports.export(&["--observations"]));
    assert_eq!(mode(), 0o600);
    let whole = exports.read("observations.ndjson");
    let url = ["--database-url", &exports.ledger.url];
    succeeds(command(&["erase", "1", "--reason", "test", "--yes"]).args(url));
    succeeds(&mut exports.export(&["--observations"]));
    assert!(exports.read("observations.ndjson").len() < whole.len());
    assert_eq!(mode(), 0o600);

    // Put there by someone else, to read what is written.
    let file = exports.file("observations.ndjson");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    succeeds(&mut exports.export(&["--observations"]));
    assert_eq!(mode(), 0o600);
    let elsewhere = exports.key.dir().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    let said = refuses(&mut exports.export(&["--observations"]));
    assert!(said.contains("cannot write") && said.contains("observations.ndjson"), "{said}");
}

/// Else an export would lack observations, with no event to say why.
#[tokio::test]
async fn an_erasure_is_exported_once_it_is_sealed() {
    let exports = Exports::new().await;
    succeeds(&mut exports.export(&["--observations"]));
    let url = ["--database-url", &exports.ledger.url];
    succeeds(command(&["erase", "1", "--reason", "test", "--yes"]).args(url));
    let mut export = command(&["export", "--observations"]);
    let said = refuses(export.arg(&exports.dir).args(url));
    assert!(said.contains("a customer was erased after event"), "{said}");
    exports.check(true);
    succeeds(&mut exports.export(&["--observations"]));
    exports.check(true);
}

#[tokio::test]
async fn decisions_beside_what_was_erased_are_made_again_offline() {
    let exports = Exports::new().await;
    let ledger = &exports.ledger;
    ledger.put_in_force(EXACT_RULES).await;
    let service = Service::start_with(&exports.key.args(ledger));
    for id in [2, 11, 50] {
        service.erase(id).await;
    }
    assert!(service.stop().success());
    exports.record(3).await;
    succeeds(&mut exports.export(&["--observations"]));
    exports.check(true);
}
