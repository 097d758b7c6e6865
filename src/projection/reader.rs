//! Answers questions from committed state, each by one statement.

use super::load::{Snapshot, load, load_by_number};
use crate::identity::{Answer, ContactId, DEFAULT_RULES, Identifiers, Key, Link, Position, Rules};
use crate::ledger::{self, Database, Fault, Unanswered};
use parking_lot::Mutex;
use sqlx::PgPool;
use std::sync::Arc;

const SESSIONS_MAX: u32 = 8;

/// Reads beside the recorder. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Reader {
    pool: PgPool,
    /// The rules in force at the last lookup.
    rules: Arc<Mutex<Arc<Rules>>>,
}

/// What a number belongs to.
pub enum Found {
    /// An identity, at this position.
    Identity(Answer, Position),
    /// An identity that was erased.
    Erased,
    /// No observation has the number yet.
    Nobody,
}

/// What identifiers lead to.
pub struct LookedUp {
    pub answer: Answer,
    /// The primary of the younger identity, if they lead to two.
    pub other_primary_id: Option<ContactId>,
    /// The position that the answer holds at.
    pub position: Position,
}

impl Reader {
    pub fn new(database: &Database) -> Self {
        let rules = Rules::parse(DEFAULT_RULES).expect("the rules that are shipped can be read");
        Self { pool: database.readers(SESSIONS_MAX), rules: Arc::new(Mutex::new(rules.into())) }
    }

    /// The identity that these identifiers lead to. If they lead to two, these are answered as one,
    /// as they would be if the identifiers were observed together.
    pub async fn lookup(&self, identifiers: &Identifiers) -> Result<Option<LookedUp>, Unanswered> {
        loop {
            let rules = self.rules.lock().clone();
            let keys = rules.keys(identifiers);
            let snapshot =
                load(&self.pool, &linking(&keys.email), &linking(&keys.phone_number)).await?;
            let digest = &snapshot.head.rules_digest;
            if digest == rules.digest() {
                return Ok((!snapshot.contacts.is_empty()).then(|| LookedUp::of(&snapshot)));
            }
            // Other rules are in force at the snapshot than the keys were made by. Try again with those.
            let rules = ledger::rules_to_decide_by(&self.pool, digest).await?;
            *self.rules.lock() = rules.into();
        }
    }

    /// Sessions that read beside the recorder, on behalf of callers.
    pub fn sessions(&self) -> &PgPool {
        &self.pool
    }

    /// The position of the last event. Fails while Postgres is out of reach.
    pub async fn position(&self) -> Result<Position, Fault> {
        Ok(ledger::position(&self.pool).await?)
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The identity that an observation's number belongs to.
pub async fn identity(sessions: &PgPool, id: ContactId) -> Result<Found, Fault> {
    let snapshot = load_by_number(sessions, id).await?;
    Ok(match snapshot.contacts.first() {
        None => Found::Nobody,
        Some(contact) if contact.deleted_at.is_some() => Found::Erased,
        Some(_) => Found::Identity(Answer::of(&snapshot.contacts), snapshot.head.position),
    })
}

impl LookedUp {
    fn of(snapshot: &Snapshot) -> Self {
        let mut primaries = snapshot.contacts.iter().filter(|it| it.link == Link::Primary);
        Self {
            answer: Answer::of(&snapshot.contacts),
            other_primary_id: primaries.nth(1).map(|primary| primary.id),
            position: snapshot.head.position,
        }
    }
}

fn linking(key: &Option<Key>) -> Vec<&str> {
    key.iter().filter(|key| key.is_link()).map(Key::as_str).collect()
}
