//! Folds the whole ledger into a fresh contact table and swaps it in, while requests run, with a
//! rule change or without one. Shows beforehand what a rule change would do.
//!
//! Promises: the new table is what the events fold into; callers wait for the swap alone; whatever
//! interrupts it leaves the old table, and the old rules, in place.
//! Never: decides by anything but `resolve`; reads in one long transaction.

mod activate;
mod impact;
mod next;
mod swap;
mod turn;

pub use activate::{Activated, ActivationRequest, activate};
pub use impact::{Changed, GainedAndLost, Growth, Impact, Limits, Remap, impact};

use crate::identity::{Contact, ContactId, Holders, Links, Position, Rules};
use crate::ledger::{self, Database, ObservationRow};
use crate::projection::Replay;
use anyhow::ensure;
use swap::Successor;
use turn::Turn;

/// What a rebuild has done.
pub struct Rebuilt {
    /// The position at which the new table was swapped in.
    pub position: Position,
    pub contacts_len: usize,
}

/// What the rows of the new table are made from.
struct Fold {
    rules: Rules,
    replay: Replay,
    holders: Holders,
}

/// Fails if a rebuild or an activation is running, and says how far that is; or if the contact
/// table cannot be replaced.
pub async fn check_turn(database: &Database) -> anyhow::Result<()> {
    Turn::take(database, "activation").await?.end().await;
    Ok(())
}

/// Rebuilds the contact table. One rebuild or activation runs at a time.
pub async fn rebuild(database: &Database) -> anyhow::Result<Rebuilt> {
    let mut turn = Turn::take(database, "rebuild").await?;
    let rebuilt = make_anew(&mut turn)
        .await
        .map_err(|error| swap::in_vain(error, "the contact table is as it was"))?;
    turn.end().await;
    Ok(rebuilt)
}

async fn make_anew(turn: &mut Turn) -> anyhow::Result<Rebuilt> {
    let rules = ledger::rules_in_force(&mut turn.owner).await?;
    let replay = Replay::whole(&turn.database, &mut turn.progress).await?;
    let mut fold = Fold { rules, replay, holders: Holders::default() };
    let last = fold.replay.links.last();
    let rows_len = next::fill(turn, last, |seen| fold.row(seen)).await?;
    let missing_len = fold.replay.links.rows_len() - rows_len;
    ensure!(
        missing_len == 0,
        "contacts whose observations are missing or have lost their values: {missing_len}; \
         identity-ledger verify names the first"
    );
    swap::swap_in(turn, &mut fold, "the new table is in place").await?;
    let Replay { links, position, .. } = fold.replay;
    Ok(Rebuilt { position, contacts_len: links.contacts_len() })
}

impl Successor for Fold {
    fn row(&mut self, seen: &ObservationRow) -> Option<Contact> {
        let links = &mut self.replay.links;
        row(links, &mut self.holders, &self.rules, seen).or_else(|| tombstone(links, seen))
    }

    async fn catch_up(&mut self, turn: &mut Turn) -> anyhow::Result<(Vec<ContactId>, i64)> {
        let from = self.replay.position;
        let head = ledger::position(&mut turn.owner).await?;
        let changed = self.replay.catch_up(&mut turn.owner, head).await?;
        next::rewrite(&mut turn.owner, &changed, |seen| self.row(seen)).await?;
        Ok((changed, head.get() - from.get()))
    }
}

/// The row of an observation that is a contact, by where it stands and by the rules. `None` if it is no
/// contact, or was erased.
fn row(
    links: &mut Links,
    holders: &mut Holders,
    rules: &Rules,
    seen: &ObservationRow,
) -> Option<Contact> {
    let identifiers = seen.identifiers.as_ref()?;
    let standing = links.standing(seen.id.into())?;
    let keys = rules.keys(identifiers);
    let holds = holders.claim(standing.id, &keys);
    Some(Contact::new(identifiers, keys, standing, holds, seen.observed_at))
}

/// The row that is left of a contact that was erased, by what the events say.
fn tombstone(links: &Links, seen: &ObservationRow) -> Option<Contact> {
    let standing = links.tombstone(seen.id.into())?;
    Some(Contact::tombstone(standing, seen.observed_at))
}
