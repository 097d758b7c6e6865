//! The rules as the ledger has them: those in force, and all that ever were.

use super::fault::{Fault, Unanswered};
use crate::identity::{Event, Fact, Position, Rules, RulesActivated, RulesDigest, Timestamp};
use anyhow::{Context as _, anyhow};
use sqlx::{PgConnection, PgExecutor, query, query_scalar};

/// Why this binary cannot decide by the rules in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesFault {
    #[error("{}", Fault::from(.0))]
    Database(#[from] sqlx::Error),
    #[error("the rules are not recorded: run identity-ledger verify")]
    Missing,
    /// The document is not one of this digest, or has what only another version knows.
    #[error(
        "this binary cannot read the document of the rules {0}: \
         use the one that activated them, or run identity-ledger verify"
    )]
    Unreadable(String),
    /// The document is the same and the keys would be others.
    #[error(
        "the rules in force make keys with {in_force}, and this binary has {here}: \
         run identity-ledger rules activate with them"
    )]
    OtherNormaliser { in_force: String, here: String },
}

/// Rules that were put in force.
pub struct Activation {
    pub position: Position,
    pub recorded_at: Timestamp,
    pub rules: RulesActivated,
    /// As the rules file said it.
    pub document: String,
    /// The versions of the libraries that make the keys; empty where the rules use none.
    pub normaliser: String,
}

/// The rules in force, as the ledger has them.
pub async fn rules_in_force(executor: impl PgExecutor<'_>) -> Result<Rules, RulesFault> {
    let recorded = query!(
        "select r.digest, r.document, r.normaliser
        from head as h
        join rules as r on r.digest = h.rules_digest"
    )
    .fetch_optional(executor)
    .await?
    .ok_or(RulesFault::Missing)?;
    read_rules(&recorded.digest, &recorded.document, &recorded.normaliser)
}

/// The rules of a digest, if this binary decides by them as the one did that recorded them.
pub async fn rules_of(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Rules, RulesFault> {
    let recorded = query!(
        "select name, version, document, normaliser from rules where digest = $1",
        digest.as_str()
    )
    .fetch_optional(executor)
    .await?
    .ok_or(RulesFault::Missing)?;
    let rules = read_rules(digest.as_str(), &recorded.document, &recorded.normaliser)?;
    let is_named = rules.name() == recorded.name && rules.version() == recorded.version;
    if is_named { Ok(rules) } else { Err(RulesFault::Unreadable(digest.as_str().to_owned())) }
}

/// Whether rules could be kept under their digest: nothing is there, or they are there already.
/// Anything else was put there by somebody who tampered with the table.
pub async fn can_keep(executor: impl PgExecutor<'_>, rules: &Rules) -> Result<bool, sqlx::Error> {
    match rules_of(executor, rules.digest()).await {
        Ok(_) | Err(RulesFault::Missing) => Ok(true),
        Err(RulesFault::Unreadable(_) | RulesFault::OtherNormaliser { .. }) => Ok(false),
        Err(RulesFault::Database(error)) => Err(error),
    }
}

/// The rules that were recorded under a digest, which they must have.
pub fn read_rules(digest: &str, document: &str, normaliser: &str) -> Result<Rules, RulesFault> {
    let unreadable = || RulesFault::Unreadable(digest.to_owned());
    let then = Rules::recorded(document, normaliser).map_err(|_| unreadable())?;
    let now = Rules::parse(document).map_err(|_| unreadable())?;
    if then.digest().as_str() != digest {
        return Err(unreadable());
    }
    if now.normaliser() != then.normaliser() {
        return Err(RulesFault::OtherNormaliser {
            in_force: named(normaliser),
            here: named(now.normaliser().unwrap_or_default()),
        });
    }
    Ok(now)
}

fn named(normaliser: &str) -> String {
    if normaliser.is_empty() { "no library".to_owned() } else { normaliser.to_owned() }
}

/// All rules that were put in force up to a position, the first ones first.
pub async fn activations(
    connection: &mut PgConnection,
    up_to: Position,
) -> anyhow::Result<Vec<Activation>> {
    let lines = query_scalar!(
        "select line
        from event
        where kind = 'RulesActivated' and position <= $1
        order by position
        limit 10000",
        up_to.get()
    );
    let mut activations = Vec::new();
    for line in lines.fetch_all(&mut *connection).await? {
        let event = Event::parse(&line)
            .map_err(|error| anyhow!("an event that puts rules in force is {error}"))?;
        let Fact::RulesActivated(rules) = event.fact else { continue };
        let recorded = query!(
            "select document, normaliser from rules where digest = $1",
            rules.digest.as_str()
        )
        .fetch_optional(&mut *connection)
        .await?
        .with_context(|| {
            format!(
                "the document of the rules {} is missing; run identity-ledger verify",
                rules.digest.as_str()
            )
        })?;
        activations.push(Activation {
            position: event.position,
            recorded_at: event.recorded_at,
            rules,
            document: recorded.document,
            normaliser: recorded.normaliser,
        });
    }
    Ok(activations)
}

/// The rules that were recorded under a digest, as this binary makes keys by them: its normaliser
/// may be of another version than the one then.
pub async fn recorded_rules(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Rules, Unanswered> {
    let recorded =
        query!("select document, normaliser from rules where digest = $1", digest.as_str())
            .fetch_optional(executor)
            .await?;
    let unreadable = || Unanswered::Unreadable(format!("the rules {}", digest.as_str()));
    let recorded = recorded.ok_or_else(unreadable)?;
    let then = Rules::recorded(&recorded.document, &recorded.normaliser);
    let is_right = then.is_ok_and(|then| then.digest() == digest);
    Rules::parse(&recorded.document).ok().filter(|_| is_right).ok_or_else(unreadable)
}

/// The documents of all rules that the ledger ever had, up to a thousand.
pub async fn rules_documents(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    query_scalar!("select document from rules order by digest limit 1000").fetch_all(executor).await
}

/// Keeps a rules document under its digest, for good. What is there already stays: `can_keep` says
/// whether it is the same.
pub async fn keep_rules(
    executor: impl PgExecutor<'_>,
    rules: &Rules,
    document: &str,
) -> Result<(), sqlx::Error> {
    query!(
        "insert into rules (digest, name, version, document, normaliser)
        values ($1, $2, $3, $4, $5)
        on conflict (digest) do nothing",
        rules.digest().as_str(),
        rules.name(),
        rules.version(),
        document,
        rules.normaliser().unwrap_or_default()
    )
    .execute(executor)
    .await?;
    Ok(())
}
