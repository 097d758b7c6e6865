//! `identity-ledger backup` and `restore`.

use super::asking;
use super::config::{BackupConfig, DatabaseConfig, RestoreConfig, What};
use super::place::Place;
use super::say::say;
use crate::backup::{self, Acceptance};
use crate::ledger;
use crate::seal::{self, Found, Loss, Seal};
use anyhow::{Context as _, bail};
use chrono::SecondsFormat;
use std::path::Path;

pub async fn back_up(database: DatabaseConfig, config: BackupConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    place.give_way();
    let manifest = backup::back_up(&place.database, &config.dir).await?;
    say!("the ledger up to position {} is in {}", manifest.position, config.dir.display());
    if let Some(key) = place.private_key().filter(|key| key.exists()) {
        eprintln!("the signing key is not; keep a copy of {} elsewhere", key.display());
    }
    place.close().await
}

pub async fn restore(database: DatabaseConfig, config: RestoreConfig) -> anyhow::Result<()> {
    match config.what() {
        What::Restore(dir) => put_back(database, dir).await,
        What::AcceptLoss(reason) => accept_loss(database, &config, reason).await,
    }
}

async fn put_back(database: DatabaseConfig, dir: &Path) -> anyhow::Result<()> {
    let place = Place::reach(database).await?;
    let manifest = backup::restore(&place.database, dir).await?;
    say!(
        "restored the ledger {} up to position {}, as it was at {}",
        manifest.ledger,
        manifest.position,
        manifest.made_at.to_rfc3339_opts(SecondsFormat::Secs, true)
    );
    if let Some(key) = place.private_key().filter(|key| !key.exists()) {
        eprintln!("before a service starts on it, put its signing key back as {}", key.display());
    }
    eprintln!("next, check it: identity-ledger verify");
    place.close().await
}

/// Shows what is lost, asks, says so in the ledger, and does what has to follow. Broken off, it can be
/// run again.
async fn accept_loss(
    database: DatabaseConfig,
    config: &RestoreConfig,
    reason: &str,
) -> anyhow::Result<()> {
    asking::check_somebody_is_here(config.yes, "accept the loss")?;
    let place = Place::open_for_service(database).await?;
    let found = seal::loss(key_of(&place, config).await?).await?;
    // Read first: an export that is of no use must not be found out about half way.
    let erasures = match &config.erasures {
        Some(export) => backup::lost_erasures(&place.database, export, found.left()).await?,
        None => Vec::new(),
    };
    let position = match found {
        Found::Accepted { position, .. } => position,
        Found::Loss(loss) => {
            show(&loss, config);
            if !config.yes && !asking::confirmed("Accept that they are lost for ever?").await? {
                place.close().await?;
                bail!("not confirmed; nothing was changed");
            }
            let by = config.operator.by.to_string();
            let acceptance = Acceptance { by, reason: reason.to_owned() };
            backup::accept(&place.database, &loss, acceptance).await?
        }
    };
    if config.erasures.is_some() {
        let by = config.operator.by.as_str();
        let forgotten = backup::erase_again(&place.database, &erasures, by).await?;
        say!("forgotten again: {forgotten} customers");
    }
    let outside = place.checkpoint_dir(&config.seal).context("it was there just now")?;
    let aside = backup::begin_anew(key_of(&place, config).await?, &outside, position).await?;
    say!("the loss is event {position}; what had been signed is kept in {}", aside.display());
    print_keys(&place, config).await?;
    place.close().await
}

async fn key_of(place: &Place, config: &RestoreConfig) -> anyhow::Result<Seal> {
    let seal = place.seal(&config.seal).await?;
    seal.context("there is no key that the ledger goes on to be signed with; give --signing-key")
}

fn show(loss: &Loss, config: &RestoreConfig) {
    let (old, new) = (loss.kept.head.size, loss.left.size);
    eprintln!("{old} events were signed, and {new} are left, up to position {}.", loss.position);
    eprintln!("Lost are {} of them, and what was recorded after those.", old - new);
    eprintln!("The next event will have the position {}.", loss.next_position());
    if config.erasures.is_none() {
        eprintln!("Nobody is forgotten again (--no-erasures): who was forgotten since comes back.");
    }
}

/// Whoever checks the ledger needs the new one.
async fn print_keys(place: &Place, config: &RestoreConfig) -> anyhow::Result<()> {
    let gaps = ledger::gaps(&mut place.database.owner().await?).await?;
    let keys = key_of(place, config).await?.key.verifier_keys().of(&gaps);
    say!("from here on its key is {}", keys.text().lines().next().unwrap_or_default());
    Ok(())
}
