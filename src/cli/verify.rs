//! `identity-ledger verify`.

use super::config::{DatabaseConfig, VerifyConfig};
use super::in_one_line;
use super::place::Place;
use super::say::say;
use crate::audit::{self, Difference, Trust};
use crate::ledger::gaps;
use crate::seal::{CheckpointDir, VerifierKeys};
use crate::threads::on_a_thread;
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
        Ok((words, facts)) if config.json => {
            drop(words);
            say!("{facts}");
            Ok(())
        }
        Ok((words, _)) => {
            say!("{words}");
            Ok(())
        }
        Err(error) => {
            if config.json {
                say!("{}", json!({"verified": false, "failure": failure(&error)}));
            }
            Err(error)
        }
    }
}

fn failure(error: &anyhow::Error) -> Value {
    match error.downcast_ref::<Difference>() {
        Some(difference) => json!(difference),
        None => json!({
            "position": null, "part": null, "expected": null, "found": in_one_line(error),
        }),
    }
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
    let verified = audit::verify_with(&place.database, trust).await?;
    let walked = verified.walked;
    place.close().await?;
    let signatures = if has_keys { "checked" } else { "not checked, for want of a key" };
    let words = format!(
        "verified: {} contacts are what the events up to position {} say\n\
         verified: {} events with {} observations; {} of them under {} checkpoints (signatures {})",
        verified.contacts_len,
        verified.position,
        walked.events_len,
        walked.observations_len,
        walked.sealed,
        walked.checkpoints_len,
        signatures,
    );
    let after_outside = walked.outside.map(|size| walked.events_len - size);
    let words = match after_outside {
        None => words,
        Some(len) => format!("{words}\nverified: {len} events continue the checkpoint outside"),
    };
    let words = match walked.erased_len {
        0 => words,
        len => format!(
            "{words}\nerased: {len} observations; the decisions on them and beside them, {}, are \
             believed where only they could bear witness",
            walked.believed_len
        ),
    };
    let words = match walked.not_remade_len {
        0 => words,
        len => format!(
            "{words}\nnot decided again: {len} observations, for want of the normaliser of their rules"
        ),
    };
    let facts = json!({
        "verified": true,
        "notRemade": walked.not_remade_len,
        "erased": walked.erased_len,
        "believed": walked.believed_len,
        "position": verified.position,
        "contacts": verified.contacts_len,
        "events": walked.events_len,
        "observations": walked.observations_len,
        "checkpoints": walked.checkpoints_len,
        "sealed": walked.sealed,
        "afterOutside": after_outside,
        "signaturesChecked": has_keys,
    });
    Ok((words, facts))
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
        on_a_thread(move || audit::verify_folder(&dir, &keys, since.as_deref(), outside.as_ref()))
            .await?;
    let observations = match verified.observations_len {
        Some(len) => format!("{len} observations"),
        None => "no observations in the folder".to_owned(),
    };
    let erased = match verified.erased_len {
        0 => String::new(),
        len => format!("; {len} were erased"),
    };
    let not_remade = match verified.not_remade_len {
        0 => String::new(),
        len => format!("; {len} not decided again, for want of the normaliser of their rules"),
    };
    let words = format!(
        "verified: the {} events are those of the checkpoint signed by {}; \
         {observations}{erased}{not_remade}",
        verified.events_len, origin,
    );
    let words = match verified.after_outside {
        None => words,
        Some(len @ 0..) => {
            format!("{words}\nverified: {len} events continue the checkpoint outside")
        }
        Some(len) => format!(
            "{words}\nnot compared: the checkpoint outside covers {} more events",
            len.unsigned_abs()
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
