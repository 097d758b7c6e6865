//! Files that are written whole or not at all, whatever is interrupted.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The mode of a file for its owner only.
pub const PRIVATE: u32 = 0o600;
/// The mode of a file that anyone may read.
pub const PUBLIC: u32 = 0o644;
/// About the length of a checkpoint.
const PROBE_LEN: usize = 512;
/// The greatest length that is read, in bytes. A file that another program writes may have no end.
const READ_LEN_MAX: u64 = 16 << 20;

/// What an error begins with.
pub fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Writes a file that must not exist yet. Durable when it returns.
pub fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let whole = write_beside(path, content, mode)?;
    let linked = link(&whole, path);
    fs::remove_file(whole)?;
    linked
}

/// Writes a file, in place of an earlier one if there is one. Durable when it returns.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::rename(write_beside(path, content, mode)?, path)?;
    sync_dir(path)
}

/// Renames a file or a directory. Durable when it returns.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(to)
}

/// Gives a file a second name, which must not exist yet. Durable when it returns.
pub fn link(path: &Path, second: &Path) -> io::Result<()> {
    fs::hard_link(path, second)?;
    sync_dir(second)
}

/// The content of a file that another program may have written. Fails if it is too long.
pub fn read(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    let len = File::open(path)?.take(READ_LEN_MAX).read_to_string(&mut content)?;
    match len as u64 {
        READ_LEN_MAX => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large")),
        _ => Ok(content),
    }
}

/// As `read`, but `None` if there is no file.
pub fn read_if_any(path: &Path) -> io::Result<Option<String>> {
    match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn write_beside(path: &Path, content: &[u8], mode: u32) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    // An earlier process with this id may have been killed before it renamed its file.
    let _ = fs::remove_file(&beside);
    write_new(&beside, content, mode)?;
    Ok(beside)
}

/// Fails if nothing could be written beside a file now. Leaves nothing there.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let probe = path.with_extension(format!("probe.{:016x}", getrandom::u64()?));
    write_new(&probe, &[b' '; PROBE_LEN], PRIVATE)?;
    fs::remove_file(probe)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // A full disk may have left a part of it.
        let _ = fs::remove_file(path);
    }
    written
}

/// Makes durable what was created, renamed or removed in the directory of this file.
pub fn sync_dir(of: &Path) -> io::Result<()> {
    let dir = of.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
