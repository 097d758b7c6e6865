//! The system user that runs the private server.

use super::directory::{Chosen, START_LOCK};
use anyhow::{Context as _, anyhow, ensure};
use rustix::process::{getegid, geteuid};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown, lchown,
};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The system user that runs the server and owns its files: ourselves, unless we are root.
///
/// Root does not trust what this user has put into its directories: a file that root makes there is
/// always new, is never reached through a link, and is given away only after that.
#[derive(Clone)]
pub struct ServerUser {
    pub uid: u32,
    gid: u32,
    pub we_are_root: bool,
}

impl ServerUser {
    /// Finds the user that runs the server of `data_dir`. Postgres refuses to run as root, so root runs
    /// it as the owner of the start lock, and in a new directory as `postgres`. In a directory that nobody
    /// chose, another owner may have left the lock there for root to find: that is an error.
    pub fn of(data_dir: &Path, chosen: Chosen) -> anyhow::Result<Self> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        if uid != 0 {
            return Ok(Self { uid, gid, we_are_root: false });
        }
        let (uid, gid) = match fs::symlink_metadata(data_dir.join(START_LOCK)) {
            Ok(lock) if lock.uid() != 0 => {
                ensure!(
                    chosen == Chosen::ByUser || lock.uid() == id_of_postgres("-u")?,
                    "the ledger in {dir} is another user's: run this as that user, or pass --data-dir {dir} \
                     to use it all the same",
                    dir = data_dir.display()
                );
                (lock.uid(), lock.gid())
            }
            _ => (id_of_postgres("-u")?, id_of_postgres("-g")?),
        };
        Ok(Self { uid, gid, we_are_root: true })
    }

    /// The name of this user, or its number if it has none.
    pub fn name(&self) -> String {
        let uid = self.uid.to_string();
        let output = Command::new("id").args(["-un", &uid]).stderr(Stdio::null()).output();
        let name = output.ok().filter(|output| output.status.success());
        name.map_or(uid, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A command that runs as this user, without our Postgres variables, and with messages in English.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        remove_pg_variables(&mut command);
        command.env("LC_ALL", "C").current_dir("/");
        if self.we_are_root {
            // This drops the supplementary groups of root, too.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Whether this user can reach what is in `dir`. Found by trying: permission bits do not tell, since
    /// there are also access lists, mount options and security modules.
    pub fn can_enter(&self, dir: &Path) -> anyhow::Result<bool> {
        let mut test = self.command("test");
        let status = test.arg("-x").arg(dir).stderr(Stdio::null()).status();
        Ok(status.context("cannot run `test`")?.success())
    }

    /// Makes a directory that only this user can enter, if it is missing. Fails if one is there that
    /// others can enter.
    pub fn make_private_dir(&self, dir: &Path) -> anyhow::Result<()> {
        let found = make_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // In /tmp another user can get there first, and would then own the socket that we trust.
        let is_ours = found.uid() == self.uid || found.uid() == geteuid().as_raw();
        ensure!(
            found.is_dir() && is_ours && found.mode() & 0o077 == 0,
            "{} is not a private directory of this user: remove it",
            dir.display()
        );
        self.give(dir).with_context(|| format!("cannot give away {}", dir.display()))
    }

    /// Opens a lock file. Makes it if it is missing.
    pub fn open_lock(&self, path: &Path) -> anyhow::Result<File> {
        match self.create_new(path) {
            // NFS refuses an exclusive lock on a file that is open for reading only.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                File::options().read(true).write(true).open(path)
            }
            created => created,
        }
        .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Makes and opens a file that does not exist yet, for this user only.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        if self.we_are_root {
            fchown(&file, Some(self.uid), Some(self.gid))?;
        }
        Ok(file)
    }

    /// Gives a file or a directory that root has made to this user.
    pub fn give(&self, dir: &Path) -> io::Result<()> {
        if self.we_are_root { lchown(dir, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }
}

/// Takes the variables away from a command by which the environment changes what Postgres' programs do.
pub fn remove_pg_variables(command: &mut Command) {
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
}

/// Makes a directory for its owner only if there is nothing yet. Returns what is there now.
pub fn make_dir(dir: &Path) -> io::Result<Metadata> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::symlink_metadata(dir),
    }
}

fn id_of_postgres(which: &str) -> anyhow::Result<u32> {
    let output =
        Command::new("id").args([which, "postgres"]).output().context("cannot run `id`")?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| {
        anyhow!(
            "Postgres refuses to run as root, and there is no user postgres to run it: \
             run `make setup`, run this as another user, or set DATABASE_URL"
        )
    })
}
