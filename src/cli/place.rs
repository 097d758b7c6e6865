//! The ledger that a command works on, ready to be used.

use super::config::DatabaseConfig;
use crate::ledger::{self, Database};
use crate::postgres::PrivatePostgres;
use anyhow::Context as _;

pub struct Place {
    pub database: Database,
    /// The lease on the private server, where there is one.
    pub postgres: Option<PrivatePostgres>,
}

impl Place {
    /// Reaches the server, or starts the private one for as long as this lives, and makes the
    /// ledger ready.
    pub async fn open(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach(config).await?;
        ledger::open(&place.database).await?;
        Ok(place)
    }

    pub async fn reach(config: DatabaseConfig) -> anyhow::Result<Self> {
        if let Some(url) = config.url() {
            let database = Database::at_url(url, config.ledger.clone())?;
            return Ok(Self { database, postgres: None });
        }
        let (data_dir, chosen) = config.data_dir();
        let lease = move || PrivatePostgres::lease(&data_dir, chosen);
        let postgres =
            tokio::task::spawn_blocking(lease).await.context("starting Postgres panicked")??;
        let database = Database::private(postgres.socket_dir(), config.ledger);
        Ok(Self { database, postgres: Some(postgres) })
    }

    /// Stops the private server, if nobody else uses it.
    pub async fn close(self) -> anyhow::Result<()> {
        let Some(postgres) = self.postgres else { return Ok(()) };
        let released = tokio::task::spawn_blocking(|| postgres.release());
        released.await.context("stopping Postgres panicked")?
    }
}
