//! The ledger that a command works on, ready to be used.

use super::config::DatabaseConfig;
use crate::ledger::{self, Database};
use crate::postgres::PrivatePostgres;
use crate::projection;
use anyhow::Context as _;
use std::fs::File;

pub struct Place {
    pub database: Database,
    /// The lease on the private server, where there is one.
    postgres: Option<PrivatePostgres>,
    /// The lock that makes this the one service of a private server.
    _service: Option<File>,
}

impl Place {
    /// Reaches the server, or starts the private one for as long as this lives, and makes the
    /// ledger ready.
    pub async fn open(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach(config).await?;
        ledger::open(&place.database).await?;
        Ok(place)
    }

    /// As `open`, for the one service that a private server may have.
    pub async fn open_for_service(config: DatabaseConfig) -> anyhow::Result<Self> {
        let mut place = Self::reach(config).await?;
        place._service = place.postgres.as_ref().map(PrivatePostgres::lock_service).transpose()?;
        ledger::open(&place.database).await?;
        place.check_projection().await?;
        Ok(place)
    }

    /// Fails where the contact table is not as this version defines it.
    pub async fn check_projection(&self) -> anyhow::Result<()> {
        projection::check_definition(&mut self.database.owner().await?).await
    }

    async fn reach(config: DatabaseConfig) -> anyhow::Result<Self> {
        if let Some(url) = &config.database_url {
            let database = Database::at_url(url, config.ledger)?;
            return Ok(Self { database, postgres: None, _service: None });
        }
        let (data_dir, chosen) = config.data_dir();
        let lease = move || PrivatePostgres::lease(&data_dir, chosen);
        let postgres =
            tokio::task::spawn_blocking(lease).await.context("starting Postgres panicked")??;
        let database = Database::private(postgres.socket_dir(), config.ledger);
        Ok(Self { database, postgres: Some(postgres), _service: None })
    }

    /// Stops the private server, if nobody else uses it.
    pub async fn close(self) -> anyhow::Result<()> {
        let Some(postgres) = self.postgres else { return Ok(()) };
        let released = tokio::task::spawn_blocking(|| postgres.release());
        released.await.context("stopping Postgres panicked")?
    }
}
