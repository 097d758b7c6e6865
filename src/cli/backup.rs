//! `identity-ledger backup` and `restore`.

use super::asking;
use super::config::{BackupConfig, DatabaseConfig, RestoreConfig, What};
use super::place::Place;
use super::say::{counted, say};
use crate::backup::{self, Acceptance, Manifest, ToErase};
use crate::identity::{Event, Fact, rfc_3339};
use crate::ledger;
use crate::seal::{self, Found, Left, SealInputs};
use anyhow::{Context as _, bail};
use chrono::SecondsFormat;
use std::path::Path;

/// Writes a backup, and prints how far it reaches.
pub async fn back_up(database: DatabaseConfig, config: BackupConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    place.give_way();
    let manifest = backup::back_up(&place.database, &config.dir).await?;
    say!("the ledger up to position {} is in {}", manifest.position, config.dir.display());
    if let Some(key) = place.private_key().filter(|key| key.exists()) {
        eprintln!("the signing key is not in it; keep a copy of {} elsewhere", key.display());
    }
    place.close().await
}

/// Puts a backup back, or accepts a loss, and prints what has to follow.
pub async fn restore(database: DatabaseConfig, config: RestoreConfig) -> anyhow::Result<()> {
    match config.what() {
        What::Restore(dir) => put_back(database, dir).await,
        What::AcceptLoss(reason) => accept_loss(database, &config, reason).await,
    }
}

async fn put_back(database: DatabaseConfig, dir: &Path) -> anyhow::Result<()> {
    // Read first: no private server is made if this is not a backup.
    let manifest = Manifest::read(dir, &database.ledger)?;
    let place = Place::reach(database).await?;
    backup::restore(&place.database, dir, &manifest).await?;
    say!(
        "restored the ledger named {} up to position {}, as it was at {}",
        manifest.ledger,
        manifest.position,
        manifest.made_at.to_rfc3339_opts(SecondsFormat::Secs, true)
    );
    if let Some(key) = place.private_key().filter(|key| !key.exists()) {
        eprintln!("before a service starts on it, put its signing key back as {}", key.display());
    }
    eprintln!("next, check it: identity-ledger verify");
    eprintln!(
        "if it replaces a newer ledger, customers who were erased since are back, and numbers would be given \
         out twice: run identity-ledger restore --accept-loss before a service starts on it"
    );
    place.close().await
}

/// Shows what is lost, asks, records it in the ledger, and does what has to follow. If it is interrupted,
/// it can be run again.
async fn accept_loss(
    database: DatabaseConfig,
    config: &RestoreConfig,
    reason: &str,
) -> anyhow::Result<()> {
    let place = Place::open_existing_for_service(database).await?;
    let inputs = seal_inputs(&place, config).await?;
    let keys = inputs.key.verifier_keys().clone();
    let found = seal::loss(inputs.clone()).await?;
    let outside = place.checkpoint_dir(&config.seal).context("there is no --checkpoint-dir")?;
    // Read first: if the export is of no use, nothing must have been changed when that is found.
    let to_erase = match &config.erasures {
        Some(export) => {
            let left = found.left().head;
            Some(backup::to_erase(&place.database, export, &keys, left).await?)
        }
        None => None,
    };
    let kept =
        outside.read(Some(&keys))?.context("the checkpoint outside has vanished; try again")?;
    show(&place, &found).await?;
    show_unproven(to_erase.as_ref(), found.left());
    show_to_erase(to_erase.as_ref(), kept.head.size);
    if !config.yes && !asking::confirmed(question(&found), "accept the loss").await? {
        place.close().await?;
        bail!("not confirmed; nothing was changed");
    }
    let position = match found {
        Found::Accepted { position, .. } => position,
        Found::Loss(loss) => {
            let by = config.operator.by.to_string();
            let acceptance = Acceptance { by, reason: reason.to_owned() };
            backup::accept(&place.database, &loss, acceptance).await?
        }
    };
    let erased = match to_erase {
        Some(ToErase { customers, .. }) => {
            let by = config.operator.by.as_str();
            Some(backup::erase_again(&place.database, &customers, by).await?)
        }
        None => None,
    };
    let aside = backup::begin_anew(inputs, &outside, position).await?;
    let keys = keys.of(&ledger::gaps(&mut place.database.owner().await?).await?);
    // Printed last: if stdout cannot be written to, all is done by then.
    if let Some(erased) = erased {
        say!("erased again: {}", counted(erased, "customer"));
    }
    say!(
        "event {position} records the loss; the earlier checkpoint is kept in {}",
        aside.display()
    );
    // Those who check the ledger need the new key.
    say!("from here on its key is {}", keys.text().lines().next().unwrap_or_default());
    place.close().await
}

async fn seal_inputs(place: &Place, config: &RestoreConfig) -> anyhow::Result<SealInputs> {
    let inputs = place.seal_inputs(&config.seal).await?;
    inputs.context("there is no key to sign the ledger with from here on; pass --signing-key")
}

async fn show(place: &Place, found: &Found) -> anyhow::Result<()> {
    match found {
        Found::Loss(loss) => {
            let (old, new) = (loss.kept.head.size, loss.left.head.size);
            eprintln!(
                "{old} events were signed, and {new} are left, up to position {}.",
                loss.position
            );
            eprintln!("{} of them are lost, and what was recorded after them.", old - new);
            eprintln!("The next event will have the position {}.", loss.next_position());
        }
        Found::Accepted { position, left } => {
            let line = ledger::line_at(&mut place.database.owner().await?, *position).await?;
            let event = line.as_deref().and_then(|line| Event::parse(line).ok());
            let Some(Event { recorded_at, fact: Fact::LedgerRestored(restored), .. }) = event
            else {
                bail!("event {position} has changed; run identity-ledger verify");
            };
            eprintln!(
                "Event {position} accepts the loss already, by {} at {}: {} events were signed, and {} are \
                 left. What has to follow may not be done.",
                restored.accepted_by,
                rfc_3339(recorded_at),
                restored.old_size,
                left.head.size
            );
        }
    }
    Ok(())
}

/// An export that was used begins with what is left.
fn show_unproven(to_erase: Option<&ToErase>, left: Left) {
    let unproven = left.head.size - left.sealed;
    if to_erase.is_none() && unproven > 0 {
        eprintln!(
            "No checkpoint here covers the last {} of what is left: only an export (--erasures) can show \
             that it is as it was recorded.",
            counted(unproven, "event")
        );
    }
}

fn show_to_erase(to_erase: Option<&ToErase>, signed: u64) {
    match to_erase {
        Some(ToErase { events_len, customers }) => {
            eprintln!("To be erased again, for ever: {}.", counted(customers.len(), "customer"));
            eprintln!(
                "The export that says so has {events_len} of the {signed} events that were signed: \
                 customers who were erased after those come back."
            );
        }
        None => eprintln!(
            "No one is erased again (--no-erasures): customers who were erased since come back."
        ),
    }
}

fn question(found: &Found) -> &'static str {
    match found {
        Found::Loss(_) => "Accept that they are lost for ever?",
        Found::Accepted { .. } => "Do what has to follow?",
    }
}
