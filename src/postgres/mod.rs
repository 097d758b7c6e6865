//! A private Postgres server of our own, for when there is no `DATABASE_URL`.
//!
//! Does: finds the installed programs (those for clients also for other servers), makes a database in
//! the data directory, runs one server there for all processes that use it, starts it again for a
//! service if it has died, and stops it when the last of them leaves.
//! Promises: what it commits is durable; only its user and root can connect; Ctrl-C does not reach
//! it; after a kill -9 of anything, at any moment, the next lease finds a directory that works.
//! Never: listens on a network, runs as root, logs a statement or a parameter, deletes data.

mod binaries;
mod directory;
mod server;
mod settings;
mod user;

pub use binaries::{MAJOR_MIN, clients_of, find_client};
pub use directory::Chosen;
pub use user::remove_pg_variables;

use anyhow::{Context as _, ensure};
use server::Server;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use user::ServerUser;

/// The superuser role of every private server. A process that can open the socket can log in as it.
pub const SUPERUSER: &str = "postgres";

const CANNOT_LOCK: &str = "cannot lock the data directory";

/// A lease on the private server of a data directory: the server runs for at least as long as the lease
/// lives. Dropping it releases it.
pub struct PrivatePostgres {
    server: Server,
    users: Option<File>,
    /// Changed by the holder of the start lock only.
    has_left: Arc<AtomicBool>,
}

/// Starts the server again if it has died, for as long as the lease lives.
pub struct Keeper {
    server: Server,
    has_left: Arc<AtomicBool>,
    /// Whether the server could not be started again. Nothing else tells then that it had died.
    has_failed: AtomicBool,
}

impl Keeper {
    /// Starts the server again if it has died. Blocks until it takes connections.
    pub fn look(&self) -> anyhow::Result<()> {
        if !self.is_wanted() {
            return Ok(());
        }
        let lock = hold_start_lock(&self.server.user, &self.server.data_dir)?;
        // By now this process may have left, or another one may have started the server.
        if self.has_left.load(Ordering::Relaxed) || !self.is_wanted() {
            return Ok(());
        }
        tracing::error!("Postgres has died: starting it again");
        self.has_failed.store(true, Ordering::Relaxed);
        self.server.bring_up(&lock, &[])?;
        self.has_failed.store(false, Ordering::Relaxed);
        tracing::info!("Postgres is there again");
        Ok(())
    }

    /// Whether the server has died, or could not be started again after it had.
    fn is_wanted(&self) -> bool {
        let is_gone = self.server.is_gone();
        if !is_gone {
            self.has_failed.store(false, Ordering::Relaxed);
        }
        is_gone && (self.has_failed.load(Ordering::Relaxed) || !self.server.was_stopped())
    }
}

/// The right to start the server of a data directory, or to join it.
pub struct StartLock {
    file: File,
    data_dir: PathBuf,
    user: ServerUser,
}

impl StartLock {
    /// Makes the data directory if it is missing, and waits for the lock. Blocks for as long as another
    /// process starts or stops the server, which can take minutes. May be cut off meanwhile.
    pub fn hold(data_dir: &Path, chosen: Chosen) -> anyhow::Result<Self> {
        let (data_dir, user) = directory::prepare(data_dir, chosen)?;
        let file = hold_start_lock(&user, &data_dir)?;
        Ok(Self { file, data_dir, user })
    }

    /// Finds, initialises and starts the server with these settings beside our own, or joins it if it
    /// runs already. Blocks until the server takes connections, which can take minutes after a crash.
    pub fn lease(self, settings: &[(&str, &str)]) -> anyhow::Result<PrivatePostgres> {
        let server = Server::of(self.data_dir, self.user)?;
        server.bring_up(&self.file, settings)?;
        let users = server.user.open_lock(&server.data_dir.join("users"))?;
        users.lock_shared().context(CANNOT_LOCK)?;
        Ok(PrivatePostgres { server, users: Some(users), has_left: Arc::default() })
    }
}

impl PrivatePostgres {
    /// Whether there is a database in `data_dir` already. Changes nothing.
    pub fn is_made(data_dir: &Path, chosen: Chosen) -> anyhow::Result<bool> {
        directory::has_database(data_dir, chosen)
    }

    pub fn keeper(&self) -> Keeper {
        Keeper {
            server: self.server.clone(),
            has_left: self.has_left.clone(),
            has_failed: AtomicBool::default(),
        }
    }

    /// The directory of the unix socket. The port is 5432.
    pub fn socket_dir(&self) -> &Path {
        &self.server.socket_dir
    }

    /// Where the data really is. For root it can be elsewhere than asked: see [`Chosen`].
    pub fn data_dir(&self) -> &Path {
        &self.server.data_dir
    }

    /// Makes the caller the one service of this data directory for as long as the file is open. Fails if
    /// there is one already.
    pub fn lock_service(&self) -> anyhow::Result<File> {
        let service = self.server.user.open_lock(&self.data_dir().join("service"))?;
        ensure!(
            try_lock(&service)?,
            "another service uses the data directory {}: stop it, or choose another --data-dir",
            self.data_dir().display()
        );
        Ok(service)
    }

    /// Gives a file in the data directory to the user that runs the server.
    pub fn give(&self, file: &Path) -> anyhow::Result<()> {
        let given = self.server.user.give(file);
        given.with_context(|| format!("cannot give {} to the server's user", file.display()))
    }

    /// Ends the lease. The last one to leave stops the server and waits until it is down.
    pub fn release(mut self) -> anyhow::Result<()> {
        self.leave()
    }

    fn leave(&mut self) -> anyhow::Result<()> {
        let Some(users) = self.users.take() else { return Ok(()) };
        let lock = hold_start_lock(&self.server.user, self.data_dir())?;
        self.has_left.store(true, Ordering::Relaxed);
        // Closing is not enough: a child that another thread is just forking has our files open, too.
        users.unlock().context(CANNOT_LOCK)?;
        if try_lock(&users)? { self.server.take_down(&lock) } else { Ok(()) }
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::warn!("{error:#}");
        }
    }
}

/// Waits for the start lock: one process at a time starts or stops the server.
fn hold_start_lock(user: &ServerUser, data_dir: &Path) -> anyhow::Result<File> {
    let lock = user.open_lock(&data_dir.join(directory::START_LOCK))?;
    let dir = data_dir.display();
    let what = format!("another process is starting or stopping the Postgres in {dir}");
    server::wait_for(&what, || Ok(try_lock(&lock)?.then_some(())))?;
    Ok(lock)
}

fn try_lock(file: &File) -> anyhow::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context(CANNOT_LOCK),
    }
}
