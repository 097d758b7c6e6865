//! Whether the role of `DATABASE_URL` may do what recording needs.

use super::database::Database;
use anyhow::ensure;
use sqlx::{Connection as _, query};

/// Fails if this role could take requests and never record one, and names the rights that it lacks. A right to
/// any column counts for the table. Where the contact table is missing, recording waits for a rebuild, which
/// makes it.
///
/// The roles of a private server are given their rights by `open`.
pub async fn check_rights(database: &Database) -> anyhow::Result<()> {
    let mut session = database.owner().await?;
    let lacks = query!(
        r#"
        select current_user::text as "role!", string_agg(n.right || ' on ' || t.name, ', ') as lacks,
            (
                select pg_get_userbyid(relowner)::text
                from pg_class
                where oid = to_regclass('event')
            ) as "owner!"
        from (
            values ('event', '{select,insert}'::text[]), ('observation', '{select,insert}'),
                ('head', '{select,update}'), ('contact', '{select,insert,update}'),
                ('rules', '{select}'), ('idempotency', '{select,insert,update,delete}')
        ) as t (name, rights)
        cross join unnest(t.rights) as n ("right")
        where not case n.right
            when 'delete' then has_table_privilege(to_regclass(t.name), n.right)
            else has_any_column_privilege(to_regclass(t.name), n.right)
        end
        "#
    );
    let found = lacks.fetch_one(&mut session).await?;
    session.close().await?;
    let lacks = found.lacks.unwrap_or_default();
    ensure!(
        lacks.is_empty(),
        "the role {} may not record in the ledger, for it lacks {lacks}; log in as its owner, {}, or grant \
         that",
        found.role,
        found.owner
    );
    Ok(())
}
