//! `identity-ledger verify`.

use super::config::{DatabaseConfig, VerifyConfig};
use super::in_one_line;
use super::place::Place;
use super::say::{counted, counted_with, say};
use crate::ledger::gaps;
use crate::seal::{CheckpointDir, VerifierKeys};
use crate::threads::{on_a_thread, without_panic};
use crate::verify::{Mismatch, Trust, verify_folder, verify_with};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::path::Path;

/// Checks the database, or an export without any.
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
    let verified = without_panic(verify_with(&place.database, trust)).await?;
    let walked = verified.walked;
    place.close().await?;
    let signatures = if has_keys { "checked" } else { "not checked, for want of a key" };
    let mut words = vec![
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
    let after_outside = walked.outside.map(|size| walked.events_len - size);
    words.extend(after_outside.map(continued));
    if walked.erased_len > 0 {
        words.push(format!(
            "erased: {}; the decisions on what is gone and beside it, {}, are believed where only that \
             could bear witness",
            counted(walked.erased_len, "observation"),
            walked.believed_len
        ));
    }
    if walked.not_remade_len > 0 {
        words.push(format!(
            "not decided again: {}, for want of the normaliser of the rules",
            counted(walked.not_remade_len, "observation")
        ));
    }
    if !verified.keys_compared {
        words.push(
            "not compared: the keys of contacts, for want of the normaliser of the rules in force"
                .to_owned(),
        );
    }
    let facts = json!({
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
        "afterOutside": after_outside,
        "signaturesChecked": has_keys,
    });
    Ok((words.join("\n"), facts))
}

fn continued(events_len: i64) -> String {
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
    let observations = match verified.observations_len {
        Some(len) => counted(len, "observation"),
        None => "no observations in the folder".to_owned(),
    };
    let erased = match verified.erased_len {
        0 => String::new(),
        len => format!("; erased: {len}"),
    };
    let not_remade = match verified.not_remade_len {
        0 => String::new(),
        len => format!("; {len} not decided again, for want of the normaliser of their rules"),
    };
    let words = format!(
        "verified: the {} of the checkpoint signed by {origin}; {observations}{erased}{not_remade}",
        counted_with(verified.events_len, "event", ["is that", "are those"]),
    );
    let words = match verified.after_outside {
        None => words,
        Some(len @ 0..) => format!("{words}\n{}", continued(len)),
        Some(len) => format!(
            "{words}\nnot compared: the checkpoint outside covers {} more",
            counted(len.unsigned_abs(), "event")
        ),
    };
    let facts = json!({
        "verified": true,
        "events": verified.events_len,
        "observations": verified.observations_len,
        "erased": verified.erased_len,
        "notRemade": verified.not_remade_len,
        "afterOutside": verified.after_outside,
    });
    Ok((words, facts))
}

fn read_keys(file: &Path) -> anyhow::Result<VerifierKeys> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read the key {}", file.display()))?;
    VerifierKeys::parse(&text).with_context(|| format!("{} has no verifier key", file.display()))
}
