//! The contact table itself: made once, and replaced as a whole by a rebuild.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query, query_scalar};

const TABLE: &str = include_str!("../../projections/contact/table.sql");
const INDEXES: &str = include_str!("../../projections/contact/indexes.sql");

/// Makes an empty contact table where there is none. Right for a new ledger only; one that
/// has events and no table needs a rebuild.
pub async fn create_missing(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    let exists = query_scalar!(r#"select to_regclass('contact') is not null as "exists!""#);
    if exists.fetch_one(&mut *owner).await? {
        return Ok(());
    }
    let mut tx = owner.begin().await?;
    sqlx::raw_sql(TABLE).execute(&mut *tx).await?;
    sqlx::raw_sql(INDEXES).execute(&mut *tx).await?;
    tx.commit().await
}

/// Makes the empty table `contact_next`, in place of what an interrupted rebuild left.
pub async fn create_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("drop table if exists contact_next").execute(&mut *owner).await?;
    sqlx::raw_sql(AssertSqlSafe(next(TABLE))).execute(owner).await?;
    Ok(())
}

/// Builds the indexes of `contact_next`, once it is full.
pub async fn index_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(next(INDEXES))).execute(&mut *owner).await?;
    query("analyze contact_next").execute(owner).await?;
    Ok(())
}

/// Puts `contact_next` in the place of `contact`, under the caller's locks on `contact` and `head`.
pub async fn swap_in_next(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "
        drop table contact;
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
