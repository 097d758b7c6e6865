//! Ledger rows made in memory by the crate's own resolve and fold, to be copied in bulk.

use crate::postgres::execute;
use crate::traffic::{EmailOf, PhoneOf, Seen};
use anyhow::Context as _;
use chrono::TimeDelta;
use identity_ledger::identity::{
    Commitment, Contact, ContactId, Email, Event, Fact, Identifiers, Identities, Observation,
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
        self.rows.write_observation(&observation, self.position.next(), self.now, salt)?;
        for fact in resolve(&self.known, &observation) {
            self.position = self.position.next();
            let event = Event { position: self.position, recorded_at: self.now, fact };
            self.known.apply(&event, &observation);
            if let Fact::ContactObserved(observed) = &event.fact {
                self.introduced.extend(observed.introduced().then_some(observed.contact_id));
            }
            self.rows.write_event(&event)?;
        }
        Ok(())
    }

    /// Takes the rows since the last time. Contacts are as they are now.
    pub fn take_rows(&mut self) -> anyhow::Result<Rows> {
        let mut rows = std::mem::take(&mut self.rows);
        for id in self.introduced.drain(..) {
            rows.write_contact(self.known.contact(id))?;
        }
        rows.head = format!(
            "update head set position = {}, observation_id = {}, recorded_at = '{}'",
            self.position, self.observation_id, self.now
        );
        Ok(rows)
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

    fn write_event(&mut self, event: &Event) -> anyhow::Result<()> {
        let fact = &event.fact;
        write!(self.events, "{}\t{}\t{}\t", event.position, event.recorded_at, fact.kind())?;
        write!(self.events, "{}\t", Column(fact.contact_id()))?;
        write!(self.events, "{}\t", Column(fact.observation_id()))?;
        write!(self.events, "{}\t", Column(fact.primary_id()))?;
        writeln!(self.events, "{}", event.line())?;
        Ok(())
    }

    fn write_observation(
        &mut self,
        observation: &Observation,
        position: Position,
        now: Timestamp,
        salt: Salt,
    ) -> anyhow::Result<()> {
        let identifiers = &observation.identifiers;
        write!(self.observations, "{}\t{position}\t{now}\t", observation.id)?;
        write!(self.observations, "{}\t", Column(identifiers.email().map(Email::as_str)))?;
        let phone_number = identifiers.phone_number().map(PhoneNumber::as_str);
        write!(self.observations, "{}\t", Column(phone_number))?;
        writeln!(self.observations, "\\\\x{:032x}", u128::from_be_bytes(salt.0))?;
        Ok(())
    }

    fn write_contact(&mut self, contact: &Contact) -> anyhow::Result<()> {
        let rows = &mut self.contacts;
        write!(rows, "{}\t{}\t", contact.id, Column(contact.linked_id()))?;
        write!(rows, "{}\t{}\t", contact.created_at, contact.updated_at)?;
        write!(rows, "{}\t", Column(contact.email.as_ref().map(Email::as_str)))?;
        write!(rows, "{}\t", Column(contact.phone_number.as_ref().map(PhoneNumber::as_str)))?;
        write!(rows, "{}\t", Column(contact.email_key.as_ref().map(|key| key.as_str())))?;
        writeln!(rows, "{}", Column(contact.phone_key.as_ref().map(|key| key.as_str())))?;
        Ok(())
    }
}

/// A value in the text format of COPY. Nothing that is made here has a character to escape.
struct Column<T>(Option<T>);

impl<T: Display> Display for Column<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(formatter),
            None => formatter.write_str("\\N"),
        }
    }
}

async fn copy(owner: &mut PgConnection, table: &str, rows: &str) -> anyhow::Result<()> {
    let statement = format!("copy {table} from stdin");
    let mut sink = owner.copy_in_raw(&statement).await.context("cannot copy")?;
    sink.send(rows.as_bytes()).await?;
    sink.finish().await?;
    Ok(())
}
