//! Makes a ledger ready: checks the server, migrates, and writes the first event.

use super::database::Database;
use crate::identity::{DEFAULT_RULES, Event, Fact, Position, Rules, RulesActivated};
use crate::projection;
use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_scalar};

/// The role that the service logs in as on the private server.
pub const SERVICE_ROLE: &str = "identity_ledger";

const SERVER_VERSION_MIN: i32 = 14;

static MIGRATOR: Migrator = sqlx::migrate!();

/// Makes the ledger ready for appending and reading; creates it where it is missing.
///
/// Every error is one line that says what to do.
pub async fn open(database: &Database) -> anyhow::Result<()> {
    let mut owner = connect(database).await?;
    check_version(&mut owner).await?;
    check_pooler(&mut owner, database).await?;
    // Two services may start at once on a new database.
    query!("select pg_advisory_lock(hashtext('identity-ledger'))").execute(&mut owner).await?;
    create_schema(&mut owner, database).await?;
    migrate(&mut owner).await?;
    write_first_event(&mut owner).await?;
    projection::create_missing(&mut owner).await?;
    if database.has_service_role() {
        create_service_role(&mut owner).await?;
        grant_to_service(&mut owner).await?;
    }
    owner.close().await?;
    Ok(())
}

async fn connect(database: &Database) -> anyhow::Result<PgConnection> {
    database.owner().await.map_err(|error| match error {
        sqlx::Error::Database(error) => {
            let message = error.message();
            if message.contains("startup parameter") {
                anyhow::anyhow!(POOLER)
            } else {
                anyhow::anyhow!("Postgres refused the connection: {message}; check DATABASE_URL")
            }
        }
        sqlx::Error::PoolTimedOut => {
            anyhow::anyhow!("Postgres did not answer in 5 seconds; check the host in DATABASE_URL")
        }
        error => anyhow::anyhow!("cannot reach Postgres ({error}); check DATABASE_URL"),
    })
}

const POOLER: &str = "this is a connection pooler in transaction mode, which loses the session's \
    settings and locks; point DATABASE_URL at Postgres itself, or at a pool in session mode";

async fn check_version(owner: &mut PgConnection) -> anyhow::Result<()> {
    let version =
        query_scalar!(r#"select current_setting('server_version_num')::integer as "version!""#)
            .fetch_one(owner)
            .await?;
    ensure!(
        version / 10_000 >= SERVER_VERSION_MIN,
        "Postgres {} is too old; identity-ledger needs {SERVER_VERSION_MIN} or newer",
        version / 10_000
    );
    Ok(())
}

/// Behind a pooler in transaction mode two sessions share a backend, or one session wanders
/// from backend to backend while another one is busy.
async fn check_pooler(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let schema = query_scalar!("select current_setting('search_path')").fetch_one(&mut *owner);
    ensure!(schema.await?.as_deref() == Some(database.ledger().as_str()), POOLER);

    let before = backend(owner).await?;
    let mut other = connect(database).await?;
    let mut busy = other.begin().await?;
    let others = backend(&mut busy).await?;
    let after = backend(owner).await?;
    busy.rollback().await?;
    other.close().await?;
    ensure!(before == after && before != others, POOLER);
    Ok(())
}

async fn backend(connection: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    query_scalar!("select pg_backend_pid()").fetch_one(connection).await
}

async fn create_schema(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let name = database.ledger().as_str();
    let exists = query_scalar!(
        r#"select exists (select from pg_namespace where nspname = $1) as "exists!""#,
        name
    );
    if !exists.fetch_one(&mut *owner).await? {
        let create = AssertSqlSafe(format!("create schema {name}"));
        query(create).execute(owner).await.with_context(|| {
            format!("cannot create the schema {name}; grant this role create on the database")
        })?;
    }
    Ok(())
}

async fn migrate(owner: &mut PgConnection) -> anyhow::Result<()> {
    match MIGRATOR.run(owner).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(version)) => bail!(
            "the database is newer than this binary (it has migration {version}); \
             use the identity-ledger that made it, or a newer one"
        ),
        Err(error) => Err(error).context("cannot migrate the ledger's tables"),
    }
}

/// `RulesActivated` stands at position 1 of every ledger.
async fn write_first_event(owner: &mut PgConnection) -> anyhow::Result<()> {
    let mut tx = owner.begin().await?;
    if query_scalar!("select position from head").fetch_optional(&mut *tx).await?.is_some() {
        return Ok(());
    }
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
    query!(
        "insert into rules (digest, name, version, document) values ($1, $2, $3, $4)",
        rules.digest().as_str(),
        rules.name(),
        rules.version(),
        DEFAULT_RULES
    )
    .execute(&mut *tx)
    .await?;
    query!(
        "insert into event (position, recorded_at, kind, line) values ($1, $2, $3, $4)",
        event.position.get(),
        now,
        event.fact.kind(),
        event.line()
    )
    .execute(&mut *tx)
    .await?;
    query!(
        "insert into head (position, observation_id, recorded_at, rules_digest)
        values ($1, 0, $2, $3)",
        event.position.get(),
        now,
        rules.digest().as_str()
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

async fn create_service_role(owner: &mut PgConnection) -> anyhow::Result<()> {
    let exists = query_scalar!(
        r#"select exists (select from pg_roles where rolname = $1) as "exists!""#,
        SERVICE_ROLE
    );
    if !exists.fetch_one(&mut *owner).await? {
        query(AssertSqlSafe(format!("create role {SERVICE_ROLE} login"))).execute(owner).await?;
    }
    Ok(())
}

/// Gives the service's role what it needs and no more. To be repeated for a new contact table.
pub async fn grant_to_service(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("grants.sql")).execute(owner).await?;
    Ok(())
}
