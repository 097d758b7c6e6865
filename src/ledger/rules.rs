//! The rules as the ledger has them: those in force, and all that ever were.

use super::fault::{Fault, Unanswered};
use crate::identity::{Event, Fact, Position, Rules, RulesActivated, RulesDigest, Timestamp};
use anyhow::{Context as _, anyhow, bail, ensure};
use sqlx::{PgConnection, PgExecutor, query, query_as, query_scalar};

const ACTIVATIONS_LEN_MAX: i64 = 10_000;

/// Why this binary cannot decide by the rules in force.
#[derive(Debug, thiserror::Error)]
pub enum RulesFault {
    #[error("{}", Fault::from(.0))]
    Database(#[from] sqlx::Error),
    #[error("the rules are not recorded: run identity-ledger verify")]
    Missing,
    /// The document does not have this digest, or has members that only another version knows.
    #[error(
        "this binary cannot read the document of the rules {0}: \
         use the one that activated them, or run identity-ledger verify"
    )]
    Unreadable(String),
    /// The document is the right one, but this binary would make other keys by it.
    #[error(
        "the rules in force make keys with {in_force}, and this binary has {here}: \
         run identity-ledger rules activate with them"
    )]
    OtherNormaliser { in_force: String, here: String },
}

impl From<RulesFault> for Unanswered {
    fn from(fault: RulesFault) -> Self {
        match fault {
            RulesFault::Database(error) => error.into(),
            RulesFault::Missing => Self::Unreadable("rules that are not recorded".to_owned()),
            RulesFault::Unreadable(digest) => Self::Unreadable(format!("the rules {digest}")),
            RulesFault::OtherNormaliser { .. } => Self::OtherRules,
        }
    }
}

/// Rules that were put in force.
pub struct Activation {
    pub position: Position,
    pub recorded_at: Timestamp,
    pub rules: RulesActivated,
    /// The text of the rules file.
    pub document: String,
    /// The versions of the libraries that make the keys. Empty if the rules use none.
    pub normaliser: String,
}

/// A row of `rules`.
struct Stored {
    name: String,
    version: i32,
    document: String,
    normaliser: String,
}

/// The rules in force, to decide by. Found by one statement, at one moment.
pub async fn rules_in_force(executor: impl PgExecutor<'_>) -> Result<Rules, RulesFault> {
    let stored = query!(
        "select r.digest, r.document, r.normaliser
        from head as h
        join rules as r on r.digest = h.rules_digest"
    )
    .fetch_optional(executor)
    .await?
    .ok_or(RulesFault::Missing)?;
    read_rules(&stored.digest, &stored.document, &stored.normaliser)
}

