use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

const MAJOR_MIN: u32 = 14;

/// Where packages put a server: a directory, how the names in it begin, and what follows them.
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

/// Finds the directory of the binaries for `database`: of the major version that made it or, where
/// there is none yet, of any that we support.
pub fn find(database: &Path) -> anyhow::Result<PathBuf> {
    let made_by = match fs::read_to_string(database.join("PG_VERSION")) {
        Ok(text) => {
            Some(text.trim().parse::<u32>().context("PG_VERSION of the database is no number")?)
        }
        Err(_) => None,
    };
    let mut found = Vec::new();
    for dir in installed() {
        let Some(major) = major_of(&dir) else { continue };
        if made_by.map_or(major >= MAJOR_MIN, |made_by| major == made_by) {
            return Ok(dir);
        }
        found.push(major.to_string());
    }
    found.dedup();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
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

/// Finds one of Postgres' programs for clients, such as pg_dump: of this major version or, where
/// there is none, of the next newer one. Returns its path and its own version.
pub fn find_client(program: &str, major: u32) -> anyhow::Result<(PathBuf, u32)> {
    let programs = holding(program, &["pg_dump", "pg_restore"]).map(|dir| dir.join(program));
    let with_major = programs.filter_map(|path| Some((version_of(&path)?, path)));
    let found: BTreeMap<_, _> = with_major.collect();
    if let Some((major, path)) = found.range(major..).next() {
        return Ok((path.clone(), *major));
    }
    let found = found.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let found = if found.is_empty() { "none" } else { &found };
    bail!(
        "no {program} of version {major} or newer (found: {found}): install the package \
         postgresql-client-{major} (apt), postgresql{major}-client (apk), postgresql{major} (dnf) \
         or postgresql@{major} (brew)"
    )
}

/// The directories that hold a whole server, best first.
fn installed() -> impl Iterator<Item = PathBuf> {
    holding("postgres", &["initdb", "pg_ctl"])
}

/// The directories that hold a program and these others, best first.
fn holding(program: &str, others: &[&str]) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    on_path
        .into_iter()
        .chain(std::iter::once_with(told_by_pg_config).flatten())
        .chain(std::iter::once_with(packaged).flatten())
        .filter_map(move |dir| {
            // The real directory: in one of links pg_ctl and its siblings need not be together.
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
    use super::parse_major;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_major("postgres (PostgreSQL) devel"), None);
        assert_eq!(parse_major(""), None);
    }
}
