//! How to reach a ledger, and the settings that each kind of session runs with.

use super::name::LedgerName;
use super::open::SERVICE_ROLE;
use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};
use std::path::Path;
use std::time::Duration;

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const READERS_MAX: u32 = 8;

/// Nested loops over indexes are right for every statement here, whatever the statistics say:
/// without them a plan made on an empty table scans the same table when it has grown.
const PLAN_SETTINGS: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// A node that hangs must not hold the line for the others.
const RECORDER_SETTINGS: [(&str, &str); 8] = [
    ("synchronous_commit", "on"),
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "3s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
    ("application_name", "identity-ledger recorder"),
];

const READER_SETTINGS: [(&str, &str); 3] = [
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "10s"),
    ("application_name", "identity-ledger reader"),
];

/// Where one ledger lives.
#[derive(Clone)]
pub struct Database {
    owner: PgConnectOptions,
    service: PgConnectOptions,
    ledger: LedgerName,
}

impl Database {
    /// A server that somebody else runs. One role owns the ledger and serves it.
    pub fn at_url(url: &str, ledger: LedgerName) -> anyhow::Result<Self> {
        // The error of the parser could quote the URL, which may hold a password.
        let owner: PgConnectOptions = url.parse().ok().context(
            "DATABASE_URL is not a Postgres URL; it looks like postgres://user:password@host/database",
        )?;
        Ok(Self::new(owner.clone(), owner, ledger))
    }

    /// The private server behind a unix socket. The service has a role of its own there.
    pub fn private(socket_dir: &Path, ledger: LedgerName) -> Self {
        let server = PgConnectOptions::new_without_pgpass()
            .socket(socket_dir)
            .port(5432)
            .database(crate::postgres::SUPERUSER);
        let owner = server.clone().username(crate::postgres::SUPERUSER);
        Self::new(owner, server.username(SERVICE_ROLE), ledger)
    }

    fn new(owner: PgConnectOptions, service: PgConnectOptions, ledger: LedgerName) -> Self {
        let within = |options: PgConnectOptions| {
            options.disable_statement_logging().options([("search_path", ledger.as_str())])
        };
        Self { owner: within(owner), service: within(service), ledger }
    }

    pub fn ledger(&self) -> &LedgerName {
        &self.ledger
    }

    /// Whether the service logs in as another role than the owner of the tables.
    pub fn has_service_role(&self) -> bool {
        self.owner.get_username() != self.service.get_username()
    }

    /// A session that may change tables.
    pub async fn owner(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.owner.clone().options([("application_name", "identity-ledger owner")]);
        connect(&options).await
    }

    /// A session that may append.
    pub async fn recorder(&self) -> Result<PgConnection, sqlx::Error> {
        let options = self.service.clone().options(PLAN_SETTINGS).options(RECORDER_SETTINGS);
        connect(&options).await
    }

    /// Sessions that may read.
    pub fn readers(&self) -> PgPool {
        let options = self.service.clone().options(PLAN_SETTINGS).options(READER_SETTINGS);
        PgPoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(CONNECT_WAIT)
            .acquire_slow_threshold(CONNECT_WAIT)
            .connect_lazy_with(options)
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connecting = tokio::time::timeout(CONNECT_WAIT, options.connect());
    connecting.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
