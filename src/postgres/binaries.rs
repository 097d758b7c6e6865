//! Finds the installed programs of Postgres.

use anyhow::{Context as _, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest major version of Postgres that will do.
pub const MAJOR_MIN: u32 = 14;
const TRANSACTION_TIMEOUT_SINCE: u32 = 17;

/// Where packages put a server: a directory, how the names in it begin, and the directory below them.
/// `scripts/install` looks at the same places.
const PACKAGED: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/opt/homebrew", "bin", ""),
];

/// Finds the directory of the programs for `database`: of the major version that made it or, if there
/// is none yet, of any version that we support.
pub fn find(database: &Path) -> anyhow::Result<PathBuf> {
    let made_by = match fs::read_to_string(database.join("PG_VERSION")) {
        Ok(text) => {
            Some(text.trim().parse::<u32>().context("PG_VERSION of the database is not a number")?)
        }
        Err(_) => None,
    };
    let mut found = BTreeSet::new();
    for dir in installed() {
        let Some(major) = major_of(&dir) else { continue };
        if made_by.map_or(major >= MAJOR_MIN, |made_by| major == made_by) {
            return Ok(dir);
        }
        found.insert(major);
    }
    let found = named(found);
    let Some(major) = made_by else {
        bail!(
            "no Postgres server of version {MAJOR_MIN} or newer (found: {found}): run `make setup`, or \
             install the package postgresql (apt, apk, brew) or postgresql-server (dnf), or set DATABASE_URL"
        )
    };
    bail!(
        "{} was made by Postgres {major} and needs it again (found: {found}): install Postgres {major}, \
         or choose another --data-dir",
        database.display()
    )
}

/// The major versions of Postgres' client programs that suit a server: its own and newer ones. For a
/// server older than 17 they end before 17: from there on pg_restore sets `transaction_timeout`, which
/// such a server refuses, and no older pg_restore reads what such a pg_dump wrote.
pub fn clients_of(server: u32) -> RangeInclusive<u32> {
    match server < TRANSACTION_TIMEOUT_SINCE {
        true => server..=TRANSACTION_TIMEOUT_SINCE - 1,
        false => server..=u32::MAX,
    }
}

/// Finds one of Postgres' client programs, such as pg_dump, of the oldest of these major versions that
/// is installed. Of several programs of that version, the one on the PATH wins. Returns its path and
/// its own version.
pub fn find_client(program: &str, majors: RangeInclusive<u32>) -> anyhow::Result<(PathBuf, u32)> {
    let programs = holding(program, &["pg_dump", "pg_restore"]).map(|dir| dir.join(program));
    let with_major = programs.filter_map(|path| Some((version_of(&path)?, path)));
    choose(program, majors, with_major)
}

fn choose(
    program: &str,
    majors: RangeInclusive<u32>,
    best_first: impl Iterator<Item = (u32, PathBuf)>,
) -> anyhow::Result<(PathBuf, u32)> {
    let mut found = BTreeMap::new();
    for (major, path) in best_first {
        found.entry(major).or_insert(path);
    }
    if let Some((major, path)) = found.range(majors.clone()).next() {
        return Ok((path.clone(), *major));
    }
    let (first, last) = majors.into_inner();
    let wanted = match last {
        u32::MAX => format!("{first} or newer"),
        last if last == first => first.to_string(),
        last => format!("{first} to {last}"),
    };
    let found = named(found.into_keys());
    bail!(
        "no {program} of version {wanted} (found: {found}): install the package \
         postgresql-client-{first} (apt), postgresql{first}-client (apk), postgresql{first} (dnf) \
         or postgresql@{first} (brew)"
    )
}

fn named(majors: impl IntoIterator<Item = u32>) -> String {
    let majors: Vec<_> = majors.into_iter().map(|major| major.to_string()).collect();
    if majors.is_empty() { "none".to_owned() } else { majors.join(", ") }
}

/// The directories that hold all programs of a server, the best first.
fn installed() -> impl Iterator<Item = PathBuf> {
    holding("postgres", &["initdb", "pg_ctl"])
}

/// The directories that hold a program and these others, the best first.
fn holding(program: &str, others: &[&str]) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    on_path
        .into_iter()
        .chain(std::iter::once_with(told_by_pg_config).flatten())
        .chain(std::iter::once_with(packaged).flatten())
        .filter_map(move |dir| {
            // The real directory: one of links may have pg_ctl without the programs that it runs.
            let dir = fs::canonicalize(dir.join(program)).ok()?.parent()?.to_owned();
            others.iter().all(|name| dir.join(name).is_file()).then_some(dir)
        })
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(OsString::from_vec(output.stdout.trim_ascii_end().to_vec()).into())
}

fn packaged() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for (parent, prefix, below) in PACKAGED {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let mut names: Vec<(u32, String)> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some((name.strip_prefix(prefix)?.parse().unwrap_or(0), name)))
            .collect();
        names.sort();
        dirs.extend(names.iter().rev().map(|(_, name)| Path::new(parent).join(name).join(below)));
    }
    dirs
}

fn major_of(dir: &Path) -> Option<u32> {
    version_of(&dir.join("postgres"))
}

fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{choose, clients_of, parse_major};
    use std::path::PathBuf;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_major("postgres (PostgreSQL) devel"), None);
        assert_eq!(parse_major(""), None);
    }

    #[test]
    fn a_client_is_one_that_the_server_understands() {
        let chosen = |server, installed: &[u32]| {
            let path = |major: &u32| PathBuf::from(format!("/{major}/pg_dump"));
            let found = installed.iter().map(|major| (*major, path(major)));
            let chosen = choose("pg_dump", clients_of(server), found);
            chosen.map(|(path, major)| {
                assert_eq!(path, PathBuf::from(format!("/{major}/pg_dump")));
                major
            })
        };
        for (server, installed, expected) in [
            (15, &[14, 15, 16, 17][..], 15),
            (15, &[14, 16, 17, 18], 16),
            (17, &[16, 18, 19], 18),
            (18, &[18, 19], 18),
        ] {
            assert_eq!(chosen(server, installed).unwrap(), expected);
        }
        for (server, installed, says) in [
            (14, &[17, 18][..], "no pg_dump of version 14 to 16 (found: 17, 18)"),
            (16, &[15, 17], "no pg_dump of version 16 (found: 15, 17)"),
            (18, &[17], "no pg_dump of version 18 or newer (found: 17)"),
            (18, &[], "no pg_dump of version 18 or newer (found: none)"),
        ] {
            let refused = chosen(server, installed).unwrap_err().to_string();
            let package = format!("postgresql-client-{server} (apt)");
            assert!(refused.starts_with(says) && refused.contains(&package), "{refused}");
        }
    }

    #[test]
    fn of_two_clients_of_one_version_the_first_found_is_taken() {
        let found = ["/on_path", "/packaged"].map(|dir| (17, PathBuf::from(dir)));
        let (path, _) = choose("pg_dump", clients_of(17), found.into_iter()).unwrap();
        assert_eq!(path, PathBuf::from("/on_path"));
    }
}
