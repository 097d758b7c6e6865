//! One throwaway server for all tests, and a database of its own for each.

use super::until_async;
use identity_ledger::identity::{
    DEFAULT_RULES, Event, Fact, Position, Rules, RulesActivated, RulesDigest, Timestamp,
};
use identity_ledger::ledger::{self, Database, LedgerName, keep_rules};
use identity_ledger::postgres::{Chosen, PrivatePostgres, StartLock};
use identity_ledger::rebuild::{Activated, ActivationRequest, activate};
use identity_ledger::verify::{Trust, Verified, verify};
use rustix::process::Pid;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_as, query_scalar};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::OnceCell;

/// Owns the ledgers of the tests: no superuser, as at a careful company.
const OWNER: &str = "shop";
const TEMPLATE: &str = "template_ledger";

/// Emails link no one, and neither does one phone number.
pub const PHONES_ONLY: &str = r#"
name = "phones only"
version = 1
[email]
case = "sensitive"
links = false
[phone]
format = "digits"
blocked = ["0301005"]
"#;

/// Rules as files.
pub const DEFAULT_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/projections/contact/default.toml");
pub const EXACT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/projections/contact/exact.toml");

/// A migrated, empty ledger in a database of its own.
pub struct TestLedger {
    pub url: String,
    pub database: Database,
}

impl TestLedger {
    pub async fn new() -> Self {
        Self::of_template(TEMPLATE).await
    }

    /// A copy of all that is in this one, which no one may be connected to.
    pub async fn copy(&self) -> Self {
        let (_, name) = self.url.rsplit_once('/').unwrap();
        Self::of_template(name).await
    }

    async fn of_template(template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let server = server().await;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.create(&name, template).await;
        let url = server.url(OWNER, &name);
        let database = Database::at_url(&url, "ledger".parse().unwrap()).unwrap();
        Self { url, database }
    }

    /// A session of the role that owns the ledger and serves it.
    pub async fn owner(&self) -> PgConnection {
        patient(&self.database).await
    }

    /// A database that has no ledger.
    pub async fn empty_database() -> Self {
        let database = Self::new().await;
        database.drop_ledger().await;
        database
    }

    pub async fn drop_ledger(&self) {
        let quiet = "set client_min_messages = warning; drop schema ledger cascade";
        sqlx::raw_sql(quiet).execute(&mut self.owner().await).await.unwrap();
    }

    /// The position of the last event, and the number of the last observation.
    pub async fn head(&self) -> [i64; 2] {
        let head = query_as::<_, (i64, i64)>("select position, observation_id from head");
        head.fetch_one(&mut self.owner().await).await.unwrap().into()
    }

    /// The position of the last event.
    pub async fn position(&self) -> i64 {
        let [position, _] = self.head().await;
        position
    }

    /// The whole contact table, in one text.
    pub async fn contact_table(&self) -> String {
        let table = "select jsonb_agg(to_jsonb(c) order by c.id)::text from contact as c";
        query_scalar(table).fetch_one(&mut self.owner().await).await.unwrap()
    }

    /// Waits until a session waits for a lock on a table.
    pub async fn until_waited_for(&self, table: &str) {
        let mut owner = self.owner().await;
        until_async("the table is waited for", async || is_waited_for(&mut owner, table).await)
            .await;
    }

    /// The digest of the rules in force.
    pub async fn rules_digest(&self) -> String {
        let digest = query_scalar("select rules_digest from head");
        digest.fetch_one(&mut self.owner().await).await.unwrap()
    }

    /// To put rules in force in the place of those that are.
    pub async fn order(&self, document: &str) -> ActivationRequest {
        ActivationRequest {
            from: self.rules_digest().await,
            rules: Rules::parse(document).unwrap(),
            document: document.to_owned(),
            activated_by: "a test".to_owned(),
            reason: "to see".to_owned(),
        }
    }

    pub async fn put_in_force(&self, document: &str) -> Option<Activated> {
        activate(&self.database, self.order(document).await).await.unwrap()
    }

    /// Checks everything but signatures.
    pub async fn verify(&self) -> anyhow::Result<Verified> {
        verify(&self.database, Trust::default()).await
    }

    /// As an activation by a version whose library makes other keys.
    pub async fn put_foreign_rules_in_force(&self) {
        let normaliser = "phonenumber 0.0.1";
        let rules = Rules::recorded(DEFAULT_RULES, normaliser).unwrap();
        let mut owner = self.owner().await;
        keep_rules(&mut owner, &rules, DEFAULT_RULES).await.unwrap();
        query("update head set rules_digest = $1")
            .bind(rules.digest().as_str())
            .execute(&mut owner)
            .await
            .unwrap();
        self.append_activation().await;
    }

    /// Takes events away, and all that came of them but the tree and its checkpoints.
    pub async fn cut_events_after(&self, position: i64) {
        let cut = format!(
            "alter table event disable trigger all;
            alter table observation disable trigger all;
            delete from event where position > {position};
            delete from observation where position > {position};
            delete from contact where id > (select max(id) from observation);
            update head
            set position = {position},
                recorded_at = (select recorded_at from event where position = {position}),
                observation_id = (select max(id) from observation);"
        );
        sqlx::raw_sql(AssertSqlSafe(cut)).execute(&mut self.superuser().await).await.unwrap();
    }

    /// Appends that the rules which the head names were activated.
    pub async fn append_activation(&self) {
        append_activation(&mut self.owner().await).await;
    }

