//! One rebuild or activation runs at a time, and says how far it is.

use crate::ledger::{Database, block_erasures, release_all, try_lock_rebuild};
use crate::progress::Progress;
use crate::projection;
use anyhow::bail;
use sqlx::{Connection as _, PgConnection, query, query_scalar};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

const TURN_WAIT: Duration = Duration::from_secs(3);
const TURN_PAUSE: Duration = Duration::from_millis(20);

/// The right to replace the contact table, until it is released or its session ends.
pub struct Turn {
    pub database: Database,
    pub owner: PgConnection,
    pub progress: Progress,
}

impl Turn {
    /// Takes the right for a rebuild or an activation, during which no identity is erased. Fails if
    /// another one has it, and says how far that is; or if the table cannot be replaced.
    pub async fn take(database: &Database, work: &str) -> anyhow::Result<Self> {
        let mut owner = database.owner().await?;
        if !is_given_soon(&mut owner).await? {
            let how_far = how_far(&mut owner, database).await?;
            bail!(
                "a rebuild or an activation of this ledger is running already ({}); \
                 try again when it has ended",
                how_far.as_deref().unwrap_or("at its beginning")
            );
        }
        // Checked now, since what comes before the swap can take minutes.
        projection::check_replaceable(&mut owner).await?;
        block_erasures(&mut owner, work).await?;
        let (progress, steps) = Progress::told();
        tokio::spawn(tell(database.clone(), steps));
        Ok(Self { database: database.clone(), owner, progress })
    }

    /// Releases the right. If that fails, the session has ended and the right with it. What was
    /// done stands.
    pub async fn end(mut self) {
        if let Err(error) = release_all(&mut self.owner).await {
            tracing::debug!("the turn ends with its session: {error}");
        }
        let _ = self.owner.close().await;
    }
}

/// Waits a moment for the right. A sweep after an erasure has it for a moment, and so has a session
/// that was closed without releasing it, until the server has noticed.
async fn is_given_soon(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let begun = Instant::now();
    while !try_lock_rebuild(owner).await? {
        if begun.elapsed() > TURN_WAIT {
            return Ok(false);
        }
        sleep(TURN_PAUSE).await;
    }
    Ok(true)
}

/// Names a session of its own after each step, which others see in `pg_stat_activity`. If that fails, the
/// work goes on all the same.
async fn tell(database: Database, mut steps: watch::Receiver<String>) -> Result<(), sqlx::Error> {
    let mut session = database.owner().await?;
    loop {
        let name = prefix(&database) + &steps.borrow_and_update();
        query!("select set_config('application_name', $1, false)", name)
            .fetch_one(&mut session)
            .await?;
        if steps.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn how_far(
    owner: &mut PgConnection,
    database: &Database,
) -> Result<Option<String>, sqlx::Error> {
    let prefix = prefix(database);
    let name = query_scalar!(
        r#"select application_name as "name!"
        from pg_stat_activity
        where datname = current_database() and starts_with(application_name, $1)
        order by backend_start desc
        limit 1"#,
        prefix
    );
    let name = name.fetch_optional(owner).await?;
    Ok(name.map(|name| name[prefix.len()..].to_owned()))
}

/// The prefix of the session's name. It is short, since Postgres keeps 63 bytes of a name, and a
/// ledger's name may take 41 of them.
fn prefix(database: &Database) -> String {
    format!("{}: ", database.ledger().as_str())
}
