//! The swap of the contact table, and the locks that it needs.

use super::next;
use super::turn::Turn;
use crate::identity::{Contact, ContactId};
use crate::ledger::{self, Fault, ObservationRow};
use crate::projection;
use anyhow::{anyhow, bail};
use sqlx::{Executor as _, PgConnection, query};
use std::time::{Duration, Instant};

/// Number of events that the swap may still have to fold under its locks. So it should be small.
const GAP_LEN_MAX: i64 = 500;
const ATTEMPTS: usize = 100;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const GIVEN_UP: &str = "the contact table is being read or vacuumed without a pause, as it is by a \
    backup, so nothing was changed; end the long query, or wait for the backup, and try again";

/// The first lock ends an autovacuum, and keeps the next one out. It is in the way of no reader and no
/// append. The second one tries whether a reader is in the way, before anything is written that would be in
/// vain. The third one keeps appends out.
const LOCK_CONTACT: &str = "
    lock table contact in share update exclusive mode;
    set local lock_timeout = '300ms';
    savepoint readers;
    lock table contact in access exclusive mode;
    rollback to readers;
    lock table contact in exclusive mode;
";

/// What the table is made from that is to take the place of the contact table.
pub trait Successor {
    /// The row of an observation, if it is a contact or was one when it was erased.
    fn row(&mut self, seen: &ObservationRow) -> Option<Contact>;

    /// Brings itself and `contact_next` up to the head. Returns the contacts whose rows changed, and the
    /// number of events that were caught up with.
    async fn catch_up(&mut self, turn: &mut Turn) -> anyhow::Result<(Vec<ContactId>, i64)>;

    /// Does what is better done before the locks are taken.
    fn prepare(&mut self) {}

    /// Appends what comes with the swap, under its locks.
    async fn append(&mut self, _owner: &mut PgConnection) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Swaps the new table in, and returns for how long no one could append, all attempts together. `effect` is
/// what the error says is not known if the connection is lost during the commit.
pub async fn swap_in(
    turn: &mut Turn,
    successor: &mut impl Successor,
    effect: &str,
) -> anyhow::Result<Duration> {
    turn.progress.begin("catching up", 1);
    let mut stopped = Duration::ZERO;
    for _ in 0..ATTEMPTS {
        catch_up(turn, successor).await?;
        successor.prepare();
        let since = Instant::now();
        if begin(&mut turn.owner).await? {
            let (changed, _) = successor.catch_up(turn).await?;
            successor.append(&mut turn.owner).await?;
            let is_in_place = commit(turn, effect).await?;
            stopped += since.elapsed();
            if is_in_place {
                return Ok(stopped);
            }
            // What was written under the locks was rolled back with them.
            next::rewrite(&mut turn.owner, &changed, |seen| successor.row(seen)).await?;
        }
        // At least for as long as it took, so that those who waited for it can go on.
        tokio::time::sleep(PAUSE_MIN.max(since.elapsed())).await;
    }
    bail!(GIVEN_UP)
}

/// Catches up with what is written meanwhile, until little is missing, or until what is missing does not
/// become less.
async fn catch_up(turn: &mut Turn, successor: &mut impl Successor) -> anyhow::Result<()> {
    let (_, mut gap_len) = successor.catch_up(turn).await?;
    while gap_len > GAP_LEN_MAX {
        let (_, next_len) = successor.catch_up(turn).await?;
        if next_len >= gap_len {
            break;
        }
        gap_len = next_len;
    }
    Ok(())
}

/// Begins a transaction during which no one can append. Returns `false` if a lock cannot be had
/// soon; then the transaction has ended.
///
/// `contact` is locked before `head`, as an append does by being one statement. Readers go on. A
/// lock is not waited for for long, since all that comes later would wait behind it.
async fn begin(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql("begin; set local lock_timeout = '3s'").execute(&mut *owner).await?;
    // The swap grants on the new table, as what opens the ledger does.
    if !got_lock(owner, ledger::LOCK_CATALOG_IN).await? {
        return Ok(false);
    }
    // A table that is missing need not be locked.
    if projection::exists(owner).await? {
        owner.execute(ledger::OUTWAIT_AUTOVACUUM).await?;
        if !got_lock(owner, LOCK_CONTACT).await? {
            return Ok(false);
        }
    }
    let lock = "
        set local lock_timeout = '300ms';
        -- A vacuum on this table would be in the way later, when waiting costs more.
        lock table contact_next in access exclusive mode;
        select position from head where schema_version > 0 for update;
        -- What is appended from here on may have to wait before it extends a table, beside a vacuum, say.
        set local lock_timeout = 0;
    ";
    got_lock(owner, lock).await
}

/// Puts `contact_next` in the place of `contact` and ends the transaction. Returns `false` if a
/// reader is in the way; then the transaction has ended without effect.
async fn commit(turn: &mut Turn, effect: &str) -> anyhow::Result<bool> {
    let Turn { database, owner, .. } = turn;
    let lock = "
        set local lock_timeout = '300ms';
        lock table contact in access exclusive mode;
    ";
    if projection::exists(owner).await? && !got_lock(owner, lock).await? {
        return Ok(false);
    }
    projection::swap_in_next(owner).await?;
    if database.has_service_role() {
        ledger::grant_to_service(owner).await?;
    }
    match query("commit").execute(owner).await.map_err(Fault::from) {
        Ok(_) => Ok(true),
        Err(lost @ Fault::Lost(_)) => {
            Err(anyhow!("{lost}, so it is not known whether {effect}: run this again"))
        }
        Err(refused) => Err(refused.into()),
    }
}

/// Adds to the error of a connection that was lost before the commit what still holds.
pub fn in_vain(error: anyhow::Error, what_holds: &str) -> anyhow::Error {
    match error.downcast_ref::<sqlx::Error>().map(Fault::from) {
        Some(lost @ Fault::Lost(_)) => anyhow!("{lost}, so {what_holds}: run this again"),
        _ => error,
    }
}

async fn got_lock(owner: &mut PgConnection, lock: &'static str) -> Result<bool, sqlx::Error> {
    match sqlx::raw_sql(lock).execute(&mut *owner).await {
        Ok(_) => Ok(true),
        Err(error) if ledger::is_lock_timeout(&error) => {
            query("rollback").execute(owner).await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
