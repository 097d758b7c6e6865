//! Makes a ledger ready: checks the server, migrates the tables, and writes the first event.

use super::append::append_event;
use super::database::{CONNECT_WAIT, Database};
use super::fault::TAKES_NO_WRITES;
use super::head::{check_ends, check_is_whole};
use super::locks::lock_catalog;
use super::rules::keep_rules;
use super::schema::{self, MIGRATOR};
use crate::identity::{DEFAULT_RULES, Event, Fact, Position, Rules, RulesActivated};
use crate::postgres::MAJOR_MIN;
use crate::projection;
use anyhow::{Context as _, anyhow, ensure};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, query, query_scalar};
use std::time::Duration;

/// The role that the service logs in as on the private server.
pub(super) const SERVICE_ROLE: &str = "identity_ledger";
/// The role that erases, on the private server.
pub(super) const ERASER_ROLE: &str = "identity_ledger_eraser";

const RECOVERY_PAUSE: Duration = Duration::from_millis(500);

/// Makes the ledger ready for appending and reading, and creates it if it is missing.
///
/// Every error is one line that says what to do.
pub async fn open(database: &Database) -> anyhow::Result<()> {
    let mut owner = connect(database).await?;
    end_of_recovery(&mut owner, database).await?;
    check_writable(&mut owner).await?;
    // Two services may start on a new database at the same time.
    lock_catalog(&mut owner).await?;
    let applied = schema::applied(&mut owner, database.ledger()).await?;
    create_schema(&mut owner, database).await?;
    check_whole(&mut owner, database).await?;
    schema::migrate(&mut owner, &applied.unwrap_or_default()).await?;
    write_first_event(&mut owner).await?;
    check_is_whole(&mut owner).await?;
    check_ends(&mut owner).await?;
    projection::create_first(&mut owner).await?;
    grant_maintain(&mut owner).await?;
    if database.has_service_role() {
        create_role(&mut owner, SERVICE_ROLE).await?;
        create_role(&mut owner, ERASER_ROLE).await?;
        grant_to_service(&mut owner).await?;
    }
    owner.close().await?;
    Ok(())
}

/// Fails if the ledger is missing, or if its tables are not of this version. Changes nothing.
pub async fn check(database: &Database) -> anyhow::Result<()> {
    let mut owner = connect(database).await?;
    let name = database.ledger().as_str();
    let applied = schema::applied(&mut owner, database.ledger()).await?;
    let applied = applied.with_context(|| missing(database))?;
    schema::check_known(&applied)?;
    ensure!(
        MIGRATOR.iter().all(|migration| applied.contains(&migration.version)),
        "the ledger named {name} is older than this binary; run identity-ledger serve or rebuild of \
         this version, which migrate it"
    );
    ensure!(is_begun(&mut owner).await?, missing(database));
    check_is_whole(&mut owner).await?;
    owner.close().await?;
    Ok(())
}

/// Fails if the head does not end where the events do. The ledger must have passed `check`.
pub async fn check_head(database: &Database) -> anyhow::Result<()> {
    let mut owner = database.owner().await?;
    check_ends(&mut owner).await?;
    owner.close().await?;
    Ok(())
}

/// Fails if the ledger is missing, whatever its version. Changes nothing.
pub async fn check_exists(database: &Database) -> anyhow::Result<()> {
    ensure!(exists(database).await?, missing(database));
    Ok(())
}

/// Whether the ledger is there, whatever its version.
pub async fn exists(database: &Database) -> anyhow::Result<bool> {
    let mut owner = connect(database).await?;
    let exists = is_there(&mut owner, database).await?;
    owner.close().await?;
    Ok(exists)
}

/// As `exists`, on the caller's session.
pub async fn is_there(owner: &mut PgConnection, database: &Database) -> anyhow::Result<bool> {
    Ok(schema::applied(owner, database.ledger()).await?.is_some())
}

fn missing(database: &Database) -> String {
    let name = database.ledger().as_str();
    format!(
        "there is no ledger named {name} in this database; serve creates one, and restore brings one \
         back"
    )
}

/// A session of the owner on a server that is fit for a ledger.
pub async fn connect(database: &Database) -> anyhow::Result<PgConnection> {
    let checked = tokio::time::timeout(CONNECT_WAIT, check_server(database)).await;
    checked.unwrap_or_else(|_| Err(not_reached(database, sqlx::Error::PoolTimedOut)))?;
    database.owner().await.map_err(|error| not_reached(database, error))
}

