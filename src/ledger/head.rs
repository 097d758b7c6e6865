//! Where the ledger ends, and whether that agrees with the tables, on which everything that appends
//! relies.

use super::schema::ThisVersion;
use crate::identity::{Event, Fact, ObservationId, Position};
use anyhow::{Context as _, bail, ensure};
use sqlx::{PgConnection, PgExecutor, query};

const WHAT_TO_DO: &str = "the tables were tampered with, or restored in part: identity-ledger verify says \
    more, and restore puts a backup back";

/// The position of the last event. Fails if the tables are of another version.
pub async fn position(executor: impl PgExecutor<'_>) -> Result<Position, sqlx::Error> {
    // Of all versions: by its index the row is found without reading the pages of old ones.
    let head = query!(
        r#"select position, schema_version as "schema_version: ThisVersion"
        from head
        where schema_version > 0"#
    );
    Ok(Position::new(head.fetch_one(executor).await?.position))
}

/// The number of the last observation.
pub async fn last_observation(connection: &mut PgConnection) -> Result<ObservationId, sqlx::Error> {
    let head = query!("select observation_id from head").fetch_one(connection).await?;
    Ok(ObservationId::new(head.observation_id))
}

/// Fails unless the head is one row that says where the ledger ends.
pub(super) async fn check_is_whole(owner: &mut PgConnection) -> anyhow::Result<()> {
    let heads = query!(
        r#"select position is not null and observation_id is not null and recorded_at is not null
            and rules_digest is not null as "is_whole!"
        from head
        limit 2"#
    );
    match &heads.fetch_all(owner).await?[..] {
        [head] if head.is_whole => Ok(()),
        [_] => bail!("the row of table head does not say where the ledger ends; {WHAT_TO_DO}"),
        [] => bail!("table head has no row; {WHAT_TO_DO}"),
        _ => bail!("table head has more than one row; {WHAT_TO_DO}"),
    }
}

/// Fails unless the head, which is whole, is what the last events and observations make it. Reads
/// all in one statement, so that it is of one moment.
pub(super) async fn check_ends(owner: &mut PgConnection) -> anyhow::Result<()> {
    let found = query!(
        r#"select h.position, h.observation_id, h.rules_digest,
            coalesce((select max(e.position) from event as e), 0) as "last_position!",
            coalesce((select max(o.id) from observation as o), 0) as "last_observation!",
            exists (
                select from event as e
                where e.position = h.position and e.recorded_at = h.recorded_at
            ) as "has_last_time!",
            (
                select e.line
                from event as e
                where e.kind = 'RulesActivated'
                order by e.position desc
                limit 1
            ) as activated,
            (
                select e.line
                from event as e
                where e.kind = 'LedgerRestored'
                order by e.position desc
                limit 1
            ) as restored,
            exists (select from rules as r where r.digest = h.rules_digest) as "has_rules!"
        from head as h"#
    );
    let head = found.fetch_optional(owner).await?.context("table head has no row")?;
    ensure!(
        head.position == head.last_position,
        "table head says that the last event is {}, and it is {}; {WHAT_TO_DO}",
        head.position,
        head.last_position,
    );
    // An accepted loss skips numbers.
    let skipped_to = match head.restored.as_deref().and_then(fact) {
        Some(Fact::LedgerRestored(restored)) => restored.next_observation_id.get() - 1,
        _ => 0,
    };
    let last_observation = head.last_observation.max(skipped_to);
    ensure!(
        head.observation_id == last_observation,
        "table head says that the last observation is {}, and it is {last_observation}; {WHAT_TO_DO}",
        head.observation_id,
    );
    ensure!(
        head.has_last_time,
        "table head says another time than the last event was recorded at; {WHAT_TO_DO}"
    );
    ensure!(head.has_rules, "table head names rules that are not recorded; {WHAT_TO_DO}");
    if let Some(Fact::RulesActivated(activated)) = head.activated.as_deref().and_then(fact) {
        ensure!(
            activated.digest.as_str() == head.rules_digest,
            "table head names other rules than those that were activated last; {WHAT_TO_DO}"
        );
    }
    Ok(())
}

/// The fact of a line. `None` if the line is not right, which is found and told where lines are folded.
fn fact(line: &str) -> Option<Fact> {
    Some(Event::parse(line).ok()?.fact)
}
