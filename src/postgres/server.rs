//! Starts and stops the server of a data directory.

use super::user::ServerUser;
use super::{SUPERUSER, binaries, directory, settings};
use crate::files::cannot_write;
use anyhow::{Context as _, bail, ensure};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const LOG: &str = "postgres.log";
const CONFIGURATION: &str = "postgres.conf";

/// One data directory with its server. Only the holder of the start lock may call what starts or stops
/// it.
#[derive(Clone)]
pub struct Server {
    pub user: ServerUser,
    pub data_dir: PathBuf,
    pub socket_dir: PathBuf,
    database: PathBuf,
    binaries: PathBuf,
}

impl Server {
    pub fn of(data_dir: PathBuf, user: ServerUser) -> anyhow::Result<Self> {
        let database = data_dir.join(directory::DATABASE);
        let binaries = binaries::find(&database)?;
        let socket_dir = directory::socket_dir(&data_dir);
        user.make_private_dir(&socket_dir)?;
        Ok(Self { user, data_dir, socket_dir, database, binaries })
    }

    /// Makes the database if it is missing, and starts the server unless it runs. Returns when the server
    /// takes connections.
    pub fn bring_up(&self, lock: &File, extra: &[(&str, &str)]) -> anyhow::Result<()> {
        if !self.database.exists() {
            self.initialise(lock)?;
        }
        if self.is_up()? {
            return Ok(());
        }
        self.write_configuration(extra)?;
        let _ = fs::rename(self.log(), self.log().with_extension("log.1"));
        let begun = Instant::now();
        while let Some(said) = self.start(lock)? {
            let reason = self.last_words(&said);
            // The children of a server that was killed take a moment to end, and a server whose starter
            // was killed takes one to come up.
            let is_passing =
                ["still in use", "already exists"].iter().any(|why| reason.contains(why));
            if !is_passing || begun.elapsed() > Duration::from_secs(10) {
                let what_to_do = self.what_to_do(&reason);
                bail!("cannot start Postgres: {reason} (see {}){what_to_do}", self.log().display());
            }
            sleep(Duration::from_millis(100));
            if self.is_up()? {
                break;
            }
        }
        Ok(())
    }

    /// Whether no server takes connections.
    pub fn is_gone(&self) -> bool {
        use ErrorKind::{ConnectionRefused, NotFound};
        let connected = UnixStream::connect(directory::socket(&self.socket_dir));
        connected.is_err_and(|error| matches!(error.kind(), ConnectionRefused | NotFound))
    }

    /// Whether a server that is gone was stopped, or could not be started: either removes the file, which
    /// a server that died leaves behind.
    pub fn was_stopped(&self) -> bool {
        !self.pid_file().exists()
    }

    /// Stops the server, and returns when it is down. It is no error if it has died already.
    pub fn take_down(&self, lock: &File) -> anyhow::Result<()> {
        if self.is_up()? {
            let mut stop = self.command("pg_ctl", lock)?;
            stop.args(["stop", "-s", "-w", "-t", "600", "-m", "fast"]);
            // In a process group of its own, or a second Ctrl-C would end the wait. The start is in ours:
            // there Ctrl-C makes pg_ctl call it off.
            stop.process_group(0);
            let (status, said) = run(stop, "Postgres is stopping")?;
            ensure!(
                status.success(),
                "cannot stop Postgres: {} (see {})",
                telling_line(&said),
                self.log().display()
            );
        }
        if !self.socket_dir.starts_with(&self.data_dir) {
            fs::remove_dir_all(&self.socket_dir)
                .with_context(|| format!("cannot remove {}", self.socket_dir.display()))?;
        }
        Ok(())
    }

    /// Makes the database under another name first, so that it is complete when it has its own.
    fn initialise(&self, lock: &File) -> anyhow::Result<()> {
        let new = self.data_dir.join("postgres.new");
        if new.exists() {
            fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
        }
        let mut initdb = self.command("initdb", lock)?;
        initdb.args(["-U", SUPERUSER, "--auth-local=trust", "--auth-host=reject"]);
        initdb.args(["--locale=C", "--encoding=UTF8", "-D"]).arg(&new);
        let output = initdb.output().context("cannot run initdb")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot make a database: {}", telling_line(&said));
        fs::rename(&new, &self.database)
            .and_then(|()| File::open(&self.data_dir)?.sync_all())
            .with_context(|| format!("cannot make {}", self.database.display()))
    }

    /// Returns what pg_ctl says if the server does not start.
    fn start(&self, lock: &File) -> anyhow::Result<Option<String>> {
        let mut start = self.command("pg_ctl", lock)?;
        start.args(["start", "-s", "-w", "-t", "600", "-l", LOG]);
        start.arg("-o").arg(format!("-c config_file={CONFIGURATION}"));
        let (status, said) = run(start, "Postgres is starting, maybe after a crash")?;
        Ok((!status.success()).then_some(said))
    }

