//! The data directory: where it is, and whose.

use super::user::{ServerUser, make_dir};
use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The lock file that is held while the server is started, joined, left or stopped. It is the first
/// file of a data directory, and its owner is the user that runs the server.
pub const START_LOCK: &str = "gate";

/// The database itself. Under this name it is complete.
pub const DATABASE: &str = "postgres";

const SOCKET: &str = ".s.PGSQL.5432";
const SOCKET_PATH_LEN_MAX: usize = if cfg!(target_os = "macos") { 103 } else { 107 };
const FALLBACK_PARENT: &str = "/var/lib/identity-ledger";

/// Who chose the data directory. If the user that runs Postgres for root cannot reach it, a default
/// gives way to a directory in `/var/lib/identity-ledger`, and a choice of the user's is an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    ByUser,
    Default,
}

/// Makes the data directory if it is missing. Returns where it really is, and the user that runs its
/// server.
pub fn prepare(wanted: &Path, chosen: Chosen) -> anyhow::Result<(PathBuf, ServerUser)> {
    let cannot_make = || format!("cannot make the data directory {}", wanted.display());
    let path = canonical(wanted).with_context(cannot_make)?;
    // Postgres keeps the path as one line of a file, and would look for the rest of the file in vain.
    ensure!(
        !path.as_os_str().as_bytes().contains(&b'\n'),
        "the path of the data directory has a line break: choose another --data-dir"
    );
    let user = ServerUser::of(&path, chosen)?;
    let path = reachable(path, chosen, &user)?;
    let parent = path.parent().unwrap_or(&path);
    if !parent.exists() {
        fs::create_dir_all(parent).with_context(cannot_make)?;
        // Root's umask can close what it has just made.
        ensure!(
            user.can_enter(parent)?,
            "user {}, which runs Postgres for root, cannot enter the new {}: open it (chmod o+x)",
            user.name(),
            parent.display()
        );
    }
    let found = make_dir(&path).with_context(cannot_make)?;
    if found.uid() != user.uid {
        // A directory with something else in it is never taken over: `--data-dir /srv` is a slip.
        let is_empty = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        ensure!(
            is_empty,
            "{} is not empty, and does not belong to user {}, which runs Postgres: choose another \
             --data-dir",
            path.display(),
            user.name()
        );
        user.give(&path).with_context(cannot_make)?;
    }
    Ok((path, user))
}

/// Whether `prepare` would return a directory that has a database. Changes nothing.
pub fn has_database(wanted: &Path, chosen: Chosen) -> anyhow::Result<bool> {
    let look = || {
        let path = canonical(wanted)?;
        let fallback = Path::new(FALLBACK_PARENT).join(short_digest(&path));
        let may_give_way = chosen == Chosen::Default && geteuid().is_root();
        let has_one = |dir: &Path| dir.join(DATABASE).try_exists();
        Ok::<_, io::Error>(has_one(&path)? || (may_give_way && has_one(&fallback)?))
    };
    look().with_context(|| {
        format!(
            "cannot look into the data directory {}; run this as the user that owns it, or choose \
             another --data-dir",
            wanted.display()
        )
    })
}

/// The directory of the socket of `data_dir`. It is the same for every process that uses the data
/// directory.
pub fn socket_dir(data_dir: &Path) -> PathBuf {
    let inside = data_dir.join("socket");
    if socket(&inside).as_os_str().len() <= SOCKET_PATH_LEN_MAX {
        inside
    } else {
        Path::new("/tmp").join(format!("identity-ledger-{}", short_digest(data_dir)))
    }
}

pub fn socket(socket_dir: &Path) -> PathBuf {
    socket_dir.join(SOCKET)
}

/// The one path of a directory, however it is named and whether or not it exists.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == ErrorKind::NotFound => {
            let is_bare = parent.as_os_str().is_empty();
            Ok(canonical(if is_bare { Path::new(".") } else { parent })?.join(name))
        }
        (found, _, _) => found,
    }
}

fn reachable(wanted: PathBuf, chosen: Chosen, user: &ServerUser) -> anyhow::Result<PathBuf> {
    if !user.we_are_root {
        return Ok(wanted);
    }
    let mut above: Vec<&Path> = wanted.ancestors().skip(1).filter(|dir| dir.exists()).collect();
    let closed = loop {
        match above.pop() {
            None => return Ok(wanted),
            Some(dir) if !user.can_enter(dir)? => break dir.display(),
            Some(_) => {}
        }
    };
    ensure!(
        chosen == Chosen::Default,
        "user {}, which runs Postgres for root, cannot enter {closed}: choose another --data-dir, \
         or open it (chmod o+x)",
        user.name()
    );
    let parent = Path::new(FALLBACK_PARENT);
    if !parent.exists() {
        // The server's user has to get through, whatever the umask of root is.
        fs::create_dir_all(parent)
            .and_then(|()| fs::set_permissions(parent, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {FALLBACK_PARENT}"))?;
    }
    let fallback = parent.join(short_digest(&wanted));
    tracing::warn!(
        "the data is in {}, because user {}, which runs Postgres for root, cannot enter {closed}",
        fallback.display(),
        user.name()
    );
    Ok(fallback)
}

fn short_digest(path: &Path) -> String {
    hex::encode(&Sha256::digest(path.as_os_str().as_bytes())[..8])
}