/// The rules of a digest, to decide by: an error unless this binary makes the same keys as the one
/// that recorded them.
pub async fn rules_to_decide_by(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Rules, RulesFault> {
    let stored = stored(executor, digest).await?.ok_or(RulesFault::Missing)?;
    let rules = read_rules(digest.as_str(), &stored.document, &stored.normaliser)?;
    let is_named = rules.name() == stored.name && rules.version() == stored.version;
    if is_named { Ok(rules) } else { Err(RulesFault::Unreadable(digest.as_str().to_owned())) }
}

/// The rules of a digest, to show values by: this binary's normaliser may be of another version than
/// the one that made the keys then.
pub async fn rules_to_show(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Rules, Unanswered> {
    let stored = stored(executor, digest).await?.ok_or(RulesFault::Missing)?;
    let (_, now) = parse_both(digest.as_str(), &stored.document, &stored.normaliser)?;
    Ok(now)
}

async fn stored(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Option<Stored>, sqlx::Error> {
    // A row that holds nothing, as it never should, is one whose document does not have the digest.
    query_as!(
        Stored,
        r#"select coalesce(name, '') as "name!", coalesce(version, 0) as "version!",
            coalesce(document, '') as "document!", coalesce(normaliser, '') as "normaliser!"
        from rules
        where digest = $1"#,
        digest.as_str()
    )
    .fetch_optional(executor)
    .await
}

/// Whether rules could be kept under their digest: nothing is there, or they are there already.
/// Anything else means that the table was tampered with.
pub async fn can_keep(executor: impl PgExecutor<'_>, rules: &Rules) -> Result<bool, sqlx::Error> {
    match rules_to_decide_by(executor, rules.digest()).await {
        Ok(_) | Err(RulesFault::Missing) => Ok(true),
        Err(RulesFault::Unreadable(_) | RulesFault::OtherNormaliser { .. }) => Ok(false),
        Err(RulesFault::Database(error)) => Err(error),
    }
}

/// Reads a document that was recorded under a digest. An error unless this binary makes the same keys
/// by it as the one that recorded it.
pub fn read_rules(digest: &str, document: &str, normaliser: &str) -> Result<Rules, RulesFault> {
    let (then, now) = parse_both(digest, document, normaliser)?;
    if now.normaliser() != then.normaliser() {
        return Err(RulesFault::OtherNormaliser {
            in_force: named(normaliser),
            here: named(now.normaliser().unwrap_or_default()),
        });
    }
    Ok(now)
}

/// The rules of a document with the normaliser of then, which have the digest, and with this binary's.
fn parse_both(
    digest: &str,
    document: &str,
    normaliser: &str,
) -> Result<(Rules, Rules), RulesFault> {
    let unreadable = || RulesFault::Unreadable(digest.to_owned());
    let then = Rules::recorded(document, normaliser).map_err(|_| unreadable())?;
    let now = Rules::parse(document).map_err(|_| unreadable())?;
    if then.digest().as_str() == digest { Ok((then, now)) } else { Err(unreadable()) }
}

fn named(normaliser: &str) -> String {
    if normaliser.is_empty() { "no library".to_owned() } else { normaliser.to_owned() }
}

/// All rules that were put in force up to a position, the first ones first. Fails if they are more than
/// 10,000.
pub async fn activations(
    connection: &mut PgConnection,
    up_to: Position,
) -> anyhow::Result<Vec<Activation>> {
    let lines = query_scalar!(
        "select line
        from event
        where kind = 'RulesActivated' and position <= $1
        order by position
        limit $2",
        up_to.get(),
        ACTIVATIONS_LEN_MAX + 1
    );
    let lines = lines.fetch_all(&mut *connection).await?;
    ensure!(
        lines.len() as i64 <= ACTIVATIONS_LEN_MAX,
        "rules were put in force more than {ACTIVATIONS_LEN_MAX} times, too often to list"
    );
    let mut activations = Vec::new();
    for line in lines {
        activations.push(activation(&mut *connection, &line).await?);
    }
    Ok(activations)
}

/// The rules that were put in force last.
pub async fn last_activation(connection: &mut PgConnection) -> anyhow::Result<Activation> {
    let line = query_scalar!(
        "select line
        from event
        where kind = 'RulesActivated'
        order by position desc
        limit 1"
    );
    let line = line.fetch_optional(&mut *connection).await?;
    activation(connection, &line.context("the ledger has no rules; run identity-ledger verify")?)
        .await
}

async fn activation(connection: &mut PgConnection, line: &str) -> anyhow::Result<Activation> {
    let event = Event::parse(line)
        .map_err(|error| anyhow!("an event that puts rules in force is {error}"))?;
    let Fact::RulesActivated(rules) = event.fact else {
        bail!("event {} is not what its columns say; run identity-ledger verify", event.position)
    };
    let stored = stored(connection, &rules.digest).await?.with_context(|| {
        format!(
            "the document of the rules {} is missing; run identity-ledger verify",
            rules.digest.as_str()
        )
    })?;
    Ok(Activation {
        position: event.position,
        recorded_at: event.recorded_at,
        rules,
        document: stored.document,
        normaliser: stored.normaliser,
    })
}

/// The documents of all rules that the ledger ever had, up to a thousand.
pub async fn rules_documents(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    query_scalar!("select document from rules order by digest limit 1000").fetch_all(executor).await
}

/// Whether the ledger has other rules of the same name and version.
pub async fn has_namesake(
    executor: impl PgExecutor<'_>,
    rules: &Rules,
) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select exists (
            select
            from rules
            where name = $1 and version = $2 and digest <> $3
        ) as "has!""#,
        rules.name(),
        rules.version(),
        rules.digest().as_str()
    )
    .fetch_one(executor)
    .await
}

/// Keeps a rules document under its digest, for ever. If one is there already, it stays: `can_keep` says
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