    fn write_configuration(&self, extra: &[(&str, &str)]) -> anyhow::Result<()> {
        let path = self.data_dir.join(CONFIGURATION);
        let _ = fs::remove_file(&path);
        self.user
            .create_new(&path)
            .and_then(|mut file| file.write_all(&settings::configuration(&self.socket_dir, extra)))
            .with_context(|| cannot_write(&path))
    }

    /// Whether the server runs. Waits for the end of a start or a stop that is under way.
    ///
    /// A connection tells. The process id in postmaster.pid does not: after a crash it can be that of any
    /// other process.
    fn is_up(&self) -> anyhow::Result<bool> {
        wait_for("Postgres is starting or stopping", || {
            if UnixStream::connect(directory::socket(&self.socket_dir)).is_err() {
                return Ok(Some(false));
            }
            let pid_file = fs::read(self.pid_file()).unwrap_or_default();
            let status = String::from_utf8_lossy(&pid_file).lines().nth(7).map(str::to_owned);
            Ok(status.is_some_and(|status| status.trim() == "ready").then_some(true))
        })
    }

    /// A command on the database. It runs in the data directory and names files from there, because
    /// pg_ctl hands names to a shell.
    fn command(&self, program: &str, lock: &File) -> anyhow::Result<Command> {
        let mut command = self.user.command(self.binaries.join(program));
        // The command holds the lock, too, as its stdin: if this process is killed, the next one waits
        // until the command has ended. pg_ctl does not pass its stdin on to the server.
        let lock = lock.try_clone().context("cannot share the start lock")?;
        command.current_dir(&self.data_dir).env("PGDATA", &self.database).stdin(lock);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.data_dir.join(LOG)
    }

    fn pid_file(&self) -> PathBuf {
        self.database.join("postmaster.pid")
    }

    /// What to do if Postgres takes a process for its own that has the number of one that died, or if the
    /// directory is a copy of one that is in use. It is not done here: only a person can tell.
    fn what_to_do(&self, reason: &str) -> String {
        if !reason.contains("already exists") {
            return String::new();
        }
        // Either has the process id in its first line, and the directory of the database in its second.
        let locks =
            [self.pid_file(), directory::socket(&self.socket_dir).with_added_extension("lock")];
        let found = locks.iter().find_map(|lock| fs::read_to_string(lock).ok()).unwrap_or_default();
        let line = |n| found.lines().nth(n);
        let is_elsewhere = |dir: &&str| {
            let there = fs::canonicalize(dir).ok();
            there.is_some() && there != fs::canonicalize(&self.database).ok()
        };
        if let Some(origin) = line(1).filter(is_elsewhere) {
            return format!(
                ": this directory is a copy of {origin} that was made while it was in use, so it is damaged; \
                 do not use it, and restore a backup"
            );
        }
        let [pid_file, socket_lock] = locks.map(|lock| lock.display().to_string());
        format!(
            ": it takes process {} for the Postgres of this directory; if that is another program, remove \
             {pid_file} and {socket_lock}",
            line(0).unwrap_or("?")
        )
    }

    /// What the server said last, or what pg_ctl said if the server said nothing.
    fn last_words(&self, said: &str) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        telling_line(if log.trim().is_empty() { said } else { &log }).to_owned()
    }
}

/// Waits until a command has ended. Returns what it said on stderr if it failed, which is little: it is
/// read after the end only. The server that it leaves behind writes to its log.
fn run(mut command: Command, what: &str) -> anyhow::Result<(ExitStatus, String)> {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child =
        child.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let status = wait_for(what, || Ok(child.try_wait()?))?;
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take().filter(|_| !status.success()) {
        stderr.read_to_end(&mut said)?;
    }
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Asks until there is an answer, and logs that it waits if that takes long.
pub fn wait_for<T>(
    what: &str,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if !is_told && begun.elapsed() > Duration::from_secs(2) {
            tracing::info!("{what}: this can take a while");
            is_told = true;
        }
        ensure!(begun.elapsed() < Duration::from_secs(660), "{what}, and that takes too long");
        sleep(Duration::from_millis(10));
    }
}

/// The last line that names a failure, or the last line of all if none does.
fn telling_line(text: &str) -> &str {
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let is_telling =
        |line: &&str| ["FATAL", "PANIC", "error:"].iter().any(|word| line.contains(word));
    lines.clone().find(is_telling).or_else(|| lines.next()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::telling_line;

    #[test]
    fn the_last_line_about_a_failure_tells() {
        let log = "LOG: starting\nFATAL: first\nFATAL: second\nLOG: shut down\n\n";
        assert_eq!(telling_line(log), "FATAL: second");
        assert_eq!(telling_line("one\ntwo\n"), "two");
        assert_eq!(telling_line(""), "it said nothing");
    }
}
