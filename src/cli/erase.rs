//! `identity-ledger erase`: erases a customer.

use super::asking;
use super::config::{DatabaseConfig, EraseConfig};
use super::place::Place;
use super::say::{counted, say};
use crate::erasure::{self, Erased, Held, Swept};
use anyhow::{Context as _, bail, ensure};
use serde_json::json;

/// Shows what is to be erased, asks, and erases it. Prints numbers, never what they stand for.
pub async fn erase(database: DatabaseConfig, config: EraseConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    place.check_projection().await?;
    let id = config.id;
    let held = erasure::held(&mut place.database.eraser().await?, id).await?;
    let held = held.with_context(|| format!("no observation has the number {id} yet"))?;
    ensure!(!held.is_erased(), "the customer of observation {id} is erased already");
    if !config.yes {
        show(&held);
        if !asking::confirmed("Erase this customer for ever?", "erase the customer").await? {
            place.close().await?;
            bail!("not confirmed; nothing was erased");
        }
    }
    let by = Some(config.operator.by.as_str());
    // With --yes nothing was shown, so that nothing can differ from it.
    let shown = (!config.yes).then_some(&held);
    let erased = erasure::erase(&place.database, id, shown, &config.reason, by).await?;
    let printed = print(&erased, config.output.json);
    let swept = erasure::sweep(&place.database).await.context(
        "the customer is erased, but remains are left in the files of Postgres: vacuum the tables \
         observation, contact and idempotency",
    )?;
    match swept {
        Swept::All => {}
        Swept::TooEarly => eprintln!(
            "note: an older transaction, such as that of a backup, keeps remains in the files of Postgres; a \
             service vacuums them away when it has ended, at the latest after the next start of the service"
        ),
        Swept::NotAllowed => bail!(
            "the customer is erased, but remains are left in the files of Postgres, since this role may not \
             vacuum the tables observation, contact and idempotency: start a service as their owner, or \
             have a superuser vacuum them"
        ),
    }
    place.close().await?;
    printed
}

fn show(held: &Held) {
    let contacts: Vec<_> = held.contact_ids().map(|id| id.to_string()).collect();
    eprintln!(
        "customer {}: {} ({}), {}",
        held.primary_id,
        counted(contacts.len(), "contact"),
        contacts.join(", "),
        counted(held.observations.len(), "observation")
    );
}

fn print(erased: &Erased, as_json: bool) -> anyhow::Result<()> {
    let Erased { position, primary_id, contacts_len, observation_ids } = erased;
    let observations_len = observation_ids.len();
    if as_json {
        let described = json!({
            "primaryContactId": primary_id,
            "contacts": contacts_len,
            "observations": observations_len,
            "position": position,
        });
        say!("{described:#}");
    } else {
        say!(
            "erased customer {primary_id} at position {position}: {}, {}",
            counted(contacts_len, "contact"),
            counted(observations_len, "observation")
        );
    }
    Ok(())
}
