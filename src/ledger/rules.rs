//! The rules as the ledger has them: those in force, and all that ever were.

use super::fault::Unanswered;
use crate::identity::{Event, Fact, Position, Rules, RulesActivated, RulesDigest, Timestamp};
use anyhow::Context as _;
use sqlx::{PgConnection, PgExecutor, query, query_scalar};

/// Why this binary cannot decide by the rules in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesFault {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("this binary cannot read the rules in force ({0}); use the one that activated them")]
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
    .fetch_one(executor)
    .await?;
    let unreadable = |_| RulesFault::Unreadable(recorded.digest.clone());
    let rules = Rules::parse(&recorded.document).map_err(unreadable)?;
    if rules.digest().as_str() != recorded.digest {
        return Err(RulesFault::OtherNormaliser {
            in_force: named(&recorded.normaliser),
            here: named(rules.normaliser().unwrap_or_default()),
        });
    }
    Ok(rules)
}

fn named(normaliser: &str) -> String {
    if normaliser.is_empty() { "no library".to_owned() } else { normaliser.to_owned() }
}

/// The rules of a digest; `None` where this binary would make other keys by them.
pub async fn rules_of(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> anyhow::Result<Option<Rules>> {
    let document = query_scalar!("select document from rules where digest = $1", digest.as_str());
    let document = document
        .fetch_optional(executor)
        .await?
        .with_context(|| format!("the document of the rules {} is missing", digest.as_str()))?;
    Ok(Rules::parse(&document).ok().filter(|rules| rules.digest() == digest))
}

/// All rules that were ever put in force, the first ones first.
pub async fn activations(connection: &mut PgConnection) -> anyhow::Result<Vec<Activation>> {
    let lines = query_scalar!(
        "select line from event where kind = 'RulesActivated' order by position limit 10000"
    );
    let mut activations = Vec::new();
    for line in lines.fetch_all(&mut *connection).await? {
        let event = Event::parse(&line)?;
        let Fact::RulesActivated(rules) = event.fact else { continue };
        let recorded = query!(
            "select document, normaliser from rules where digest = $1",
            rules.digest.as_str()
        )
        .fetch_optional(&mut *connection)
        .await?
        .with_context(|| {
            format!("the document of the rules {} is missing", rules.digest.as_str())
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

/// The rules that were recorded under a digest, as this binary makes keys by them: where their
/// normaliser was of another version then, they have another digest now.
pub async fn recorded_rules(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Rules, Unanswered> {
    let document = query_scalar!("select document from rules where digest = $1", digest.as_str())
        .fetch_optional(executor)
        .await?;
    document
        .and_then(|document| Rules::parse(&document).ok())
        .ok_or_else(|| Unanswered::Unreadable(format!("the rules {}", digest.as_str())))
}

/// The documents of all rules that the ledger ever had, up to a thousand.
pub async fn rules_documents(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    query_scalar!("select document from rules order by digest limit 1000").fetch_all(executor).await
}

/// Keeps a rules document under its digest, for good.
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
