//! `identity-ledger export`.

use super::config::{DatabaseConfig, ExportConfig};
use super::place::Place;
use super::say::{counted_with, say};
use crate::seal;

/// Seals what is not sealed yet, if there is a key and no other sealer is at work, and exports.
pub async fn export(database: DatabaseConfig, config: ExportConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    place.give_way();
    let inputs = place.seal_inputs(&config.seal).await?;
    let keys = inputs.as_ref().map(|inputs| inputs.key.verifier_keys().clone());
    if let Some(inputs) = inputs {
        seal::seal_once(inputs).await?;
    }
    let exported =
        crate::export::export(&place.database, keys.as_ref(), &config.dir, config.observations);
    let exported = exported.await?;
    let exported_are = counted_with(exported.events_len, "event", ["is", "are"]);
    say!("{exported_are} in {}", config.dir.display());
    if !exported.is_sealed {
        eprintln!("there is no checkpoint with them: nothing was sealed yet");
    } else if exported.beyond > 0 {
        let beyond_are = counted_with(exported.beyond, "later event", ["is", "are"]);
        eprintln!("{beyond_are} not sealed yet and not among them");
    }
    place.close().await
}
