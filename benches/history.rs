//! Ledger rows made in memory by the crate's own resolve and fold, to be copied in bulk.

use crate::postgres::execute;
use crate::traffic::{EmailOf, PhoneOf, Seen};
use anyhow::Context as _;
use chrono::TimeDelta;
use identity_ledger::identity::{
    Commitment, Contact, ContactId, Email, Event, Identifiers, Identities, Key, Observation,
    ObservationId, PhoneNumber, Position, Rules, Salt, Timestamp, resolve,
};
use identity_ledger::ledger;
use sqlx::{PgConnection, query_as};
use std::fmt::{Display, Write as _};

/// A ledger that goes on in memory from where the one in the database ends.
pub struct History {
    rules: Rules,
    random: fastrand::Rng,
    known: Identities,
    introduced: Vec<ContactId>,
    position: Position,
    observation_id: ObservationId,
    now: Timestamp,
    rows: Rows,
}

/// Rows in the text format of COPY, and the head after them.
#[derive(Default)]
pub struct Rows {
    events: String,
    observations: String,
    contacts: String,
    head: String,
}

impl History {
    pub async fn after(owner: &mut PgConnection) -> anyhow::Result<Self> {
        let rules = ledger::rules_in_force(&mut *owner).await?;
        let (position, observation_id, now): (i64, i64, Timestamp) =
            query_as("select position, observation_id, recorded_at from head")
                .fetch_one(owner)
                .await?;
        Ok(Self {
            rules,
            random: fastrand::Rng::with_seed(1),
            known: Identities::default(),
            introduced: Vec::new(),
            position: Position::new(position),
            observation_id: ObservationId::new(observation_id),
            now,
            rows: Rows::default(),
        })
    }

    pub fn observe(&mut self, seen: Seen) -> anyhow::Result<()> {
        let email = seen.email.map(|n| EmailOf(n).to_string());
        let phone_number = seen.phone.map(|n| PhoneOf(n).to_string());
        self.observe_values(email.as_deref(), phone_number.as_deref())
    }

    /// As the recorder does it. What has neither an email nor a phone number is no observation.
    pub fn observe_values(
        &mut self,
        email: Option<&str>,
        phone_number: Option<&str>,
    ) -> anyhow::Result<()> {
        let email = email.map(Email::parse).transpose()?.flatten();
        let phone_number = phone_number.map(PhoneNumber::parse).transpose()?.flatten();
        let Some(identifiers) = Identifiers::new(email, phone_number) else { return Ok(()) };
        let salt = Salt(self.random.u128(..).to_be_bytes());
        self.observation_id = self.observation_id.next();
        self.now += TimeDelta::microseconds(100);
        let observation = Observation {
            id: self.observation_id,
            keys: self.rules.keys(&identifiers),
            commitment: Commitment::to(&identifiers, salt),
            identifiers,
        };
        self.rows.write_observation(&observation, self.position.next(), self.now, salt);
        let decision = resolve(&mut self.known, observation.id, &observation.keys);
        self.introduced.extend(decision.introduces().then_some(decision.contact_id));
        for fact in decision.facts(observation.commitment, None) {
            self.position = self.position.next();
            let event = Event { position: self.position, recorded_at: self.now, fact };
            self.known.apply(&event, &observation);
            self.rows.write_event(&event);
        }
        Ok(())
    }

    /// Takes the rows since the last time. Contacts are as they are now.
    pub fn take_rows(&mut self) -> Rows {
        let mut rows = std::mem::take(&mut self.rows);
        for id in self.introduced.drain(..) {
            rows.write_contact(self.known.contact(id));
        }
        rows.head = format!(
            "update head set position = {}, observation_id = {}, recorded_at = '{}'",
            self.position, self.observation_id, self.now
        );
        rows
    }

    /// Forgets all identities: what comes next must not share an identifier with them.
    pub fn begin_block(&mut self) {
        self.known = Identities::default();
    }
}

impl Rows {
    /// Copies everything in one transaction, the contacts into `contact_table`.
    pub async fn copy(&self, owner: &mut PgConnection, contact_table: &str) -> anyhow::Result<()> {
        execute(owner, "begin").await?;
        let event = "event (
            position, recorded_at, kind, contact_id, observation_id, primary_id, line
        )";
        copy(owner, event, &self.events).await?;
        let observation = "observation (id, position, observed_at, email, phone_number, salt)";
        copy(owner, observation, &self.observations).await?;
        let contact = format!(
            "{contact_table} (
                id, linked_id, created_at, updated_at, email, phone_number, email_key, phone_key
            )"
        );
        copy(owner, &contact, &self.contacts).await?;
        execute(owner, &self.head).await?;
        execute(owner, "commit").await
    }

    fn write_event(&mut self, event: &Event) {
        let fact = &event.fact;
        write_row(
            &mut self.events,
            &[
                &event.position,
                &event.recorded_at,
                &fact.kind(),
                &OrNull(fact.contact_id()),
                &OrNull(fact.observation_id()),
                &OrNull(fact.primary_id()),
                &event.line(),
            ],
        );
    }

    fn write_observation(&mut self, seen: &Observation, at: Position, now: Timestamp, salt: Salt) {
        let identifiers = &seen.identifiers;
        write_row(
            &mut self.observations,
            &[
                &seen.id,
                &at,
                &now,
                &OrNull(identifiers.email().map(Email::as_str)),
                &OrNull(identifiers.phone_number().map(PhoneNumber::as_str)),
                &format_args!("\\\\x{:032x}", u128::from_be_bytes(salt.0)),
            ],
        );
    }

    fn write_contact(&mut self, contact: &Contact) {
        write_row(
            &mut self.contacts,
            &[
                &contact.id,
                &OrNull(contact.linked_id()),
                &contact.created_at,
                &contact.updated_at,
                &OrNull(contact.email.as_ref().map(Email::as_str)),
                &OrNull(contact.phone_number.as_ref().map(PhoneNumber::as_str)),
                &OrNull(contact.email_key.as_ref().map(Key::as_str)),
                &OrNull(contact.phone_key.as_ref().map(Key::as_str)),
            ],
        );
    }
}

/// A value in the text format of COPY. Nothing that is made here has a character to escape.
struct OrNull<T>(Option<T>);

impl<T: Display> Display for OrNull<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(formatter),
            None => formatter.write_str("\\N"),
        }
    }
}

fn write_row(rows: &mut String, columns: &[&dyn Display]) {
    for (n, column) in columns.iter().enumerate() {
        let separator = if n > 0 { "\t" } else { "" };
        write!(rows, "{separator}{column}").expect("a string takes everything");
    }
    rows.push('\n');
}

async fn copy(owner: &mut PgConnection, table: &str, rows: &str) -> anyhow::Result<()> {
    let statement = format!("copy {table} from stdin");
    let mut sink = owner.copy_in_raw(&statement).await.context("cannot copy")?;
    sink.send(rows.as_bytes()).await?;
    sink.finish().await?;
    Ok(())
}
