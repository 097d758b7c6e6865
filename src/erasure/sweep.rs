//! What an erasure leaves behind in the files of Postgres, cleared away.

use crate::ledger::Database;
use sqlx::{Connection as _, query};

/// Removes the old versions of rows that were erased, and what indexes say of them, from the tables
/// that hold personal data. Callers go on meanwhile.
pub async fn sweep(database: &Database) -> Result<(), sqlx::Error> {
    let mut owner = database.owner().await?;
    // Indexes, too, however few rows they concern. No truncation: it would lock everybody out.
    let vacuum = "vacuum (index_cleanup on, truncate off) observation, contact";
    query(vacuum).execute(&mut owner).await?;
    owner.close().await
}
