//! Erasing, and reading all observations, keep out of each other's way.

use sqlx::{Executor as _, PgConnection, query, query_scalar};

/// Begins the name of a session that holds erasures.
const PREFIX: &str = "identity-ledger ";

/// Keeps everybody from erasing until it is given back, or the session ends: what reads observations
/// page by page would see some before an erasure and some after it. Waits for an erasure that is under
/// way. `work` is what whoever wants to erase is told of.
pub async fn hold_erasures(session: &mut PgConnection, work: &str) -> Result<(), sqlx::Error> {
    query!("select set_config('application_name', $1, false)", format!("{PREFIX}{work}"))
        .fetch_one(&mut *session)
        .await?;
    query!(
        "select pg_advisory_lock_shared(
            hashtext('identity-ledger erasure'), hashtext(current_schema())
        )"
    )
    .fetch_one(session)
    .await?;
    Ok(())
}

/// Takes the right to replace the contact table, until it is given back, or the session ends. `false`
/// where another session has it.
pub async fn try_turn(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select pg_try_advisory_lock(
            hashtext('identity-ledger rebuild'), hashtext(current_schema())
        ) as "is_ours!""#
    )
    .fetch_one(session)
    .await
}

/// Gives back what a session has of both. One that is only closed may have them for a while yet, until
/// the server has seen that.
pub async fn give_back(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    session.execute("select pg_advisory_unlock_all()").await?;
    Ok(())
}

/// Takes the right to erase, until the transaction ends. Waits for whoever holds erasures.
pub async fn lock_erasures(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    query!(
        "select pg_advisory_xact_lock(
            hashtext('identity-ledger erasure'), hashtext(current_schema())
        )"
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// The work that holds erasures just now, if any does.
pub async fn who_holds_erasures(session: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    let name = query_scalar!(
        r#"select a.application_name as "name!"
        from pg_locks as l
        join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'advisory' and l.granted
            and l.database = (select oid from pg_database where datname = current_database())
            and l.classid::bigint = hashtext('identity-ledger erasure')::bigint & 4294967295
            and l.objid::bigint = hashtext(current_schema())::bigint & 4294967295
            and l.objsubid = 2
        order by a.backend_start
        limit 1"#
    );
    let name = name.fetch_optional(session).await?;
    Ok(name.map(|name| name.strip_prefix(PREFIX).unwrap_or(&name).to_owned()))
}
