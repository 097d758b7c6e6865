//! Reads and writes files of lines, which grow at the end.

use crate::files::{self, cannot_write};
use crate::progress::Progress;
use anyhow::Context as _;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// In bytes.
const CHUNK_LEN: u64 = 64 * 1024;
const MEGABYTE: usize = 1 << 20;
/// The greatest length of a line that is read. The longest event is an erasure, which names all
/// observations of a customer: this is enough for ten million.
const LINE_LEN_MAX: usize = 128 * MEGABYTE;

/// A file that lines are appended to.
pub struct LinesFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl LinesFile {
    /// Opens a file to append to it, and returns its last whole line. Cuts off what follows that line, as
    /// a crash has torn it. Fails if the file is a link, or if it is private and another user's.
    pub fn open(path: &Path, mode: u32) -> anyhow::Result<(Self, Option<String>)> {
        let open = || {
            let mut options = File::options();
            let options = options.read(true).write(true).create(true).truncate(false).mode(mode);
            let mut file =
                options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
            keep_from_others(&file, mode)?;
            let (end, last) = last_line(&mut file)?;
            file.set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            Ok::<_, io::Error>((file, last))
        };
        let (file, last) = open().with_context(|| cannot_write(path))?;
        Ok((Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file) }, last))
    }

    pub fn write(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let file = &mut self.file;
        let written = file.write_all(line).and_then(|()| file.write_all(b"\n"));
        written.with_context(|| cannot_write(&self.path))
    }

    /// Durable when it returns.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.with_context(|| cannot_write(&self.path))
    }
}

/// Sees to it that nobody can read a private file who could not read one that is new: someone else may have
/// put it there.
fn keep_from_others(file: &File, mode: u32) -> io::Result<()> {
    let found = file.metadata()?;
    if mode == files::PRIVATE && found.uid() != geteuid().as_raw() {
        let why = "it belongs to another user: export as that user, or to a new folder";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    match found.mode() & 0o777 & !mode {
        0 => Ok(()),
        _ => file.set_permissions(Permissions::from_mode(mode)),
    }
}

/// The last whole line of a file, and the beginning of what follows it. The file may be missing, and is
/// not changed.
pub fn tail(path: &Path) -> anyhow::Result<(Option<String>, Vec<u8>)> {
    let read = || {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
            opened => opened?,
        };
        let (end, last) = last_line(&mut file)?;
        let torn = read_range(&mut file, end, end.saturating_add(CHUNK_LEN))?;
        Ok::<_, io::Error>((last, torn))
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file anew without some of its lines. Durable when it returns. If it is interrupted, either the
/// old file or the new one is there, whole.
pub fn without(
    path: &Path,
    mode: u32,
    mut is_unwanted: impl FnMut(&str) -> bool,
) -> anyhow::Result<()> {
    let beside = beside(path);
    let (mut kept, _) = LinesFile::open(&beside, mode)?;
    // Cut off a line that a crash has torn.
    LinesFile::open(path, mode)?.0.finish()?;
    for line in watched_lines(path, "taking out what was erased (MB)")? {
        let line = line?;
        if !is_unwanted(&line) {
            kept.write(line.as_bytes())?;
        }
    }
    kept.finish()?;
    let replaced = fs::rename(&beside, path).and_then(|()| files::sync_dir(path));
    replaced.with_context(|| cannot_write(path))
}

/// How many lines a file has.
pub fn len(path: &Path) -> anyhow::Result<u64> {
    let lines = watched_lines(path, "reading observations (MB)")?;
    lines.map(|line| line.map(|_| 1)).sum()
}

/// Removes what `without` left if it was interrupted.
pub fn clear(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(beside(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| cannot_write(path))
        }
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// As `whole_lines`, and shows how many megabytes were read as progress.
pub fn watched_lines(
    path: &Path,
    step: &'static str,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<String>> + use<>> {
    let lines = whole_lines(path)?;
    let len = path.metadata().map_or(0, |file| file.len() / MEGABYTE as u64);
    let mut progress = Progress::of(step, len);
    let (mut megabytes, mut bytes) = (0_usize, 0);
    Ok(lines.inspect(move |line| {
        bytes += line.as_ref().map_or(0, |line| line.len() + 1);
        if bytes >= MEGABYTE {
            (megabytes, bytes) = (megabytes + 1, bytes - MEGABYTE);
            progress.at(megabytes);
        }
    }))
}

/// The lines of a file, without their line feeds. Fails at the last line if it is torn, and at one that is
/// too long for the memory.
pub fn whole_lines(
    path: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<String>> + use<>> {
    let cannot_read = format!("cannot read {}", path.display());
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).context(cannot_read)?);
    let path = path.to_owned();
    Ok(std::iter::from_fn(move || {
        let mut line = String::new();
        match Read::by_ref(&mut file).take(LINE_LEN_MAX as u64).read_line(&mut line) {
            Ok(0) => None,
            Ok(_) if line.ends_with('\n') => {
                line.pop();
                Some(Ok(line))
            }
            Ok(LINE_LEN_MAX) => Some(Err(anyhow::anyhow!(
                "a line of {} has more than {} MB, so no export wrote it",
                path.display(),
                LINE_LEN_MAX / MEGABYTE
            ))),
            Ok(_) => Some(Err(anyhow::anyhow!("the last line of {} is torn", path.display()))),
            Err(error) => Some(Err(error).context(format!("cannot read {}", path.display()))),
        }
    }))
}

/// The end of the last whole line, in bytes, and that line.
fn last_line(file: &mut File) -> io::Result<(u64, Option<String>)> {
    let len = file.metadata()?.len();
    let Some(feed) = last_feed(file, len)? else { return Ok((0, None)) };
    let begin = last_feed(file, feed)?.map_or(0, |feed| feed + 1);
    let line = read_range(file, begin, feed)?;
    Ok((feed + 1, Some(String::from_utf8_lossy(&line).into_owned())))
}

/// Where the last line feed before `end` is.
fn last_feed(file: &mut File, mut end: u64) -> io::Result<Option<u64>> {
    while end > 0 {
        let begin = end.saturating_sub(CHUNK_LEN);
        let chunk = read_range(file, begin, end)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(Some(begin + at as u64));
        }
        end = begin;
    }
    Ok(None)
}

fn read_range(file: &mut File, begin: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.take(end - begin).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::PUBLIC;

    #[track_caller]
    fn check(content: &str, kept: &str, last: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, content).unwrap();
        let (mut file, found) = LinesFile::open(&path, PUBLIC).unwrap();
        assert_eq!(found.as_deref(), last);
        file.write(b"more").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{kept}more\n"));
    }

    #[test]
    fn a_line_without_an_end_is_not_read_into_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        File::create(&path).unwrap().set_len(2 * LINE_LEN_MAX as u64).unwrap();
        let first = whole_lines(&path).unwrap().next().unwrap();
        let said = first.map(|line| line.len()).unwrap_err().to_string();
        assert!(said.contains("has more than 128 MB"), "{said}");
    }

    #[test]
    fn a_torn_line_is_cut_off_and_the_one_before_it_is_the_last() {
        check("", "", None);
        check("to", "", None);
        check("one\n", "one\n", Some("one"));
        check("one\ntw", "one\n", Some("one"));
        check("one\ntwo\n", "one\ntwo\n", Some("two"));
        let long = "x".repeat(200_000);
        check(&format!("one\n{long}\nt"), &format!("one\n{long}\n"), Some(&long));
        check(&format!("one\n{long}"), "one\n", Some("one"));
        check(&format!("{long}\n"), &format!("{long}\n"), Some(&long));
    }
}
