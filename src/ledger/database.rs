//! How to reach a ledger, and the settings that each kind of session runs with.

use super::fault::Fault;
use super::name::LedgerName;
use super::open::{ERASER_ROLE, SERVICE_ROLE};
use anyhow::{Context as _, ensure};
use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(5);
const RELEASE_WAIT: Duration = Duration::from_secs(2);

const URL_EXPECTED: &str = "DATABASE_URL is not a Postgres URL; it looks like \
    postgres://user:password@host/database";

/// The name of recorder sessions, for operators and for `is_served`.
pub(super) const RECORDER: &str = "identity-ledger recorder";

/// What a server, a database or a role may have set for its sessions otherwise. Two nodes whose transactions
/// keep their first snapshot would refuse each other's appends, and a time limit that suits another program
/// ends a rebuild. `transaction_timeout` is there from Postgres 17 on.
const DEFAULTS: &str = "
    ; set default_transaction_isolation = 'read committed'
    ; select set_config(name, '0', false)
    from pg_settings
    where name in (
        'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
        'idle_session_timeout', 'transaction_timeout'
    )";

/// While the contact table is swapped no one can append, so a command that hangs in the middle of it must
/// lose its session.
const OWNER_SETTINGS: [(&str, &str); 3] = [
    ("application_name", "identity-ledger owner"),
    // Rule changes append, too, and what is appended is durable.
    ("synchronous_commit", "on"),
    ("idle_in_transaction_session_timeout", "5s"),
];

/// By these the server notices within seconds that a client is out of reach.
const TCP_SETTINGS: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
];

/// A statement ends when its client goes away, since it may hold locks, or its place in a pool may have
/// been given to another session. Some systems cannot tell, and refuse the setting.
const ENDS_WITH_ITS_SENDER: &str = "
    ; do $$
    begin
        set client_connection_check_interval = '1s';
    exception when invalid_parameter_value then null;
    end
    $$";

