//! `identity-ledger verify`.

use super::config::{DatabaseConfig, VerifyConfig};
use super::in_one_line;
use super::place::Place;
use super::say::{counted, counted_with, say};
use crate::ledger::gaps;
use crate::seal::{CheckpointDir, VerifierKeys};
use crate::threads::{on_a_thread, without_panic};
use crate::verify::{self, Mismatch, Trust, Verified, VerifiedFolder, verify_folder};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::path::Path;

/// Checks the ledger in the database, or an export, which needs no database.
pub async fn verify(database: DatabaseConfig, config: VerifyConfig) -> anyhow::Result<()> {
    let verified = match (&config.export, &config.key) {
        (Some(dir), Some(key)) => {
            let outside = config.seal.checkpoint_dir.as_deref();
            let outside = outside.map(|dir| CheckpointDir::new(dir, &database.ledger));
            folder(dir, key, config.since.as_deref(), outside).await
        }
        _ => ledger(database, &config).await,
    };
    match verified {
        Ok((words, facts)) => {
            say!("{}", if config.json { facts.to_string() } else { words });
            Ok(())
        }
        Err(error) => {
            if config.json {
                say!("{}", told(&error));
            }
            Err(error)
        }
    }
}

/// What differs, or why that could not be found out.
fn told(error: &anyhow::Error) -> Value {
    let mismatch = error.downcast_ref::<Mismatch>();
    let other = mismatch.is_none().then(|| in_one_line(error));
    json!({"verified": false, "failure": mismatch, "error": other})
}

async fn ledger(
    database: DatabaseConfig,
    config: &VerifyConfig,
) -> anyhow::Result<(String, Value)> {
    let place = Place::open_to_verify(database).await?;
    place.give_way();
    place.check_projection().await?;
    let keys = match &config.key {
        Some(file) => Some(read_keys(file)?),
        None => {
            let gaps = gaps(&mut place.database.owner().await?).await?;
            place.signing_key(&config.seal)?.map(|key| key.verifier_keys().of(&gaps))
        }
    };
    let has_keys = keys.is_some();
    let trust = Trust { keys, outside: place.checkpoint_dir(&config.seal) };
    let verified = without_panic(verify::verify(&place.database, trust)).await?;
    place.close().await?;
    Ok((ledger_words(&verified, has_keys), ledger_facts(&verified, has_keys)))
}

fn ledger_words(verified: &Verified, has_keys: bool) -> String {
    let walked = &verified.walked;
    let signatures = if has_keys { "checked" } else { "not checked, since there is no key" };
    let mut lines = vec![
        format!(
            "verified: {} what the events up to position {} say",
            counted_with(verified.contacts_len, "contact", ["is", "are"]),
            verified.position
        ),
        format!(
            "verified: {} with {}; {} of them under {} (signatures {signatures})",
            counted(walked.events_len, "event"),
            counted(walked.observations_len, "observation"),
            walked.sealed,
            counted(walked.checkpoints_len, "checkpoint"),
        ),
    ];
    lines.extend(after_outside(verified).map(continued));
    if walked.erased_len > 0 {
        lines.push(format!(
            "erased: {}; believed: {} that only erased observations could confirm",
            counted(walked.erased_len, "observation"),
            counted(walked.believed_len, "decision")
        ));
    }
    if walked.not_remade_len > 0 {
        lines.push(format!(
            "not decided again: {}, since this binary has another normaliser than their rules",
            counted(walked.not_remade_len, "observation")
        ));
    }
    if !verified.keys_compared {
        lines.push(
            "not compared: the keys of contacts, since this binary has another normaliser than the \
             rules in force"
                .to_owned(),
        );
    }
    lines.join("\n")
}

fn ledger_facts(verified: &Verified, has_keys: bool) -> Value {
    let walked = &verified.walked;
    json!({
        "verified": true,
        "notRemade": walked.not_remade_len,
        "erased": walked.erased_len,
        "believed": walked.believed_len,
        "position": verified.position,
        "contacts": verified.contacts_len,
        "keysCompared": verified.keys_compared,
        "events": walked.events_len,
        "observations": walked.observations_len,
        "checkpoints": walked.checkpoints_len,
        "sealed": walked.sealed,
        "afterOutside": after_outside(verified),
        "signaturesChecked": has_keys,
    })
}

/// How many events there are after those under the checkpoint that is kept outside.
fn after_outside(verified: &Verified) -> Option<u64> {
    let walked = &verified.walked;
    walked.outside.map(|size| walked.events_len - size)
}

fn continued(events_len: u64) -> String {
    if events_len == 0 {
        return "verified: it ends with the checkpoint outside".to_owned();
    }
    let continuing = counted_with(events_len, "event", ["continues", "continue"]);
    format!("verified: {continuing} the checkpoint outside")
}

async fn folder(
    dir: &Path,
    key: &Path,
    since: Option<&Path>,
    outside: Option<CheckpointDir>,
) -> anyhow::Result<(String, Value)> {
    let keys = read_keys(key)?;
    let origin = keys.origin().to_owned();
    let (dir, since) = (dir.to_owned(), since.map(Path::to_owned));
    let verified =
        on_a_thread(move || verify_folder(&dir, &keys, since.as_deref(), outside.as_ref())).await?;
    Ok((folder_words(&verified, &origin), folder_facts(&verified)))
}

fn folder_words(verified: &VerifiedFolder, origin: &str) -> String {
    let mut words = format!(
        "verified: the {} of the checkpoint signed by {origin}; ",
        counted_with(verified.head.size, "event", ["is that", "are those"]),
    );
    words += &match verified.observations_len {
        Some(len) => counted(len, "observation"),
        None => "no observations in the folder".to_owned(),
    };
    if verified.erased_len > 0 {
        words += &format!("; erased: {}", verified.erased_len);
    }
    if verified.not_remade_len > 0 {
        words += &format!(
            "; {} not decided again, since this binary has another normaliser than their rules",
            verified.not_remade_len
        );
    }
    if let Some(len) = verified.since {
        let covered = counted_with(len, "event", ["is that", "are those"]);
        words += &format!("\nverified: the first {covered} of the earlier checkpoint");
    }
    match verified.after_outside {
        None => {}
        Some(len @ 0..) => words += &format!("\n{}", continued(len.unsigned_abs())),
        Some(len) => {
            let missing = counted(len.unsigned_abs(), "event");
            words += &format!("\nnot compared: the checkpoint outside covers {missing} more");
        }
    }
    words
}

fn folder_facts(verified: &VerifiedFolder) -> Value {
    json!({
        "verified": true,
        "events": verified.head.size,
        "observations": verified.observations_len,
        "erased": verified.erased_len,
        "notRemade": verified.not_remade_len,
        "since": verified.since,
        "afterOutside": verified.after_outside,
    })
}

fn read_keys(file: &Path) -> anyhow::Result<VerifierKeys> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read the key {}", file.display()))?;
    VerifierKeys::parse(&text)
        .with_context(|| format!("{} is not a file of verifier keys", file.display()))
}
