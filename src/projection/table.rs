//! The contact table itself. It is made once, and replaced as a whole by a rebuild.

use crate::ledger::is_lock_timeout;
use anyhow::{anyhow, ensure};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_scalar};

const TABLE: &str = include_str!("../../projections/contact/table.sql");
const INDEXES: &str = include_str!("../../projections/contact/indexes.sql");
/// What the comment on each contact table of ours begins with.
const SIGNATURE: &str = "identity-ledger definition ";

/// Makes the contact table of a ledger that has observed nothing yet. For any other ledger an empty table
/// would be wrong: if it has none, a rebuild makes it.
pub async fn create_first(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    let is_new = query_scalar!(r#"select observation_id = 0 as "is!" from head"#);
    if exists(owner).await? || !is_new.fetch_one(&mut *owner).await? {
        return Ok(());
    }
    let mut tx = owner.begin().await?;
    sqlx::raw_sql(TABLE).execute(&mut *tx).await?;
    sqlx::raw_sql(INDEXES).execute(&mut *tx).await?;
    sign(&mut tx, "contact").await?;
    tx.commit().await
}

pub async fn exists(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let exists = query_scalar!(r#"select to_regclass('contact') is not null as "exists!""#);
    exists.fetch_one(owner).await
}

/// Fails if the contact table is missing, or is not as this version defines it.
pub async fn check_definition(owner: &mut PgConnection) -> anyhow::Result<()> {
    ensure!(exists(owner).await?, "the contact table is missing; run identity-ledger rebuild");
    check_ours(owner).await?;
    ensure!(
        signature(owner).await?.as_deref() == Some(&definition()),
        "the contact table was made by another version; run identity-ledger rebuild"
    );
    Ok(())
}

/// Fails if another program made what is called `contact`, since it is not ours to replace.
async fn check_ours(owner: &mut PgConnection) -> anyhow::Result<()> {
    let signature = signature(owner).await?;
    ensure!(
        signature.is_some_and(|it| it.starts_with(SIGNATURE)) || !exists(owner).await?,
        "the table contact in the ledger's schema was not made by identity-ledger, as its comment would \
         say: give it another name, and run identity-ledger rebuild"
    );
    Ok(())
}

async fn signature(owner: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let signature = query_scalar!(
        r#"select obj_description(to_regclass('contact'), 'pg_class') as "signature""#
    );
    signature.fetch_one(owner).await
}

/// Notes in a table's comment by which definition it was made.
async fn sign(owner: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
    let comment = format!("comment on table {table} is '{}'", definition());
    sqlx::raw_sql(AssertSqlSafe(comment)).execute(owner).await?;
    Ok(())
}

fn definition() -> String {
    let digest = Sha256::new().chain_update(TABLE).chain_update(INDEXES).finalize();
    format!("{SIGNATURE}{}", hex::encode(&digest[..8]))
}

/// Fails if something that is not ours would be in the way of a swap, or be gone after it.
pub async fn check_replaceable(owner: &mut PgConnection) -> anyhow::Result<()> {
    check_ours(owner).await?;
    let dependents = dependents(owner).await?;
    ensure!(
        dependents.is_empty(),
        "the contact table cannot be replaced under what depends on it ({}): drop them and create \
         them again after the rebuild",
        dependents.join(", ")
    );
    Ok(())
}

/// A superuser, or a member of the role that owns the ledger, may rebuild it, too. Those who use the table
/// would lose it if it were theirs from then on.
const GIVE_NEXT: &str = "
    do $$
    begin
        execute format(
            'alter table contact_next owner to %I',
            (select pg_get_userbyid(relowner) from pg_class where oid = 'event'::regclass)
        );
    end
    $$";

/// Makes the empty table `contact_next`, in place of what an interrupted rebuild left. It belongs to the
/// owner of the ledger.
pub async fn create_next(owner: &mut PgConnection) -> anyhow::Result<()> {
    // Again: something may have been made since the work began.
    check_replaceable(owner).await?;
    drop_next(owner).await.map_err(|error| match is_lock_timeout(&error) {
        true => anyhow!(
            "the table contact_next, which an interrupted rebuild left, is being read; end the \
             long query and try again"
        ),
        false => error.into(),
    })?;
    sqlx::raw_sql(AssertSqlSafe(next(TABLE))).execute(&mut *owner).await?;
    // A vacuum of this table would be in the way of the swap.
    sqlx::raw_sql("alter table contact_next set (autovacuum_enabled = off)")
        .execute(&mut *owner)
        .await?;
    sign(owner, "contact_next").await?;
    sqlx::raw_sql(GIVE_NEXT).execute(owner).await?;
    Ok(())
}

/// Drops `contact_next`, which an interrupted rebuild left. Fails if a long query reads it.
pub async fn drop_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    let drop = "
        set lock_timeout = '5s';
        drop table if exists contact_next;
        reset lock_timeout;
    ";
    sqlx::raw_sql(drop).execute(owner).await?;
    Ok(())
}

/// What keeps `contact` from being dropped: views, foreign keys, functions of its row type. And
/// what is not ours and would go with it: indexes, constraints, triggers, policies, publications.
async fn dependents(owner: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    query_scalar!(
        r#"select pg_describe_object(d.classid, d.objid, 0) as "name!"
        from pg_depend as d
        left join pg_class as i on d.classid = 'pg_class'::regclass and i.oid = d.objid
        left join pg_constraint as k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
        where (d.refclassid, d.refobjid) = ('pg_class'::regclass, to_regclass('contact'))
        and d.deptype = 'a'
        -- Not the expression of the column that earlier versions had Postgres generate, which before Postgres 15
        -- is that column itself.
        and d.classid <> 'pg_attrdef'::regclass
        and (d.classid, d.objid) <> (d.refclassid, d.refobjid)
        and coalesce(i.relname, '')
            not in ('contact_email_key', 'contact_phone_key', 'contact_linked_id')
        and coalesce(k.conname, '') <> 'contact_pkey'
        -- Nor `not null`, which is a constraint from Postgres 18 on.
        and coalesce(k.contype, ' ') <> 'n'
        union
        select coalesce(
            pg_describe_object('pg_class'::regclass, view.ev_class, 0),
            pg_describe_object(d.classid, d.objid, 0)
        ) as "name!"
        from pg_class as c
        join pg_type as t on t.oid = c.reltype
        join pg_depend as d on (d.refclassid, d.refobjid) in (
            ('pg_class'::regclass, c.oid), ('pg_type'::regclass, t.oid),
            ('pg_type'::regclass, t.typarray)
        )
        left join pg_rewrite as view
        on d.classid = 'pg_rewrite'::regclass and view.oid = d.objid
        where c.oid = to_regclass('contact')
        and d.deptype = 'n'
        and not exists (
            select from pg_depend as own
            where (own.classid, own.objid) = (d.classid, d.objid)
            and (own.refclassid, own.refobjid) = ('pg_class'::regclass, c.oid)
            and own.deptype in ('a', 'i')
        )
        union
        -- One of all tables depends on none: it would publish `contact_next`, which subscribers do not have.
        select 'publication ' || quote_ident(p.pubname)
        from pg_publication_tables as p
        where p.schemaname = current_schema() and p.tablename = 'contact'
            and not exists (
                select
                from pg_publication_rel as r
                join pg_publication as named on named.oid = r.prpubid
                where r.prrelid = to_regclass('contact') and named.pubname = p.pubname
            )
        order by 1
        limit 100"#
    )
    .fetch_all(owner)
    .await
}

/// Builds the indexes of `contact_next`, whether it is full or empty.
pub async fn index_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    let settings = "set maintenance_work_mem = '256MB'; set max_parallel_maintenance_workers = 2";
    sqlx::raw_sql(settings).execute(&mut *owner).await?;
    sqlx::raw_sql(AssertSqlSafe(next(INDEXES))).execute(owner).await?;
    Ok(())
}

/// Lets Postgres know how many rows `contact_next` has.
pub async fn analyze_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    query("analyze contact_next").execute(owner).await?;
    Ok(())
}

/// Puts `contact_next` in the place of `contact`, under the caller's locks on both and on `head`.
/// Grants on `contact` are kept.
pub async fn swap_in_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(include_str!("keep_grants.sql")).execute(&mut *owner).await?;
    sqlx::raw_sql(
        "
        drop table if exists contact;
        alter table contact_next reset (autovacuum_enabled);
        alter table contact_next rename to contact;
        alter table contact rename constraint contact_next_pkey to contact_pkey;
        alter index contact_next_email_key rename to contact_email_key;
        alter index contact_next_phone_key rename to contact_phone_key;
        alter index contact_next_linked_id rename to contact_linked_id;
        ",
    )
    .execute(owner)
    .await?;
    Ok(())
}

fn next(definition: &str) -> String {
    definition.replace("contact", "contact_next")
}
