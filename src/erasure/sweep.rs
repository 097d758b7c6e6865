//! What an erasure leaves behind in the files of Postgres, cleared away.

use crate::ledger::Database;
use sqlx::{Connection as _, query};
use std::sync::Arc;
use tokio::sync::Notify;

/// Removes the versions of rows that were erased, and what indexes say of them, from the tables
/// that hold personal data. Callers go on meanwhile.
pub async fn sweep(database: &Database) -> Result<(), sqlx::Error> {
    let mut owner = database.owner().await?;
    // Without truncation, which would lock everybody out for a moment.
    query("vacuum (index_cleanup on, truncate off) observation, contact")
        .execute(&mut owner)
        .await?;
    owner.close().await
}

/// Sweeps after erasures, in a task of its own: one sweep at a time, for however many erasures.
#[derive(Clone)]
pub struct Sweeper(Arc<Notify>);

impl Sweeper {
    /// Sweeps whenever it is told to, for as long as the service lives.
    pub fn start(database: Database) -> Self {
        let wanted = Arc::new(Notify::new());
        let sweeping = wanted.clone();
        tokio::spawn(async move {
            loop {
                sweeping.notified().await;
                if let Err(error) = sweep(&database).await {
                    let fault = crate::ledger::Fault::from(error);
                    tracing::warn!("what was erased is not vacuumed yet: {fault}");
                }
            }
        });
        Self(wanted)
    }

    /// Returns at once.
    pub fn sweep(&self) {
        self.0.notify_one();
    }
}
