//! The settings of a private server.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

const FIXED: [(&str, &str); 19] = [
    ("cluster_name", "identity-ledger"),
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("max_connections", "100"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    ("max_wal_size", "4GB"),
    // While a new file of the write-ahead log is filled with zeros, nothing can be committed.
    ("wal_init_zero", "off"),
    ("checkpoint_timeout", "15min"),
    ("logging_collector", "off"),
    // Statements, their parameters and their errors ("invalid input syntax: ...") hold emails and
    // phone numbers. The log outlives an erasure, so none of them may get there: among the levels of
    // what is logged, "log" is above "error". Clients get their errors all the same.
    ("log_min_messages", "log"),
    ("log_error_verbosity", "terse"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_error_statement", "panic"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
];

/// The configuration file of a private server, which is for its data directory. If a setting is given
/// twice, the last one counts: ours win over those that initdb wrote, and `extra` over ours.
pub fn configuration(socket_dir: &Path, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut text = b"# Written anew at each start. ALTER SYSTEM overrides what is here.\n\
                     include 'postgres/postgresql.conf'\n"
        .to_vec();
    let shared_buffers_mb = (memory_mb() / 4).clamp(128, 8192);
    text.extend(line("shared_buffers", format!("{shared_buffers_mb}MB").as_bytes()));
    // The setting is a list. In double quotes, commas and blanks are part of the path.
    let socket_dir = enclosed(b'"', b"\"", socket_dir.as_os_str().as_bytes());
    text.extend(line("unix_socket_directories", &socket_dir));
    for (name, value) in FIXED.iter().chain(extra) {
        text.extend(line(name, value.as_bytes()));
    }
    text
}

fn line(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b" = ", &enclosed(b'\'', b"'\\", value), b"\n"].concat()
}

fn enclosed(quote: u8, doubled: &[u8], value: &[u8]) -> Vec<u8> {
    let mut text = vec![quote];
    for byte in value {
        text.extend(std::iter::repeat_n(*byte, if doubled.contains(byte) { 2 } else { 1 }));
    }
    text.push(quote);
    text
}

/// The memory of this machine or, if that is less, of this container. 0 if it is not known.
fn memory_mb() -> u64 {
    let bytes = if cfg!(target_os = "macos") {
        let output = Command::new("sysctl").args(["-n", "hw.memsize"]).output();
        output.ok().and_then(|output| number(&String::from_utf8_lossy(&output.stdout)))
    } else {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kib = read("/proc/meminfo")
            .lines()
            .find_map(|line| number(line.strip_prefix("MemTotal:")?.strip_suffix("kB")?));
        let limit = number(&read("/sys/fs/cgroup/memory.max")).unwrap_or(u64::MAX);
        kib.map(|kib| limit.min(kib * 1024))
    };
    bytes.unwrap_or(0) >> 20
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::configuration;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    #[test]
    fn any_path_and_any_value_can_be_quoted() {
        let socket_dir = Path::new(OsStr::from_bytes(b"/a, b's \"c\" \\\xff"));
        let text = configuration(socket_dir, &[("log_line_prefix", "it's \\")]);
        let holds = |line: &[u8]| text.split(|byte| *byte == b'\n').any(|found| found == line);
        assert!(holds(b"unix_socket_directories = '\"/a, b''s \"\"c\"\" \\\\\xff\"'"));
        assert!(holds(b"log_line_prefix = 'it''s \\\\'"));
        assert!(holds(b"listen_addresses = ''"));
    }
}
