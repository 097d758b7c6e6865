//! Compares the contact table with what the events fold into, while requests run.

use super::decisions::Decisions;
use super::mismatch::Mismatch;
use crate::identity::{
    Contact, ContactId, Email, Holders, Identifiers, Keys, PhoneNumber, Position, Rules,
    RulesDigest, Timestamp, rfc_3339,
};
use crate::ledger::{self, RulesFault};
use crate::progress::Progress;
use crate::projection::{Replay, key};
use anyhow::Context as _;
use sqlx::{PgConnection, query_file_as};

/// In contacts.
const CHUNK_LEN: i64 = 5_000;

/// A contact table that is right.
pub struct Compared {
    /// The position at which the last chunk was read.
    pub position: Position,
    pub contacts_len: usize,
    /// Whether their keys were compared, too.
    pub keys_compared: bool,
}

struct Comparison {
    owner: PgConnection,
    in_force: InForce,
    replay: Replay,
    holders: Holders,
}

/// The rules that the events put in force: the head is compared with them.
struct InForce {
    digest: RulesDigest,
    /// `None` if this binary would make other keys by them.
    rules: Option<Rules>,
}

/// A contact row beside its observation and the head. Past the last contact, the head alone.
struct Row {
    position: i64,
    rules_digest: String,
    observation_id: i64,
    recorded_at: Timestamp,
    deleted_at: Option<Timestamp>,
    observed_position: Option<i64>,
    id: Option<i64>,
    linked_id: Option<i64>,
    link_precedence: Option<String>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    email: Option<String>,
    phone_number: Option<String>,
    email_key: Option<String>,
    phone_key: Option<String>,
    unlinked_email: Option<String>,
    unlinked_phone: Option<String>,
    observed_at: Option<Timestamp>,
    observed_email: Option<String>,
    observed_phone_number: Option<String>,
}

/// Compares every contact with what was decided. Events that come meanwhile are folded, too.
pub async fn compare_contacts(
    mut owner: PgConnection,
    mut decisions: Decisions,
) -> anyhow::Result<Compared> {
    let mut progress = Progress::default();
    let in_force = rules_in_force(&mut owner, &decisions.replay).await?;
    // Other rules may have come into force since the walk began.
    let holders = in_force.rules.as_ref().map(|rules| decisions.holders_by(rules));
    let holders = holders.unwrap_or_default();
    let mut comparison = Comparison { owner, in_force, replay: decisions.replay, holders };
    loop {
        if let Some(contacts_len) = comparison.compare(&mut progress).await? {
            let position = comparison.replay.position;
            let keys_compared = comparison.in_force.rules.is_some();
            return Ok(Compared { position, contacts_len, keys_compared });
        }
        // The rules have changed meanwhile, and with them who holds which key.
        let Comparison { owner, replay, .. } = &mut comparison;
        comparison.in_force = rules_in_force(owner, replay).await?;
        comparison.holders = Holders::default();
    }
}

/// The rules that the events say are in force.
async fn rules_in_force(owner: &mut PgConnection, replay: &Replay) -> anyhow::Result<InForce> {
    let digest = replay.rules_digest.clone().context("no event puts rules in force")?;
    let rules = match ledger::rules_to_decide_by(owner, &digest).await {
        Err(RulesFault::OtherNormaliser { .. }) => None,
        rules => Some(rules?),
    };
    Ok(InForce { digest, rules })
}

impl Comparison {
    /// Compares in chunks, each at the position at which it was read, and returns how many contacts
    /// there are. `None` if the rules have changed, so that the rest cannot be judged.
    async fn compare(&mut self, progress: &mut Progress) -> anyhow::Result<Option<usize>> {
        progress.begin("comparing contacts", self.replay.links.contacts_len());
        let mut from = ContactId::new(i64::MIN);
        let mut compared = 0;
        loop {
            let rows = self.chunk(from).await?;
            let first = rows.first().context("the head is missing")?;
            self.replay.catch_up(&mut self.owner, Position::new(first.position)).await?;
            self.check_head(first)?;
            if first.rules_digest != self.in_force.digest.as_str() {
                return Ok(None);
            }
            let found: Vec<_> = rows.iter().filter_map(|row| row.id.map(|id| (id, row))).collect();
            let is_last = found.len() < CHUNK_LEN as usize;
            let last = match found.last() {
                Some((id, _)) if !is_last => ContactId::new(*id),
                _ => ContactId::new(i64::MAX),
            };
            let expected: Vec<_> = self.replay.links.rows_from(from, last).collect();
            for (id, row) in &found {
                if expected.binary_search(&ContactId::new(*id)).is_err() {
                    return Err(row.differs(format!("no contact {id}"), "one").into());
                }
            }
            for (n, id) in expected.iter().enumerate() {
                self.compare_contact(*id, found.get(n).map(|(_, row)| *row))?;
            }
            compared += found.len();
            progress.at(compared);
            if is_last {
                return Ok(Some(self.replay.links.contacts_len()));
            }
            from = ContactId::new(last.get() + 1);
        }
    }

