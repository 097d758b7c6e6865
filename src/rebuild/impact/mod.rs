//! What a rule change would do to every identity, found out without changing anything.

mod bridges;
mod compare;
mod keys;
mod sizes;

pub use keys::{Changed, GainedAndLost, KeyChanges, LinkChanges};
pub use sizes::{Bucket, Growth, Largest};

use crate::identity::{Differences, Links, ObservationId, Position, Rules, RulesDigest};
use crate::ledger::{self, Database, RulesFault};
use crate::progress::Progress;
use crate::projection::Replay;
use compare::compare;
use serde::Serialize;
use sizes::Sizes;
use sqlx::{PgConnection, query};
use std::time::Duration;

/// The time that the swap itself takes, and the time that each event adds: measured with `make bench`.
const PAUSE_MIN_MS: u64 = 100;
const PAUSE_PER_EVENT_US: u64 = 20;

/// What a rule change would do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    pub from: RuleSet,
    pub to: RuleSet,
    /// The end of the ledger when this was found out.
    pub position: i64,
    pub contacts: Contacts,
    pub identities: IdentityCounts,
    pub primaries: Primaries,
    /// `None` if this binary cannot make the keys of the rules in force.
    pub links: Option<LinkChanges>,
    pub keys: Option<KeyChanges>,
    /// Identities by their number of contacts.
    pub sizes: Vec<Bucket>,
    pub largest_before: Largest,
    pub largest_after: Largest,
    /// The identities that grow most, the one that grows most first. Contacts that retire into an
    /// identity count.
    pub growing: Vec<Growth>,
    /// Number of events that an activation would append, `RulesActivated` among them. 0 if these
    /// are the rules in force.
    pub events: usize,
    /// About how long callers would wait.
    pub pause_ms: u64,
    /// The new primary of each contact whose primary changes.
    #[serde(skip)]
    pub remap: Remap,
}