/// Checks the server before anything is changed. No statement is prepared: behind a pooler, prepared
/// statements of other clients could be in the way.
async fn check_server(database: &Database) -> anyhow::Result<()> {
    let mut one = database.probe().await.map_err(|error| not_reached(database, error))?;
    check_version(&mut one).await?;
    check_encoding(&mut one).await?;
    let mut other = database.probe().await.map_err(|error| not_reached(database, error))?;
    check_pooler(&mut one, &mut other).await?;
    one.close().await?;
    other.close().await?;
    Ok(())
}

fn not_reached(database: &Database, error: sqlx::Error) -> anyhow::Error {
    if let sqlx::Error::Io(error) = &error
        && let Some((parameter, file, why)) = database.unreadable_file()
        && why.kind() == error.kind()
    {
        return anyhow!(
            "cannot read {file}, the {parameter} for the connection to Postgres ({why})"
        );
    }
    let what = match error {
        sqlx::Error::Database(error) => {
            format!("Postgres refused the connection: {}", error.message())
        }
        sqlx::Error::PoolTimedOut => {
            format!("Postgres did not answer in {} seconds", CONNECT_WAIT.as_secs())
        }
        error => format!("cannot reach Postgres ({error})"),
    };
    let hint = if database.has_service_role() { "try again" } else { "check DATABASE_URL" };
    anyhow!("{what}; {hint}")
}

