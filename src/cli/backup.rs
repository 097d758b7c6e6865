//! `identity-ledger backup` and `restore DIR`.

use super::config::{BackupConfig, DatabaseConfig};
use super::place::Place;
use crate::backup;
use chrono::SecondsFormat;
use std::path::Path;

pub async fn back_up(database: DatabaseConfig, config: BackupConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    let manifest = backup::back_up(&place.database, &config.dir).await?;
    println!("the ledger up to position {} is in {}", manifest.position, config.dir.display());
    if let Some(key) = place.private_key().filter(|key| key.exists()) {
        eprintln!("the signing key is not; keep a copy of {} elsewhere", key.display());
    }
    place.close().await
}

pub async fn restore(database: DatabaseConfig, dir: &Path) -> anyhow::Result<()> {
    let place = Place::reach(database).await?;
    let manifest = backup::restore(&place.database, dir).await?;
    println!(
        "restored the ledger {} up to position {}, as it was at {}",
        manifest.ledger,
        manifest.position,
        manifest.made_at.to_rfc3339_opts(SecondsFormat::Secs, true)
    );
    eprintln!("next, check it: identity-ledger verify");
    place.close().await
}