#[derive(Debug, Serialize)]
pub struct RuleSet {
    pub name: String,
    pub version: i32,
    pub digest: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contacts {
    pub before: usize,
    pub after: usize,
    pub unchanged: usize,
    /// Contacts that get another primary.
    pub moved: usize,
    pub introduced: usize,
    pub retired: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityCounts {
    pub before: usize,
    pub after: usize,
    /// Identities after the change that have observations of several identities before.
    pub merged: usize,
    /// Identities before the change whose observations go to several identities.
    pub split: usize,
}

#[derive(Debug, Serialize)]
pub struct Primaries {
    pub demoted: usize,
    pub promoted: usize,
}

/// The two states that an impact lies between.
#[derive(Debug, Default)]
pub struct Remap {
    before: Links,
    after: Links,
}

/// Limits that an impact is to stay within.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Share of the contacts before the change.
    pub moved_percent_max: Option<f64>,
    /// Number of contacts.
    pub identity_len_max: Option<usize>,
    pub pause_max: Option<Duration>,
}

/// Finds out what it would do to put these rules in force. Reads page by page, and writes nothing. No
/// identity is erased meanwhile.
pub async fn impact(database: &Database, rules: Rules) -> anyhow::Result<Impact> {
    let mut owner = database.owner().await?;
    ledger::block_erasures(&mut owner, "rules diff").await?;
    let head = query!(
        "select h.position, h.observation_id, r.digest, r.name, r.version
        from head as h
        join rules as r on r.digest = h.rules_digest"
    )
    .fetch_one(&mut owner)
    .await?;
    let (last, position) = (ObservationId::new(head.observation_id), Position::new(head.position));
    let skipped_len = ledger::gaps(&mut owner).await?.skipped_len_at(position);
    let from = RuleSet { name: head.name, version: head.version, digest: head.digest };
    let in_force = rules_in_force(&mut owner, &from.digest).await?;
    let mut progress = Progress::default();
    let compared =
        compare(database, last, skipped_len, in_force, rules.clone(), &mut progress).await?;
    let (mut before, tally) = match compared.before {
        Some((links, tally)) => (links, Some(tally)),
        None => (Replay::up_to(database, position, &mut progress).await?.links, None),
    };
    let mut after = compared.after;
    before.compress_all();
    after.compress_all();
    let differences = Differences::between(&before, &after);
    let sizes = Sizes::of(&before, &after);
    let growing = bridges::growing(&mut owner, &sizes, &rules).await?;
    ledger::release_all(&mut owner).await?;
    let to = RuleSet {
        name: rules.name().to_owned(),
        version: rules.version(),
        digest: rules.digest().as_str().to_owned(),
    };
    let events = if from.digest == to.digest { 0 } else { differences.facts_len() + 1 };
    let (links, keys) = tally.map(|tally| (tally.links, tally.keys)).unzip();
    Ok(Impact {
        from,
        to,
        position: head.position,
        contacts: Contacts::of(&before, &after, &differences),
        identities: sizes.identities(),
        primaries: Primaries {
            demoted: differences.demoted_len(),
            promoted: differences.promoted_len(),
        },
        links,
        keys,
        sizes: sizes.buckets(),
        largest_before: sizes.largest_before(),
        largest_after: sizes.largest_after(),
        growing,
        events,
        pause_ms: pause_ms(events),
        remap: Remap { before, after },
    })
}

/// The rules in force. `None` if this binary cannot make their keys.
async fn rules_in_force(owner: &mut PgConnection, digest: &str) -> anyhow::Result<Option<Rules>> {
    let digest = RulesDigest::recorded(digest.to_owned());
    match ledger::rules_to_decide_by(owner, &digest).await {
        Ok(rules) => Ok(Some(rules)),
        Err(RulesFault::Unreadable(_) | RulesFault::OtherNormaliser { .. }) => Ok(None),
        Err(RulesFault::Database(error)) => Err(error.into()),
        Err(fault @ RulesFault::Missing) => Err(fault.into()),
    }
}

fn pause_ms(events: usize) -> u64 {
    match events {
        0 => 0,
        _ => PAUSE_MIN_MS + events as u64 * PAUSE_PER_EVENT_US / 1000,
    }
}

impl Contacts {
    fn of(before: &Links, after: &Links, differences: &Differences) -> Self {
        let (introduced, retired) = (differences.introduced_len(), differences.retired_len());
        let moved = differences.relinked().count() - introduced;
        Self {
            before: before.contacts_len(),
            after: after.contacts_len(),
            unchanged: before.contacts_len() - retired - moved,
            moved,
            introduced,
            retired,
        }
    }
}

impl Impact {
    /// Whether the rules are those in force.
    pub fn is_none(&self) -> bool {
        self.from.digest == self.to.digest
    }

    /// Of a hundred contacts before the change, how many get another primary or are no longer contacts.
    fn moved_percent(&self) -> f64 {
        let moved = self.contacts.moved + self.contacts.retired;
        100.0 * moved as f64 / self.contacts.before.max(1) as f64
    }

    /// For each limit that is exceeded, says by how much.
    pub fn beyond(&self, limits: &Limits) -> Vec<String> {
        let moved = limits.moved_percent_max.filter(|max| self.moved_percent() > *max).map(|max| {
            format!("{:.2} % of the contacts move, more than {max} %", self.moved_percent())
        });
        let largest = self.largest_after.contacts;
        let identity = limits.identity_len_max.filter(|max| largest > *max);
        let identity = identity
            .map(|max| format!("the largest identity has {largest} contacts, more than {max}"));
        let pause = Duration::from_millis(self.pause_ms);
        let pause = limits.pause_max.filter(|max| pause > *max).map(|max| {
            format!("callers wait about {} ms, longer than {} ms", self.pause_ms, max.as_millis())
        });
        [moved, identity, pause].into_iter().flatten().collect()
    }
}

impl Remap {
    /// The contacts whose primary changes, each with its primary before and after. For a contact
    /// that retires, the latter is the primary of the contact that it is filed under.
    pub fn entries(&self) -> impl Iterator<Item = [i64; 3]> {
        self.before.ids().filter_map(|id| {
            let was = self.before.contact_primary(id.into())?;
            let is = self.after.primary_of(id)?;
            (was != is).then_some([id.get(), was.get(), is.get()])
        })
    }
}