/// Nested loops over indexes are right for every statement here, whatever the statistics say. Without
/// these settings, a plan that was made on an empty table scans the table when it has grown.
const PLAN_SETTINGS: [(&str, &str); 7] = [
    ("enable_seqscan", "off"),
    // A bitmap of a range is made as a whole, and a page wants only its beginning.
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    // Starting a worker takes longer than any of these statements.
    ("max_parallel_workers_per_gather", "0"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// A node that hangs must not keep the others waiting.
const RECORDER_SETTINGS: [(&str, &str); 4] = [
    ("synchronous_commit", "on"),
    ("statement_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "3s"),
    ("application_name", RECORDER),
];

/// A node that hangs loses its session, and with it the lock that makes it the one sealer.
const SEALER_SETTINGS: [(&str, &str); 4] = [
    ("synchronous_commit", "on"),
    ("statement_timeout", "10s"),
    ("idle_session_timeout", "5s"),
    ("application_name", "identity-ledger sealer"),
];

/// On top of those of an owner, since an erasure appends, too.
const ERASER_SETTINGS: [(&str, &str); 1] = [("application_name", "identity-ledger erasure")];

/// The record of reads is as durable as an answer.
const ACCESS_SETTINGS: [(&str, &str); 3] = [
    ("synchronous_commit", "on"),
    ("statement_timeout", "10s"),
    ("application_name", "identity-ledger access"),
];

const READER_SETTINGS: [(&str, &str); 3] = [
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "10s"),
    ("application_name", "identity-ledger reader"),
];

/// The options of a URL that name files, and the variables of Postgres' own programs for them.
const TLS_FILES: [(&str, &str); 3] =
    [("sslrootcert", "PGSSLROOTCERT"), ("sslcert", "PGSSLCERT"), ("sslkey", "PGSSLKEY")];
/// The options of a URL that sqlx knows. It ignores others.
const OPTIONS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
/// What sqlx puts before the name of a file when it makes a URL.
const FILE: &str = "file: ";

/// Where one ledger lives.
#[derive(Clone)]
pub struct Database {
    owner: PgConnectOptions,
    service: PgConnectOptions,
    eraser: PgConnectOptions,
    ledger: LedgerName,
}

impl Database {
    /// A server that is not the private one. One role owns the ledger, serves it and erases from it.
    pub fn at_url(url: &str, ledger: LedgerName) -> anyhow::Result<Self> {
        // sqlx takes `host:5432/database` for a scheme and would look elsewhere.
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|it| url.starts_with(it));
        ensure!(is_postgres, URL_EXPECTED);
        // The error of the parser could quote the URL, which may hold a password.
        let owner = url.parse().ok();
        let owner: PgConnectOptions = owner.with_context(|| match wrong_option(url) {
            Some(option) => format!(
                "DATABASE_URL has an option {option} with a value that it cannot have; correct it, or \
                 leave it out"
            ),
            None => URL_EXPECTED.to_owned(),
        })?;
        ensure!(
            options(url).all(|option| OPTIONS.contains(&option) || option.starts_with("options[")),
            "DATABASE_URL has an option that is not known, and so would have no effect; those known are {}",
            OPTIONS.join(", ")
        );
        // sqlx would look up an IPv6 address with its brackets.
        let host = owner.get_host().trim_matches(['[', ']']).to_owned();
        let owner = owner.host(&host);
        Ok(Self::new(owner.clone(), owner.clone(), owner, ledger))
    }

    /// The private server behind a unix socket. There the service has a role of its own, and so has
    /// erasing.
    pub fn private(socket_dir: &Path, ledger: LedgerName) -> Self {
        let server = PgConnectOptions::new_without_pgpass()
            .socket(socket_dir)
            .port(5432)
            .database(crate::postgres::SUPERUSER)
            // PGSSLMODE in the environment is for other servers.
            .ssl_mode(PgSslMode::Disable);
        let owner = server.clone().username(crate::postgres::SUPERUSER);
        let eraser = server.clone().username(ERASER_ROLE);
        Self::new(owner, server.username(SERVICE_ROLE), eraser, ledger)
    }

    fn new(
        owner: PgConnectOptions,
        service: PgConnectOptions,
        eraser: PgConnectOptions,
        ledger: LedgerName,
    ) -> Self {
        // Poolers refuse `extra_float_digits`, and no statement here has a float.
        let plain = |options: PgConnectOptions| {
            options.disable_statement_logging().extra_float_digits(None)
        };
        Self { owner: plain(owner), service: plain(service), eraser: plain(eraser), ledger }
    }

    pub fn ledger(&self) -> &LedgerName {
        &self.ledger
    }

    /// Whether the service logs in as a role that does not own the tables.
    pub fn has_service_role(&self) -> bool {
        self.owner.get_username() != self.service.get_username()
    }

    /// How the owner logs in, as environment variables for Postgres' own programs: a command line
    /// can be read by anyone, and there may be a password.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let owner = &self.owner;
        let host = owner.get_socket().map(|dir| dir.display().to_string());
        let host = host.unwrap_or_else(|| owner.get_host().to_owned());
        let mut variables = vec![
            ("PGHOST", host),
            ("PGPORT", owner.get_port().to_string()),
            ("PGUSER", owner.get_username().to_owned()),
            ("PGDATABASE", owner.get_database().unwrap_or(owner.get_username()).to_owned()),
        ];
        let url = self.nameless().to_url_lossy();
        if let Some(password) = url.password() {
            let password = percent_decode_str(password).decode_utf8_lossy().into_owned();
            variables.push(("PGPASSWORD", password));
        }
        let others = [("sslmode", "PGSSLMODE")].into_iter().chain(TLS_FILES);
        for (parameter, variable) in others {
            let pair = url.query_pairs().find(|(name, _)| name == parameter);
            let value = |value: &str| value.strip_prefix(FILE).unwrap_or(value).to_owned();
            variables.extend(pair.map(|(_, it)| (variable, value(&it))));
        }
        variables
    }

    /// To make a URL of, since sqlx has no getters for the other options. Names with strange characters and
    /// hosts with colons would break that.
    fn nameless(&self) -> PgConnectOptions {
        self.owner.clone().username("owner").host("host")
    }

    /// The first file for TLS that cannot be read: its parameter in the URL, its path, and why. sqlx tells
    /// why alone.
    pub(super) fn unreadable_file(&self) -> Option<(&'static str, String, io::Error)> {
        let url = self.nameless().to_url_lossy();
        TLS_FILES.iter().find_map(|(parameter, _)| {
            let (_, file) = url.query_pairs().find(|(name, _)| name == parameter)?;
            let file = file.strip_prefix(FILE)?;
            let error = File::open(file).and_then(|mut file| file.read(&mut [0])).err()?;
            Some((*parameter, file.to_owned(), error))
        })
    }

    /// A session that may change tables.
    pub async fn owner(&self) -> Result<PgConnection, sqlx::Error> {
        let settings = self.settings(&[&OWNER_SETTINGS]) + ENDS_WITH_ITS_SENDER;
        connect(&self.owner, Some(settings)).await
    }

    /// A session of the owner for statements that each read a page of a large table.
    pub async fn pager(&self) -> Result<PgConnection, sqlx::Error> {
        let settings = self.settings(&[&PLAN_SETTINGS, &OWNER_SETTINGS]) + ENDS_WITH_ITS_SENDER;
        connect(&self.owner, Some(settings)).await
    }

    /// A session that may append.
    pub async fn recorder(&self) -> Result<PgConnection, sqlx::Error> {
        let settings = self.settings(&[&PLAN_SETTINGS, &RECORDER_SETTINGS]);
        connect(&self.service, Some(settings)).await
    }

    /// A session that may seal.
    pub async fn sealer(&self) -> Result<PgConnection, sqlx::Error> {
        let settings = self.settings(&[&PLAN_SETTINGS, &SEALER_SETTINGS]);
        connect(&self.service, Some(settings)).await
    }

    /// A session that may erase.
    pub async fn eraser(&self) -> Result<PgConnection, sqlx::Error> {
        let settings = self.settings(&[&PLAN_SETTINGS, &OWNER_SETTINGS, &ERASER_SETTINGS]);
        connect(&self.eraser, Some(settings + ENDS_WITH_ITS_SENDER)).await
    }

    /// A session that may write the record of reads.
    pub async fn access(&self) -> Result<PgConnection, sqlx::Error> {
        let settings = self.settings(&[&PLAN_SETTINGS, &ACCESS_SETTINGS]);
        connect(&self.service, Some(settings)).await
    }

    /// Sessions that may read, at most `sessions_max` at once.
    pub fn readers(&self, sessions_max: u32) -> PgPool {
        let settings = self.settings(&[&PLAN_SETTINGS, &READER_SETTINGS]) + ENDS_WITH_ITS_SENDER;
        PgPoolOptions::new()
            .max_connections(sessions_max)
            .acquire_timeout(CONNECT_WAIT)
            .acquire_slow_threshold(CONNECT_WAIT)
            .after_connect(move |session, _| {
                let settings = settings.clone();
                Box::pin(async move {
                    // sqlx tries again, until there is no time left.
                    set(session, settings).await.inspect_err(|error| {
                        tracing::debug!("a session was not set up: {}", Fault::from(error));
                    })
                })
            })
            // sqlx would ping a server that is gone for as long as the kernel tries, and keep the
            // session's place in the pool meanwhile.
            .after_release(|session, _| {
                Box::pin(async move {
                    let answered = tokio::time::timeout(RELEASE_WAIT, session.ping()).await;
                    answered.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|()| true)
                })
            })
            .connect_lazy_with(self.service.clone())
    }

    /// A session without settings: a pooler in transaction mode would hand them on to other clients.
    pub(super) async fn probe(&self) -> Result<PgConnection, sqlx::Error> {
        connect(&self.owner, None).await
    }

    /// The settings as statements. Startup options would be dropped or refused by poolers, even in
    /// session mode.
    fn settings(&self, groups: &[&[(&str, &str)]]) -> String {
        let mut settings = format!("set search_path = '{}'{DEFAULTS}", self.ledger.as_str());
        for (name, value) in groups.iter().copied().flatten().chain(&TCP_SETTINGS) {
            settings += &format!("; set {name} = '{value}'");
        }
        settings
    }
}

