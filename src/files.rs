//! Files that are there whole or not at all, whatever is cut off.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// For its owner only.
pub const PRIVATE: u32 = 0o600;
pub const PUBLIC: u32 = 0o644;
/// As long as a checkpoint is, about.
const PROBE_LEN: usize = 512;
/// In bytes. A file of a stranger's may have no end.
const READ_LEN_MAX: u64 = 16 << 20;

/// Writes a file that must not be there yet. Durable when it returns.
pub fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let whole = write_beside(path, content, mode)?;
    let linked = link(&whole, path);
    fs::remove_file(whole)?;
    linked
}

/// Writes a file, in the place of an earlier one if there is any. Durable when it returns.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::rename(write_beside(path, content, mode)?, path)?;
    sync_dir(path)
}

/// Gives a directory the name that it is to have. Durable when it returns.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(to)
}

/// Gives a file a second name, which must not be there yet. Durable when it returns.
pub fn link(path: &Path, second: &Path) -> io::Result<()> {
    fs::hard_link(path, second)?;
    sync_dir(second)
}

/// The content of a file that somebody else may have written.
pub fn read(path: &Path) -> io::Result<String> {
    let mut content = String::new();
    let len = File::open(path)?.take(READ_LEN_MAX).read_to_string(&mut content)?;
    match len as u64 {
        READ_LEN_MAX => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large")),
        _ => Ok(content),
    }
}

/// As `read`, none where there is no file.
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
    // Of an earlier process with this id, which was killed.
    let _ = fs::remove_file(&beside);
    write_new(&beside, content, mode)?;
    Ok(beside)
}

/// Fails where nothing could be written beside a file now. Leaves nothing there.
pub fn check_writable(path: &Path) -> io::Result<()> {
    let probe = path.with_extension(format!("probe.{:016x}", getrandom::u64()?));
    write_new(&probe, &[b' '; PROBE_LEN], PRIVATE)?;
    fs::remove_file(probe)
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        // What a full disk has left of it.
        let _ = fs::remove_file(path);
    }
    written
}

/// Makes a change of names in the directory of a file durable.
pub fn sync_dir(of: &Path) -> io::Result<()> {
    let dir = of.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