    /// The head says where the events end, and which rules they have put in force.
    fn check_head(&self, head: &Row) -> Result<(), Mismatch> {
        let Replay { links, position, recorded_at, rules_digest, .. } = &self.replay;
        let rules = rules_digest.as_ref().map(RulesDigest::as_str).unwrap_or_default();
        let members = [
            ("rules_digest", rules.to_owned(), head.rules_digest.clone()),
            ("observation_id", links.last().to_string(), head.observation_id.to_string()),
            ("recorded_at", rfc_3339(*recorded_at), rfc_3339(head.recorded_at)),
        ];
        for (member, expected, found) in members {
            if expected != found {
                let (expected, found) =
                    (format!("{member} {expected}"), format!("{member} {found}"));
                return Err(Mismatch::at(*position, "head", expected, found));
            }
        }
        Ok(())
    }

    fn compare_contact(&mut self, id: ContactId, row: Option<&Row>) -> anyhow::Result<()> {
        let Some(row) = row.filter(|row| row.id == Some(id.get())) else {
            return Err(Mismatch::anywhere("contact", format!("contact {id}"), "none").into());
        };
        let expected = self.expected(id, row);
        let expected = expected.with_context(|| format!("observation {id} is missing"))?;
        row.compare(&expected, &row.contact(id))?;
        Ok(())
    }

    /// The contact or tombstone that the events make of an observation. `None` if its row is missing.
    fn expected(&mut self, id: ContactId, row: &Row) -> Option<Contact> {
        let links = &mut self.replay.links;
        let observed_at = row.observed_at?;
        if let Some(standing) = links.tombstone(id) {
            return Some(Contact::tombstone(standing, observed_at));
        }
        let standing = links.standing(id)?;
        let observed = Identifiers::recorded(
            row.observed_email.as_deref(),
            row.observed_phone_number.as_deref(),
        )?;
        let rules = self.in_force.rules.as_ref();
        // Keys that this binary cannot make are taken as they are.
        let keys = rules.map_or_else(|| row.keys(), |rules| rules.keys(&observed));
        let holds = self.holders.claim(id, &keys);
        Some(Contact::new(&observed, keys, standing, holds, observed_at))
    }

    async fn chunk(&mut self, from: ContactId) -> Result<Vec<Row>, sqlx::Error> {
        query_file_as!(Row, "src/verify/compare.sql", from.get(), CHUNK_LEN)
            .fetch_all(&mut self.owner)
            .await
    }
}

impl Row {
    /// Compares column by column. Tells no personal value.
    fn compare(&self, expected: &Contact, found: &Contact) -> Result<(), Mismatch> {
        let id = expected.id;
        let personal = |column, equal: bool| {
            (column, equal, "as it was observed".to_owned(), "another".to_owned())
        };
        let linked = |contact: &Contact| {
            contact.linked_id().map_or_else(|| "null".to_owned(), |id| id.to_string())
        };
        let deleted = |contact: &Contact| contact.deleted_at.map_or("null".to_owned(), rfc_3339);
        let columns = [
            ("linked_id", expected.link == found.link, linked(expected), linked(found)),
            (
                "link_precedence",
                self.link_precedence.as_deref() == Some(expected.link_precedence()),
                expected.link_precedence().to_owned(),
                "another".to_owned(),
            ),
            personal("email", expected.email == found.email),
            personal("phone_number", expected.phone_number == found.phone_number),
            personal("email_key", expected.email_key == found.email_key),
            personal("phone_key", expected.phone_key == found.phone_key),
            // `found` does not show them if there is a key that links.
            personal("unlinked_email", self.email_key.is_none() || self.unlinked_email.is_none()),
            personal("unlinked_phone", self.phone_key.is_none() || self.unlinked_phone.is_none()),
            dated("created_at", expected.created_at, found.created_at),
            dated("updated_at", expected.updated_at, found.updated_at),
            (
                "deleted_at",
                expected.deleted_at == found.deleted_at,
                deleted(expected),
                deleted(found),
            ),
        ];
        for (column, equal, expected, found) in columns {
            if !equal {
                let expected = format!("contact {id}: {column} {expected}");
                return Err(self.differs(expected, format!("{column} {found}")));
            }
        }
        Ok(())
    }

    /// A mismatch at the event that observed the contact.
    fn differs(&self, expected: String, found: impl ToString) -> Mismatch {
        Mismatch::new(self.observed_position.map(Position::new), "contact", expected, found)
    }

    fn keys(&self) -> Keys {
        Keys {
            email: key(self.email_key.as_deref(), self.unlinked_email.as_deref()),
            phone_number: key(self.phone_key.as_deref(), self.unlinked_phone.as_deref()),
        }
    }

    fn contact(&self, id: ContactId) -> Contact {
        let keys = self.keys();
        Contact {
            id,
            email: self.email.as_deref().map(Email::recorded),
            phone_number: self.phone_number.as_deref().map(PhoneNumber::recorded),
            email_key: keys.email,
            phone_key: keys.phone_number,
            link: self.linked_id.map(ContactId::new).into(),
            created_at: self.created_at.unwrap_or_default(),
            updated_at: self.updated_at.unwrap_or_default(),
            deleted_at: self.deleted_at,
        }
    }
}

fn dated(
    column: &'static str,
    expected: Timestamp,
    found: Timestamp,
) -> (&'static str, bool, String, String) {
    (column, expected == found, rfc_3339(expected), rfc_3339(found))
}