/// The names of the options of a URL.
fn options(url: &str) -> impl Iterator<Item = &str> {
    let options = url.split_once('?').map_or("", |(_, options)| options);
    let options = options.split('&').filter(|option| !option.is_empty());
    options.filter_map(|option| option.split('=').next())
}

/// The name of the first option that makes a URL wrong, if it is an option.
fn wrong_option(url: &str) -> Option<&str> {
    let (server, options) = url.split_once('?')?;
    let is_read = |url: &str| url.parse::<PgConnectOptions>().is_ok();
    let mut options = options.split('&').filter(|_| is_read(server));
    // sqlx ignores options that it does not know, so one that it refuses has a name that it knows, which
    // cannot be a secret.
    let wrong = options.find(|option| !is_read(&format!("{server}?{option}")))?;
    wrong.split('=').next()
}

async fn connect(
    options: &PgConnectOptions,
    settings: Option<String>,
) -> Result<PgConnection, sqlx::Error> {
    let connecting = async {
        let mut session = options.connect().await?;
        if let Some(settings) = settings {
            set(&mut session, settings).await?;
        }
        Ok(session)
    };
    let connected = tokio::time::timeout(CONNECT_WAIT, connecting).await;
    connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn set(session: &mut PgConnection, settings: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(session).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Database;

    #[test]
    fn an_option_that_would_have_no_effect_is_refused_and_not_repeated() {
        let at = |options: &str| {
            Database::at_url(&format!("postgres://x@y/z{options}"), "ledger".parse().unwrap())
        };
        for known in ["", "?", "?sslmode=require&application_name=x&", "?options[search_path]=x"] {
            assert!(at(known).is_ok(), "{known}");
        }
        for unknown in ["?sslmod=verify-full", "?sslmode=require&canary=1", "?canary"] {
            let error = at(unknown).err().unwrap().to_string();
            assert!(error.contains("is not known") && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn the_programs_of_postgres_log_in_as_the_owner_does() {
        let url = "postgres://shop:a%2Fb%20c@[::1]:5433/customers?sslmode=verify-full&sslrootcert=/ca.pem";
        let environment = Database::at_url(url, "ledger".parse().unwrap()).unwrap().environment();
        let expected = [
            ("PGHOST", "::1"),
            ("PGPORT", "5433"),
            ("PGUSER", "shop"),
            ("PGDATABASE", "customers"),
            ("PGPASSWORD", "a/b c"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/ca.pem"),
        ];
        assert_eq!(environment, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn of_a_url_no_more_is_named_than_the_option_that_is_wrong() {
        for (url, says) in [
            ("postgres://shop:hidden@host/db?port=5433&sslmode=hidden", "an option sslmode with"),
            ("postgres://shop:hidden@host/db?port=hidden", "an option port with"),
            ("postgres://shop:hidden@host:port/db?sslmode=hidden", "is not a Postgres URL"),
            ("postgres://shop:hid?port=den@host/db", "is not a Postgres URL"),
        ] {
            let ledger = "ledger".parse().unwrap();
            let said = Database::at_url(url, ledger).err().unwrap().to_string();
            assert!(said.contains(says) && !said.contains("hid"), "{said}");
        }
    }
}
