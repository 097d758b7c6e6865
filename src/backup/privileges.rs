//! What the owner may do to its own tables: it has revoked its own right to rewrite history. The table
//! `contact_next`, which an interrupted rebuild leaves, is not in a backup.

use anyhow::ensure;
use sqlx::{AssertSqlSafe, PgConnection, query};
use std::collections::BTreeMap;

/// The privileges of the owner on each table, except on those whose owner may do anything.
pub type Privileges = BTreeMap<String, Vec<String>>;

/// Reads the privileges that the owner has.
pub async fn read(owner: &mut PgConnection) -> Result<Privileges, sqlx::Error> {
    let granted = query!(
        r#"
        select c.relname::text as "table!", array_agg(acl.privilege_type) as "privileges!"
        from pg_class as c
        cross join lateral aclexplode(c.relacl) as acl
        where c.relnamespace = current_schema()::regnamespace
            and c.relkind = 'r'
            and c.relname <> 'contact_next'
            and acl.grantee = c.relowner
        group by c.relname
        "#
    );
    let tables = granted.fetch_all(owner).await?;
    Ok(tables.into_iter().map(|row| (row.table, row.privileges)).collect())
}

/// Gives the owner of restored tables these privileges and no others.
pub async fn give(owner: &mut PgConnection, privileges: &Privileges) -> anyhow::Result<()> {
    for (table, privileges) in privileges {
        let is_plain = |text: &String| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        ensure!(
            is_plain(table) && privileges.iter().all(is_plain),
            "the manifest has privileges that no ledger has; the backup was changed"
        );
        let privileges = privileges.join(", ");
        let give = format!(
            r#"revoke all on "{table}" from current_user;
            grant {privileges} on "{table}" to current_user"#
        );
        sqlx::raw_sql(AssertSqlSafe(give)).execute(&mut *owner).await?;
    }
    Ok(())
}
