//! The private server, and the databases in it: one for each run, cloned from a template.

use crate::machine;
use anyhow::{Context as _, ensure};
use futures_util::TryStreamExt as _;
use identity_ledger::ledger::{self, Database, LedgerName};
use identity_ledger::postgres::{Chosen, PrivatePostgres, StartLock};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query_as, query_scalar};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the figures are worth nothing without.
const DURABLE: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];
const EMPTY: &str = "empty";
/// The database of the run under way.
const RUN: &str = "run";

pub struct Server {
    lease: PrivatePostgres,
    pub version: String,
    pub postmaster: u32,
    binaries: PathBuf,
    can_copy_files: bool,
    /// Of everything that a kept ledger depends on.
    key: String,
}

/// A database of its own for one run.
pub struct Cloned {
    pub url: String,
    pub database: Database,
}

impl Server {
    /// Starts the server with the settings that the service gives it, and checks that they are
    /// durable ones.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let lease = StartLock::hold(&dir.join("postgres"), Chosen::Default)?.lease(&[])?;
        let mut admin = PgConnection::connect(&url(&lease, "postgres")).await?;
        for setting in DURABLE {
            let value: String = query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut admin)
                .await?;
            ensure!(value == "on", "{setting} is {value}: remove {}", lease.data_dir().display());
        }
        let (version, number, binaries): (String, i32, String) = query_as(
            "select current_setting('server_version'),
                current_setting('server_version_num')::integer,
                (select setting from pg_config where name = 'BINDIR')",
        )
        .fetch_one(&mut admin)
        .await?;
        let pid_file = std::fs::read_to_string(lease.data_dir().join("postgres/postmaster.pid"))?;
        let postmaster = pid_file.lines().next().and_then(|line| line.parse().ok());
        let server = Self {
            lease,
            version,
            postmaster: postmaster.context("postmaster.pid has no process id")?,
            binaries: binaries.into(),
            can_copy_files: number >= 150_000,
            key: key()?,
        };
        server.drop_outdated(&mut admin).await?;
        server.keep(EMPTY, async |_| Ok(())).await?;
        Ok(server)
    }

    /// An empty ledger.
    pub async fn empty(&self) -> anyhow::Result<Cloned> {
        self.clone_of(EMPTY).await
    }

    /// A ledger like the kept one of that name.
    pub async fn clone_of(&self, name: &str) -> anyhow::Result<Cloned> {
        self.create(RUN, &self.kept(name)).await?;
        self.cloned(RUN)
    }

    /// Makes a ledger that is kept from run to run, unless it is there already.
    pub async fn keep(
        &self,
        name: &str,
        fill: impl AsyncFnOnce(&Cloned) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut admin = self.admin().await?;
        let exists: bool =
            query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(self.kept(name))
                .fetch_one(&mut admin)
                .await?;
        if exists {
            return Ok(());
        }
        // Under another name first: under its own name it is whole.
        self.create("new", "template1").await?;
        let cloned = self.cloned("new")?;
        ledger::open(&cloned.database).await?;
        fill(&cloned).await?;
        execute(&mut admin, &format!("alter database new rename to {}", self.kept(name))).await
    }

    pub async fn forget(&self, name: &str) -> anyhow::Result<()> {
        let mut admin = self.admin().await?;
        execute(&mut admin, &format!("drop database if exists {}", self.kept(name))).await
    }

    pub async fn drop_run(&self) -> anyhow::Result<()> {
        let statement = format!("drop database if exists {RUN} with (force)");
        execute(&mut self.admin().await?, &statement).await
    }

    /// Writes what is dirty and lets the machine come to rest, so that no run pays for another.
    pub async fn settle(&self) -> anyhow::Result<()> {
        execute(&mut self.admin().await?, "checkpoint").await?;
        machine::wait_until_quiet().await;
        Ok(())
    }

    /// How many bytes of log were ever written.
    pub async fn wal_bytes(&self) -> anyhow::Result<f64> {
        let bytes = "select (pg_current_wal_insert_lsn() - '0/0')::double precision";
        Ok(query_scalar(bytes).fetch_one(&mut self.admin().await?).await?)
    }

    /// pgbench on the run's database, ready for more arguments.
    pub fn pgbench(&self) -> Command {
        let beside = self.binaries.join("pgbench");
        let mut command =
            Command::new(if beside.is_file() { beside } else { PathBuf::from("pgbench") });
        command.arg("-h").arg(self.lease.socket_dir()).args(["-p", "5432", "-U", "postgres"]);
        command.env("PGDATABASE", RUN);
        command
    }

    /// A session of the superuser.
    async fn admin(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&url(&self.lease, "postgres")).await?)
    }

    async fn create(&self, name: &str, template: &str) -> anyhow::Result<()> {
        let mut admin = self.admin().await?;
        execute(&mut admin, &format!("drop database if exists {name} with (force)")).await?;
        let strategy = if self.can_copy_files { "strategy file_copy" } else { "" };
        execute(&mut admin, &format!("create database {name} template {template} {strategy}"))
            .await?;
        Ok(())
    }

    fn cloned(&self, name: &str) -> anyhow::Result<Cloned> {
        let url = url(&self.lease, name);
        let ledger: LedgerName = "ledger".parse().map_err(anyhow::Error::msg)?;
        let database = Database::at_url(&url, ledger)?;
        Ok(Cloned { url, database })
    }

    fn kept(&self, name: &str) -> String {
        format!("kept_{name}_{}", self.key)
    }

    async fn drop_outdated(&self, admin: &mut PgConnection) -> anyhow::Result<()> {
        let outdated: Vec<String> = query_scalar(
            "select datname::text from pg_database
            where starts_with(datname, 'kept_') and right(datname, length($1)) <> $1",
        )
        .bind(&self.key)
        .fetch_all(&mut *admin)
        .await?;
        for name in outdated {
            execute(admin, &format!("drop database {name}")).await?;
        }
        Ok(())
    }
}

impl Cloned {
    pub async fn contacts_len(&self) -> anyhow::Result<f64> {
        let count = "select count(*)::double precision from contact";
        Ok(query_scalar(count).fetch_one(&mut self.database.owner().await?).await?)
    }
}

/// Sends the rows of a table, or of a query in parentheses, to no one.
pub async fn copy_out(owner: &mut PgConnection, rows: &str) -> anyhow::Result<()> {
    let statement = format!("copy {rows} to stdout");
    let mut rows = owner.copy_out_raw(&statement).await?;
    while rows.try_next().await?.is_some() {}
    Ok(())
}

pub async fn execute(connection: &mut PgConnection, statement: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

fn url(lease: &PrivatePostgres, database: &str) -> String {
    let host = lease.socket_dir().to_string_lossy().replace('/', "%2F");
    format!("postgres://postgres@{host}/{database}")
}

/// Of what shapes the rows: a kept ledger of another shape is of no use.
fn key() -> anyhow::Result<String> {
    const SHAPES: [&str; 8] = [
        "benches/generate.rs",
        "benches/traffic.rs",
        "src/identity/event.rs",
        "src/identity/observation.rs",
        "src/identity/resolve.rs",
        "src/identity/key.rs",
        "src/identity/rules/email.rs",
        "src/identity/rules/phone.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = SHAPES.iter().map(|file| root.join(file)).collect();
    for dir in ["migrations", "projections/contact"] {
        for entry in std::fs::read_dir(root.join(dir))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(std::fs::read(file)?);
    }
    Ok(hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect())
}
