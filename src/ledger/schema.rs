//! The version of the tables, and the migrations to the version of this binary.

use super::fault::is_lock_timeout;
use super::locks::OUTWAIT_AUTOVACUUM;
use super::name::LedgerName;
use anyhow::{Context as _, bail, ensure};
use sqlx::error::BoxDynError;
use sqlx::migrate::{Migrate as _, Migrator};
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{
    Connection as _, Decode, Executor as _, PgConnection, Postgres, Type, query, query_scalar,
};
use std::time::{Duration, Instant};

pub const MIGRATOR: Migrator = sqlx::migrate!();

const MIGRATIONS: &str = "_sqlx_migrations";
const LOCK_WAIT_MAX: Duration = Duration::from_secs(40);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The version of the tables as the head has it. A row with another version than this binary's cannot be
/// decoded, so a statement that reads the head together with other rows fails as a whole.
#[derive(Clone, Copy, Debug)]
pub struct ThisVersion;

/// The tables have changed under a running node, or it was started beside a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database is of version {found} and this node knows {}: upgrade the node, or restart it \
     where it is the newer one",
    schema_version()
)]
pub struct OtherVersion {
    found: i64,
}

/// The version of the tables that this binary knows.
pub fn schema_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

impl Type<Postgres> for ThisVersion {
    fn type_info() -> PgTypeInfo {
        i64::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for ThisVersion {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let found = <i64 as Decode<Postgres>>::decode(value)?;
        if found == schema_version() { Ok(Self) } else { Err(OtherVersion { found }.into()) }
    }
}

/// Brings the tables to the version of this binary, in one transaction. No one appends or reads
/// meanwhile.
pub(super) async fn migrate(owner: &mut PgConnection, applied: &[i64]) -> anyhow::Result<()> {
    check_known(applied)?;
    // If no migration is missing, no one has to wait.
    if applied == versions() {
        return Ok(());
    }
    if !applied.is_empty() {
        check_owner(owner).await?;
    }
    let since = Instant::now();
    while since.elapsed() < LOCK_WAIT_MAX {
        let mut tx = owner.begin().await?;
        match run(&mut tx).await {
            Ok(()) => return Ok(tx.commit().await?),
            Err(error) if is_busy(&error) => tx.rollback().await?,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    bail!(
        "the tables are being read or vacuumed without a pause; end the long query, or wait for the vacuum, and \
         try again"
    )
}

/// Whether someone reads what is to be locked.
fn is_busy(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref()).any(is_lock_timeout)
}

/// Fails if the tables are another role's: those that a migration makes would be this one's, and what it
/// revokes from their owner it would revoke from this one.
async fn check_owner(owner: &mut PgConnection) -> anyhow::Result<()> {
    let other = query_scalar!(
        r#"
        select pg_get_userbyid(relowner)::text as "owner!"
        from pg_class
        where oid = to_regclass('event') and relowner <> current_user::regrole
        "#
    );
    if let Some(other) = other.fetch_optional(owner).await? {
        bail!(
            "the tables have to be migrated, and belong to the role {other}: log in as that role"
        );
    }
    Ok(())
}

/// The migrations that were applied, in order. `None` if there is no ledger. Fails if this role may
/// not look, or if the schema has tables of another program: ours would stand beside them, and a
/// rebuild replaces what is called `contact`.
pub(super) async fn applied(
    owner: &mut PgConnection,
    ledger: &LedgerName,
) -> anyhow::Result<Option<Vec<i64>>> {
    let name = ledger.as_str();
    let schema = query!(
        r#"
        select current_user::text as "role!", pg_get_userbyid(n.nspowner)::text as "owner!",
            has_schema_privilege(n.oid, 'usage') as "may_use!",
            to_regclass('_sqlx_migrations') is not null as "is_migrated!",
            (
                select string_agg(
                    case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end, ', '
                )
                from aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
                left join pg_roles as r on r.oid = a.grantee
                where a.privilege_type = 'CREATE' and not coalesce(r.rolsuper, false)
                    and a.grantee <> all (array[n.nspowner, current_user::regrole::oid])
                    and a.grantee is distinct from (
                        select e.relowner from pg_class as e where e.oid = to_regclass('event')
                    )
            ) as others_who_create,
            exists (
                select
                from pg_class as c
                where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'f', 'v', 'm')
                    -- Tables of extensions, such as pg_stat_statements in public, do not count.
                    and not exists (
                        select from pg_depend as d
                        where d.classid = 'pg_class'::regclass and d.objid = c.oid
                            and d.deptype = 'e'
                    )
            ) as "has_tables!"
        from pg_namespace as n
        where n.nspname = $1
        "#,
        name
    );
    let Some(schema) = schema.fetch_optional(&mut *owner).await? else { return Ok(None) };
    ensure!(
        schema.may_use,
        "the role {} may not use the schema {name}; log in as its owner, {}",
        schema.role,
        schema.owner
    );
    // A function of theirs may be called in place of one of Postgres', with the rights of this role
    // (CVE-2018-1058).
    if let Some(others) = schema.others_who_create {
        bail!(
            "others may create functions in the schema {name}, which would run with this role's rights: \
             revoke create on schema \"{name}\" from {others}, or choose another name with --ledger"
        );
    }
    let applied = match schema.is_migrated {
        true => owner.list_applied_migrations(MIGRATIONS).await?,
        false => Vec::new(),
    };
    let applied: Vec<_> = applied.iter().map(|migration| migration.version).collect();
    // Another program may keep its migrations under the same name.
    let is_ours = versions().first().is_some_and(|first| applied.contains(first));
    ensure!(
        is_ours || !schema.has_tables,
        "the schema {name} has tables that are no ledger's; choose another name with --ledger"
    );
    Ok(is_ours.then_some(applied))
}

/// Locks the tables in the order in which an append and a swap of the contact table do, and migrates them.
/// Ends autovacuums first, by locks that are in the way of no reader and no append. Gives up the others before
/// Postgres looks for a deadlock, which it might end by refusing an append.
async fn run(owner: &mut PgConnection) -> anyhow::Result<()> {
    owner.execute(OUTWAIT_AUTOVACUUM).await?;
    let lock = "
        do $$
        declare
            vacuumed text;
        begin
            foreach vacuumed in array array['contact', 'head', 'event', 'observation'] loop
                if to_regclass(vacuumed) is not null then
                    -- Takes the lock and changes nothing. `lock table` asks for rights that the owner has given
                    -- away.
                    execute format('alter table %I set without cluster', vacuumed);
                end if;
            end loop;
        end
        $$;
        set local lock_timeout = '300ms';
        do $$
        begin
            if to_regclass('contact') is not null then
                lock table contact in access exclusive mode;
            end if;
            if to_regclass('head') is not null then
                lock table head in access exclusive mode;
            end if;
        end
        $$;
    ";
    sqlx::raw_sql(lock).execute(&mut *owner).await?;
    MIGRATOR.run(&mut *owner).await.context("cannot migrate the ledger's tables")?;
    query!("update head set schema_version = $1", schema_version()).execute(owner).await?;
    Ok(())
}

fn versions() -> Vec<i64> {
    MIGRATOR.iter().map(|migration| migration.version).collect()
}

/// Fails if a newer binary has migrated the tables.
pub(super) fn check_known(applied: &[i64]) -> anyhow::Result<()> {
    let unknown = applied.iter().find(|version| !MIGRATOR.version_exists(**version));
    if let Some(version) = unknown {
        bail!(
            "the database is newer than this binary (it has migration {version}); \
             use the identity-ledger that made it, or a newer one"
        );
    }
    Ok(())
}