/// Waits for a private server that still restores an archive: if it were stopped, it would begin again.
async fn end_of_recovery(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let mut is_told = false;
    loop {
        let recovering = query_scalar!(r#"select pg_is_in_recovery() as "is!""#);
        if !recovering.fetch_one(&mut *owner).await? || !database.has_service_role() {
            return Ok(());
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::info!("Postgres still restores an archive: this can take a while");
        }
        tokio::time::sleep(RECOVERY_PAUSE).await;
    }
}

/// Fails if nothing can be written, as on a replica.
pub async fn check_writable(owner: &mut PgConnection) -> anyhow::Result<()> {
    let read_only =
        query_scalar!(r#"select current_setting('transaction_read_only')::boolean as "is!""#);
    ensure!(!read_only.fetch_one(owner).await?, TAKES_NO_WRITES);
    Ok(())
}

async fn check_version(session: &mut PgConnection) -> anyhow::Result<()> {
    let version = number(session, "select current_setting('server_version_num')::integer").await?;
    let major = version / 10_000;
    ensure!(
        major >= MAJOR_MIN.cast_signed(),
        "Postgres {major} is too old; identity-ledger needs {MAJOR_MIN} or newer"
    );
    Ok(())
}

async fn check_encoding(session: &mut PgConnection) -> anyhow::Result<()> {
    let asked = sqlx::raw_sql("select current_setting('server_encoding')").fetch_one(session);
    let encoding: String = asked.await?.try_get(0)?;
    ensure!(
        encoding == "UTF8",
        "the database stores text as {encoding}, which lacks characters that customers have; make one \
         with: create database … encoding 'UTF8' template template0"
    );
    Ok(())
}

/// Fails behind a pooler in transaction mode, where two sessions share a backend, or one session
/// wanders from backend to backend. Tries several rounds, since other clients may use the pool
/// meanwhile, or it may take its backends in turn.
async fn check_pooler(one: &mut PgConnection, other: &mut PgConnection) -> anyhow::Result<()> {
    let home = backend(one).await?;
    for _ in 0..4 {
        // Poolers in statement mode refuse this.
        sqlx::raw_sql("begin").execute(&mut *other).await.ok().context(POOLER)?;
        // The one in a transaction first: with a pool of one backend, the other would wait for it.
        ensure!(backend(other).await? != home, POOLER);
        ensure!(backend(one).await? == home, POOLER);
        sqlx::raw_sql("rollback").execute(&mut *other).await?;
    }
    Ok(())
}

const POOLER: &str = "this is a connection pooler in transaction mode, which loses the session's \
    settings and locks; point DATABASE_URL at Postgres itself, or at a pool in session mode";

async fn backend(session: &mut PgConnection) -> Result<i32, sqlx::Error> {
    number(session, "select pg_backend_pid()").await
}

async fn number(session: &mut PgConnection, sql: &'static str) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql(sql).fetch_one(session).await?.try_get(0)
}

/// Creates the schema that the ledger is to live in, if it is missing.
pub async fn create_schema(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let name = database.ledger().as_str();
    let exists = query_scalar!(
        r#"select exists (select from pg_namespace where nspname = $1) as "exists!""#,
        name
    );
    if !exists.fetch_one(&mut *owner).await? {
        // Quoted, since it may be a word of SQL's: `user`, `order`.
        let create = AssertSqlSafe(format!("create schema \"{name}\""));
        query(create).execute(owner).await.with_context(|| {
            format!("cannot create the schema {name}; grant this role create on the database")
        })?;
    }
    Ok(())
}

/// Fails if a restore was broken off after it made the tables and before it took the privileges of their
/// owner: the owner may change events then.
async fn check_whole(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let broken_off = query_scalar!(
        r#"select exists (
            select from pg_class where oid = to_regclass('event') and relacl is null
        ) as "is!""#
    );
    ensure!(
        !broken_off.fetch_one(owner).await?,
        "the restore of this ledger was broken off before its owner lost the right to change events: \
         if nothing was recorded since, drop it (drop schema \"{}\" cascade) and restore it again, else \
         revoke that right, as the files in migrations/ do",
        database.ledger().as_str()
    );
    Ok(())
}

/// Whether the first event was ever written: it came with the first rules and the head, and may have been
/// deleted since.
async fn is_begun(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let begun = query_scalar!(
        r#"select exists (select from event) or exists (select from rules)
            or exists (select from head) as "is!""#
    );
    begun.fetch_one(owner).await
}

/// Writes the `RulesActivated` at position 1 that every ledger begins with, unless it is there.
async fn write_first_event(owner: &mut PgConnection) -> anyhow::Result<()> {
    if is_begun(owner).await? {
        return Ok(());
    }
    let mut tx = owner.begin().await?;
    let rules = Rules::parse(DEFAULT_RULES)?;
    let now: DateTime<Utc> =
        query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&mut *tx).await?;
    let event = Event {
        position: Position::new(1),
        recorded_at: now,
        fact: Fact::RulesActivated(RulesActivated {
            activated_by: concat!("identity-ledger ", env!("CARGO_PKG_VERSION")).to_owned(),
            digest: rules.digest().clone(),
            name: rules.name().to_owned(),
            reason: "the first rules of a new ledger".to_owned(),
            version: rules.version(),
        }),
    };
    keep_rules(&mut *tx, &rules, DEFAULT_RULES).await?;
    append_event(&mut tx, &event).await?;
    query!(
        "insert into head (position, observation_id, recorded_at, rules_digest, schema_version)
        values ($1, 0, $2, $3, $4)",
        event.position.get(),
        now,
        rules.digest().as_str(),
        schema::schema_version()
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

async fn create_role(owner: &mut PgConnection, role: &'static str) -> anyhow::Result<()> {
    let exists = query_scalar!(
        r#"select exists (select from pg_roles where rolname = $1) as "exists!""#,
        role
    );
    if !exists.fetch_one(&mut *owner).await? {
        query(AssertSqlSafe(format!("create role {role} login"))).execute(owner).await?;
    }
    Ok(())
}

/// Lets the owner vacuum what it erases from. From Postgres 17 on that is a privilege of its own. The
/// owner lacks it where an older server has written down all that it may do, and a backup or an upgrade
/// has brought that here.
async fn grant_maintain(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    let grant = "
        do $$
        declare
            lacking regclass;
        begin
            if current_setting('server_version_num')::integer < 170000 then
                return;
            end if;
            for lacking in
                select oid
                from pg_class
                where oid in (
                        to_regclass('contact'), to_regclass('idempotency'), to_regclass('observation')
                    )
                    -- To a role that may not grant, a sweep says what follows from that.
                    and pg_has_role(relowner, 'usage') and not has_table_privilege(oid, 'maintain')
            loop
                execute format('grant maintain on %s to current_user', lacking);
            end loop;
        end
        $$
    ";
    sqlx::raw_sql(grant).execute(owner).await?;
    Ok(())
}

/// Grants the service's roles what they need and no more. Must be done again for a new contact table.
pub async fn grant_to_service(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("grants.sql")).execute(owner).await?;
    Ok(())
}
