//! The ledger that a command works on, ready to be used.

use super::config::{DatabaseConfig, SealConfig};
use crate::ledger::{self, Database};
use crate::postgres::{PrivatePostgres, StartLock};
use crate::projection;
use crate::seal::{self, CheckpointDir, SealInputs, SigningKey, key};
use crate::threads::on_a_thread;
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, setpriority_process};
use std::fs::{DirEntry, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// As of `nice(1)`: a third of the weight of those who do not give way. Not less, for whoever waits
/// at the end of an activation waits for it.
const NICE: i32 = 5;

/// Whether the private server is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);

pub struct Place {
    pub database: Database,
    /// The lease on the private server, where there is one.
    postgres: Option<PrivatePostgres>,
    /// The lock that makes this the one service of a private server.
    _service: Option<File>,
}

impl Place {
    /// Reaches the server, or starts the private one for as long as this lives, and makes the ledger
    /// that is there ready. Fails where it is missing.
    pub async fn open(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach_existing(config).await?;
        ledger::check_exists(&place.database).await?;
        ledger::open(&place.database).await?;
        Ok(place)
    }

    /// As `open`, but migrates nothing: fails where the ledger is of another version.
    pub async fn open_existing(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::open_to_verify(config).await?;
        ledger::check_head(&place.database).await?;
        Ok(place)
    }

    /// As `open_existing`, but compares nothing with anything.
    pub async fn open_to_verify(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach_existing(config).await?;
        ledger::check(&place.database).await?;
        Ok(place)
    }

    /// As `open`, for the one service that a private server may have. Makes a ledger where there is none.
    pub async fn open_for_service(
        config: DatabaseConfig,
        seal: &SealConfig,
    ) -> anyhow::Result<Self> {
        let place = Self::reach(config).await?;
        place.check_not_lost(seal).await?;
        place.for_service().await
    }

    /// Fails where there is a checkpoint of a ledger that is not there: a new one would be in the way of
    /// its backup.
    async fn check_not_lost(&self, config: &SealConfig) -> anyhow::Result<()> {
        let Some(outside) = self.checkpoint_dir(config) else { return Ok(()) };
        let file = outside.file().to_owned();
        let is_sealed = on_a_thread(move || {
            file.try_exists().with_context(|| format!("cannot look for {}", file.display()))
        });
        let is_sealed = is_sealed.await?;
        ensure!(
            !is_sealed || ledger::exists(&self.database).await?,
            "there is no ledger named {} in this database, and {} was signed of one: bring it back \
             with identity-ledger restore, or give another --checkpoint-dir to a new ledger",
            self.database.ledger().as_str(),
            outside.file().display()
        );
        Ok(())
    }

    /// As `open_for_service`, but fails where the ledger is missing.
    pub async fn open_existing_for_service(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach_existing(config).await?;
        ledger::check_exists(&place.database).await?;
        place.for_service().await
    }

    async fn for_service(mut self) -> anyhow::Result<Self> {
        self._service = self.postgres.as_ref().map(PrivatePostgres::lock_service).transpose()?;
        ledger::open(&self.database).await?;
        self.check_projection().await?;
        Ok(self)
    }

    /// As `reach`, but makes no private server.
    async fn reach_existing(config: DatabaseConfig) -> anyhow::Result<Self> {
        if config.database_url.is_none() {
            let (data_dir, chosen) = config.data_dir();
            ensure!(
                PrivatePostgres::is_made(&data_dir, chosen)?,
                "there is no ledger named {} in {}; serve creates one",
                config.ledger.as_str(),
                data_dir.display()
            );
        }
        Self::reach(config).await
    }

    /// Lets everybody else on this machine go first from here on, a service's callers above all. The
    /// private server, which this process may have started by now, is not held back with it.
    pub fn give_way(&self) {
        // On Linux each thread has a priority of its own, and hands it down to those it starts.
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let thread = |entry: DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        let mut threads: Vec<_> = threads.map(thread).collect();
        if threads.is_empty() {
            threads.push(None);
        }
        for thread in threads {
            // Where it is refused, the work is as urgent as any other.
            let _ = setpriority_process(thread, NICE);
        }
    }

    /// Fails where the contact table is not as this version defines it.
    pub async fn check_projection(&self) -> anyhow::Result<()> {
        projection::check_definition(&mut self.database.owner().await?).await
    }

    /// What sealing works with, none without a key. Makes a key for a private server that has none,
    /// unless the ledger is sealed already: no other key would do.
    pub async fn seal_inputs(&self, config: &SealConfig) -> anyhow::Result<Option<SealInputs>> {
        if config.signing_key.is_none()
            && let Some((postgres, file)) = self.postgres.as_ref().zip(self.private_key())
            && !file.exists()
        {
            ensure!(
                !seal::is_sealed(&mut self.database.owner().await?).await?,
                "the ledger is sealed already, and {} is missing: put the key back there, or give \
                 --signing-key",
                file.display()
            );
            key::create(&file, &key::default_name(self.database.ledger()))?;
            postgres.give(&file)?;
        }
        let Some(key) = self.signing_key(config)? else { return Ok(None) };
        let outside = self.checkpoint_dir(config);
        Ok(Some(SealInputs { database: self.database.clone(), key, outside }))
    }

    /// The key that checkpoints are signed with, if there is one.
    pub fn signing_key(&self, config: &SealConfig) -> anyhow::Result<Option<SigningKey>> {
        let private = || self.private_key().filter(|file| file.exists());
        let file = config.signing_key.clone().or_else(private);
        file.map(|file| SigningKey::read(&file)).transpose()
    }

    pub fn checkpoint_dir(&self, config: &SealConfig) -> Option<CheckpointDir> {
        let dir = config.checkpoint_dir.as_ref()?;
        Some(CheckpointDir::new(dir, self.database.ledger()))
    }

    /// Where the signing key of a private server is, once it is made.
    pub fn private_key(&self) -> Option<PathBuf> {
        let name = format!("{}.key", self.database.ledger().as_str());
        Some(self.postgres.as_ref()?.data_dir().join(name))
    }

    /// Reaches the server, or starts the private one, and leaves open what is there.
    pub async fn reach(config: DatabaseConfig) -> anyhow::Result<Self> {
        if let Some(url) = &config.database_url {
            let database = Database::at_url(url, config.ledger)?;
            return Ok(Self { database, postgres: None, _service: None });
        }
        let (data_dir, chosen) = config.data_dir();
        let lock = on_a_thread(move || StartLock::hold(&data_dir, chosen)).await?;
        let lease = tokio::task::spawn_blocking(move || lock.lease(&[]));
        let postgres = lease.await.context("starting Postgres panicked")??;
        let database = Database::private(postgres.socket_dir(), config.ledger);
        Ok(Self { database, postgres: Some(postgres), _service: None })
    }

    /// Starts the private server again whenever it has died. None where the server is somebody
    /// else's.
    pub fn keep_postgres(&self) -> Option<JoinHandle<()>> {
        let keeper = Arc::new(self.postgres.as_ref()?.keeper());
        Some(tokio::spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                let keeper = keeper.clone();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || keeper.look()).await {
                    tracing::error!("{error:#}");
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }))
    }

    /// Stops the private server, if nobody else uses it.
    pub async fn close(self) -> anyhow::Result<()> {
        let Some(postgres) = self.postgres else { return Ok(()) };
        let released = tokio::task::spawn_blocking(|| postgres.release());
        released.await.context("stopping Postgres panicked")?
    }
}