    /// A session that no grant binds.
    pub async fn superuser(&self) -> PgConnection {
        let url = self.url.replace(&format!("//{OWNER}@"), "//postgres@");
        patient(&Database::at_url(&url, "ledger".parse().unwrap()).unwrap()).await
    }
}

/// Appends that the rules which the head names were activated, as another node would.
pub async fn append_activation(owner: &mut PgConnection) {
    let head = "select position, recorded_at, rules_digest from head";
    let (position, recorded_at, digest): (i64, Timestamp, String) =
        query_as(head).fetch_one(&mut *owner).await.unwrap();
    let event = Event {
        position: Position::new(position + 1),
        recorded_at,
        fact: Fact::RulesActivated(RulesActivated {
            activated_by: "ops".to_owned(),
            digest: RulesDigest::recorded(digest),
            name: "default".to_owned(),
            reason: "a test".to_owned(),
            version: 1,
        }),
    };
    ledger::append_event(&mut *owner, &event).await.unwrap();
    query("update head set position = position + 1").execute(owner).await.unwrap();
}

/// A session that may be idle in a transaction for as long as a busy machine takes.
pub async fn patient(database: &Database) -> PgConnection {
    let mut session = database.owner().await.unwrap();
    query("set idle_in_transaction_session_timeout = 0").execute(&mut session).await.unwrap();
    session
}

/// The ledger on the private server of a data directory.
pub fn private_database(data_dir: &Path) -> Database {
    Database::private(&data_dir.join("socket"), "ledger".parse().unwrap())
}

/// Whether a session waits for a lock on a table of this database. Copies of a database have the same
/// numbers for their tables.
pub async fn is_waited_for(session: &mut PgConnection, table: &str) -> bool {
    let waits = "select exists (
        select from pg_locks
        where relation = to_regclass($1) and not granted
            and database = (select oid from pg_database where datname = current_database())
    )";
    query_scalar(waits).bind(table).fetch_one(session).await.unwrap()
}

/// Where Postgres keeps the files of the session's database.
pub async fn files_dir(session: &mut PgConnection) -> PathBuf {
    let dir = "select current_setting('data_directory') || '/base/' || oid
        from pg_database
        where datname = current_database()";
    query_scalar::<_, String>(dir).fetch_one(session).await.unwrap().into()
}

/// The SQLSTATE by which Postgres refuses a statement.
pub async fn refusal(session: &mut PgConnection, statement: &str) -> String {
    let error = query(AssertSqlSafe(statement.to_owned())).execute(session).await.unwrap_err();
    error.as_database_error().unwrap().code().unwrap().into_owned()
}

/// Takes the lock that every append waits for, until the transaction ends.
pub async fn hold_head(session: &mut PgConnection) {
    sqlx::raw_sql("begin; select position from head for update").execute(session).await.unwrap();
}

/// An empty directory that every user may enter, under the system's own for such things.
pub fn scratch_dir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(permissions).prefix("il-").tempdir().unwrap()
}

/// The process of a private server, none when it is down.
pub fn postmaster(data_dir: &Path) -> Option<Pid> {
    let file = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    Pid::from_raw(file.lines().next()?.parse().ok()?)
}

struct Server {
    socket_dir: PathBuf,
    _lease: PrivatePostgres,
}

impl Server {
    fn url(&self, user: &str, database: &str) -> String {
        let host = self.socket_dir.to_str().unwrap().replace('/', "%2F");
        format!("postgres://{user}@{host}/{database}")
    }

    async fn create(&self, name: &str, template: &str) {
        let mut admin = PgConnection::connect(&self.url("postgres", "postgres")).await.unwrap();
        let create = format!("create database {name} template {template} owner {OWNER}");
        query(AssertSqlSafe(create)).execute(&mut admin).await.unwrap();
    }

    async fn start() -> Self {
        let dir = scratch_dir().keep();
        // Commits need not outlive a test run: the tests that pull plugs have servers of their own.
        let settings = [("fsync", "off"), ("max_connections", "200")];
        let data_dir = dir.join("data");
        let lease = StartLock::hold(&data_dir, Chosen::ByUser).unwrap().lease(&settings).unwrap();
        stop_with_this_process(&lease, &dir);
        let server = Self { socket_dir: lease.socket_dir().to_owned(), _lease: lease };

        let mut admin = PgConnection::connect(&server.url("postgres", "postgres")).await.unwrap();
        let role = AssertSqlSafe(format!("create role {OWNER} login"));
        query(role).execute(&mut admin).await.unwrap();
        server.create(TEMPLATE, "template1").await;
        let ledger: LedgerName = "ledger".parse().unwrap();
        let database = Database::at_url(&server.url(OWNER, TEMPLATE), ledger).unwrap();
        ledger::open(&database).await.unwrap();
        server
    }
}

async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(Server::start).await
}

/// A static is never dropped, and a test run can be killed: a shell that holds the other end
/// of a pipe stops the server when this process ends, however it ends.
fn stop_with_this_process(lease: &PrivatePostgres, dir: &Path) {
    let script = r#"
        read _
        kill -QUIT "$(head -n 1 "$1/postgres/postmaster.pid")"
        while [ -e "$1/postgres/postmaster.pid" ]; do sleep 0.1; done
        rm -rf "$2"
    "#;
    let watcher = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([lease.data_dir(), dir])
        // In that of `cargo test` Ctrl-C would end it, too, and the server would be left behind.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::mem::forget(watcher);
}
