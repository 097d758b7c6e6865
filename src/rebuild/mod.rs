//! Folds the whole ledger into a fresh contact table and swaps it in, while requests run.
//!
//! Promises: the new table equals the old one where that was right; callers wait for the
//! swap alone; whatever interrupts it leaves the old table in place.
//! Never: appends an event, or reads in one long transaction.

mod copy;

use crate::identity::{Holders, Position, Rules};
use crate::ledger::{self, Database};
use crate::projection::{self, Replay};
use anyhow::{bail, ensure};
use copy::{copy_again, copy_all};
use sqlx::{Connection as _, PgConnection, query, query_scalar};
use std::time::Duration;

/// The swap folds what is still missing under its locks, so that should be little.
const GAP_LEN_MAX: i64 = 500;
const SWAP_ATTEMPTS: usize = 100;
const SWAP_PAUSE: Duration = Duration::from_millis(100);

/// What a rebuild has done.
pub struct Rebuilt {
    /// The position that the new table was swapped in at.
    pub position: Position,
    pub contacts_len: usize,
}

/// The table being built, and the fold it is built from.
struct Build {
    owner: PgConnection,
    rules: Rules,
    replay: Replay,
    holders: Holders,
}

/// Rebuilds the contact table. One rebuild runs at a time.
pub async fn rebuild(database: &Database) -> anyhow::Result<Rebuilt> {
    let mut owner = database.owner().await?;
    let alone = query_scalar!(
        r#"select pg_try_advisory_lock(hashtext('identity-ledger rebuild'), hashtext(current_schema())) as "alone!""#
    );
    ensure!(alone.fetch_one(&mut owner).await?, "a rebuild of this ledger is running already");

    let rules = ledger::rules_in_force(&mut owner).await?;
    let replay = Replay::whole(&mut owner).await?;
    let mut build = Build { owner, rules, replay, holders: Holders::new() };
    projection::create_next(&mut build.owner).await?;
    copy_all(&mut build).await?;
    projection::index_next(&mut build.owner).await?;
    while build.catch_up().await? > GAP_LEN_MAX {}
    build.swap(database).await?;
    let rebuilt =
        Rebuilt { position: build.replay.position, contacts_len: build.replay.links.len() };
    build.owner.close().await?;
    Ok(rebuilt)
}

impl Build {
    /// Brings `contact_next` up to the head; returns how many events that took.
    async fn catch_up(&mut self) -> anyhow::Result<i64> {
        let from = self.replay.position;
        loop {
            let head = ledger::position(&mut self.owner).await?;
            if self.replay.position >= head {
                return Ok(head.get() - from.get());
            }
            let changed = self.replay.page(&mut self.owner, head).await?;
            copy_again(self, &changed).await?;
        }
    }

    /// Swaps the tables under locks that are given up at once when somebody reads for long:
    /// whoever waits for them would stop the line.
    async fn swap(&mut self, database: &Database) -> anyhow::Result<()> {
        for _ in 0..SWAP_ATTEMPTS {
            if self.try_swap(database).await? {
                return Ok(());
            }
            tokio::time::sleep(SWAP_PAUSE).await;
            self.catch_up().await?;
        }
        bail!("the contact table is being read without a pause; end the long query and try again")
    }

    async fn try_swap(&mut self, database: &Database) -> anyhow::Result<bool> {
        // Whoever opens the ledger grants under this lock, too: two at once fail in the catalog.
        sqlx::raw_sql("begin; select pg_advisory_xact_lock(hashtext('identity-ledger'))")
            .execute(&mut self.owner)
            .await?;
        if !lock_tables(&mut self.owner).await? {
            query("rollback").execute(&mut self.owner).await?;
            return Ok(false);
        }
        self.catch_up().await?;
        projection::swap_in_next(&mut self.owner).await?;
        if database.has_service_role() {
            ledger::grant_to_service(&mut self.owner).await?;
        }
        query("commit").execute(&mut self.owner).await?;
        Ok(true)
    }
}

/// `contact` before `head`: an append locks them in this order, by being one statement.
async fn lock_tables(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let lock = "
        set local lock_timeout = '300ms';
        lock table contact in access exclusive mode;
        select position from head for update;
    ";
    match sqlx::raw_sql(lock).execute(owner).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => Ok(false),
        Err(error) => Err(error),
    }
}
