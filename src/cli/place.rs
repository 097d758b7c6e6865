//! The ledger that a command works on, ready to be used.

use super::config::{DatabaseConfig, SealConfig};
use crate::ledger::{self, Database};
use crate::postgres::{PrivatePostgres, StartLock};
use crate::projection;
use crate::seal::{self, CheckpointDir, LogName, SealInputs, SigningKey, key};
use crate::threads::on_a_thread;
use anyhow::{Context as _, ensure};
use rustix::process::{Pid, setpriority_process};
use std::fs::{DirEntry, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A niceness, as that of `nice(1)`: a third of the weight of other processes. With less, callers would
/// wait longer at the end of an activation, which gives way, too.
const NICE: i32 = 5;

/// The time between two looks at whether the private server runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(10);

/// A ledger that a command works on, and the lease on the private server that it is in, if it is in one.
///
/// The ways to open one:
///
/// |                             | server   | ledger   | old tables | head    | rights  | contacts | lock  |
/// | --------------------------- | -------- | -------- | ---------- | ------- | ------- | -------- | ----- |
/// | `reach`                     | made     | unread   | unread     | -       | -       | -        | -     |
/// | `open_to_verify`            | required | required | refused    | -       | -       | -        | -     |
/// | `open_existing`             | required | required | refused    | checked | -       | -        | -     |
/// | `open`                      | required | required | migrated   | checked | -       | -        | -     |
/// | `open_existing_for_service` | required | required | migrated   | checked | checked | checked  | taken |
/// | `open_for_service`          | made     | made     | migrated   | checked | checked | checked  | taken |
///
/// - Server: whether, without `DATABASE_URL`, a private server is made if the data directory has none. If it
///   is there, all of them start or join it.
/// - Ledger: whether it is made if it is missing. `open_for_service` fails instead if the checkpoint
///   directory has a checkpoint of it.
/// - Old tables: what happens to a ledger of an older version.
/// - Head: whether it ends where the events do.
/// - Rights: whether the role may record.
/// - Contacts: whether the contact table is as this version defines it.
/// - Lock: the one that makes this the one service of a private server. Other servers have none.
pub struct Place {
    pub database: Database,
    /// The lease on the private server. `None` at `DATABASE_URL`.
    postgres: Option<PrivatePostgres>,
    /// The lock that makes this the one service of a private server.
    _service: Option<File>,
}

impl Place {
    /// Opens it for a restore, which makes the ledger itself.
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

    /// Opens it for commands that read or append.
    pub async fn open_existing(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::open_to_verify(config).await?;
        ledger::check_head(&place.database).await?;
        Ok(place)
    }

    /// Opens it for verify, which compares the head with the events itself.
    pub async fn open_to_verify(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach_existing(config).await?;
        ledger::check(&place.database).await?;
        Ok(place)
    }

    /// Opens it for a rebuild, which makes the contact table anew.
    pub async fn open(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach_existing(config).await?;
        ledger::check_exists(&place.database).await?;
        ledger::open(&place.database).await?;
        Ok(place)
    }

    /// Opens it to accept a loss, during which no service may run.
    pub async fn open_existing_for_service(config: DatabaseConfig) -> anyhow::Result<Self> {
        let place = Self::reach_existing(config).await?;
        ledger::check_exists(&place.database).await?;
        place.for_service().await
    }

    /// Opens it for the service.
    pub async fn open_for_service(
        config: DatabaseConfig,
        seal: &SealConfig,
    ) -> anyhow::Result<Self> {
        let place = Self::reach(config).await?;
        place.check_not_lost(seal).await?;
        place.for_service().await
    }

    async fn reach_existing(config: DatabaseConfig) -> anyhow::Result<Self> {
        if config.database_url.is_none() {
            let (data_dir, chosen) = config.data_dir();
            ensure!(
                PrivatePostgres::is_made(&data_dir, chosen)?,
                "there is no ledger named {} in {}; serve creates one. If it is elsewhere, pass --data-dir or \
                 --database-url",
                config.ledger.as_str(),
                std::path::absolute(&data_dir).unwrap_or(data_dir).display()
            );
        }
        Self::reach(config).await
    }

    async fn for_service(mut self) -> anyhow::Result<Self> {
        self._service = self.postgres.as_ref().map(PrivatePostgres::lock_service).transpose()?;
        ledger::open(&self.database).await?;
        ledger::check_rights(&self.database).await?;
        self.check_projection().await?;
        Ok(self)
    }

    /// Fails if there is a checkpoint of a ledger that is not there: a new ledger of that name would be in
    /// the way when its backup is restored.
    async fn check_not_lost(&self, config: &SealConfig) -> anyhow::Result<()> {
        let Some(outside) = self.checkpoint_dir(config) else { return Ok(()) };
        let file = outside.file().to_owned();
        let is_sealed = on_a_thread(move || {
            file.try_exists().with_context(|| format!("cannot look for {}", file.display()))
        });
        let is_sealed = is_sealed.await?;
        ensure!(
            !is_sealed || ledger::exists(&self.database).await?,
            "there is no ledger named {} in this database, although {} is the checkpoint of one: bring \
             it back with identity-ledger restore, or pass another --checkpoint-dir for a new ledger",
            self.database.ledger().as_str(),
            outside.file().display()
        );
        Ok(())
    }

    /// Lets all other processes of this machine go first from here on, above all a service with its
    /// callers. The private server, which this process may have started, is not held back.
    pub fn give_way(&self) {
        // On Linux each thread has a priority of its own, and passes it on to the threads it starts.
        let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let thread = |entry: DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        let mut threads: Vec<_> = threads.map(thread).collect();
        if threads.is_empty() {
            threads.push(None);
        }
        for thread in threads {
            // If it is refused, the work is as urgent as any other.
            let _ = setpriority_process(thread, NICE);
        }
    }

    /// Fails if the contact table is not as this version defines it.
    pub async fn check_projection(&self) -> anyhow::Result<()> {
        projection::check_definition(&mut self.database.owner().await?).await
    }

    /// What a sealer is given. `None` if there is no key. Makes a key for a private server that has none,
    /// and fails instead if the ledger is sealed already: no other key would do.
    pub async fn seal_inputs(&self, config: &SealConfig) -> anyhow::Result<Option<SealInputs>> {
        if config.signing_key.is_none()
            && let Some((postgres, file)) = self.postgres.as_ref().zip(self.private_key())
            && !file.exists()
        {
            ensure!(
                !seal::is_sealed(&mut self.database.owner().await?).await?,
                "the ledger is sealed already, and {} is missing: put the key back there, or pass \
                 --signing-key",
                file.display()
            );
            key::create(&file, &LogName::of(self.database.ledger()))?;
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

    /// The directory that keeps the last checkpoint outside, if there is one.
    pub fn checkpoint_dir(&self, config: &SealConfig) -> Option<CheckpointDir> {
        let dir = config.checkpoint_dir.as_ref()?;
        Some(CheckpointDir::new(dir, self.database.ledger()))
    }

    /// Where the signing key of a private server is, once it is made.
    pub fn private_key(&self) -> Option<PathBuf> {
        let name = format!("{}.key", self.database.ledger().as_str());
        Some(self.postgres.as_ref()?.data_dir().join(name))
    }

    /// Starts the private server again whenever it has died. `None` if the server is not a private one.
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

    /// Stops the private server, unless another process uses it.
    pub async fn close(self) -> anyhow::Result<()> {
        let Some(postgres) = self.postgres else { return Ok(()) };
        let released = tokio::task::spawn_blocking(|| postgres.release());
        released.await.context("stopping Postgres panicked")?
    }
}
