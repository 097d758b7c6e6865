//! Ledger rows made in memory by the crate's own resolve and fold, to be copied in bulk.

use crate::postgres::execute;
use crate::traffic::{EmailOf, PhoneOf, Seen};
use anyhow::Context as _;
use chrono::TimeDelta;
use identity_ledger::identity::{
    Commitment, Contact, ContactId, Email, Event, Identifiers, Identities, Key, ObservationId,
    PhoneNumber, Position, Rules, Salt, Timestamp, resolve,
};
use identity_ledger::ledger;
use sqlx::{PgConnection, query_as};

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
        let (id, at) = (self.observation_id, self.position.next());
        self.rows.write_observation(id, &identifiers, at, self.now, salt);
        let keys = self.rules.keys(&identifiers);
        let decision = resolve(&mut self.known, id, &keys);
        self.introduced.extend(decision.introduces().then_some(decision.contact_id));
        for fact in decision.facts(Commitment::to(&identifiers, salt), None) {
            self.position = self.position.next();
            let event = Event { position: self.position, recorded_at: self.now, fact };
            self.known.apply(&event, &identifiers, &keys);
            ledger::write_event(&mut self.rows.events, &event);
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
                id, linked_id, link_precedence, created_at, updated_at, email, phone_number, email_key,
                phone_key
            )"
        );
        copy(owner, &contact, &self.contacts).await?;
        execute(owner, &self.head).await?;
        execute(owner, "commit").await
    }

    fn write_observation(
        &mut self,
        id: ObservationId,
        identifiers: &Identifiers,
        at: Position,
        now: Timestamp,
        salt: Salt,
    ) {
        let columns = [
            Some(id.to_string()),
            Some(at.to_string()),
            Some(now.to_string()),
            identifiers.email().map(Email::as_str).map(str::to_owned),
            identifiers.phone_number().map(PhoneNumber::as_str).map(str::to_owned),
            Some(format!("\\x{:032x}", u128::from_be_bytes(salt.0))),
        ];
        ledger::write_copied_row(&mut self.observations, &columns);
    }

    fn write_contact(&mut self, contact: &Contact) {
        let columns = [
            Some(contact.id.to_string()),
            contact.linked_id().map(|id| id.to_string()),
            Some(contact.link_precedence().to_owned()),
            Some(contact.created_at.to_string()),
            Some(contact.updated_at.to_string()),
            contact.email.as_ref().map(Email::as_str).map(str::to_owned),
            contact.phone_number.as_ref().map(PhoneNumber::as_str).map(str::to_owned),
            contact.email_key.as_ref().map(Key::as_str).map(str::to_owned),
            contact.phone_key.as_ref().map(Key::as_str).map(str::to_owned),
        ];
        ledger::write_copied_row(&mut self.contacts, &columns);
    }
}

async fn copy(owner: &mut PgConnection, table: &str, rows: &str) -> anyhow::Result<()> {
    let statement = format!("copy {table} from stdin");
    let mut sink = owner.copy_in_raw(&statement).await.context("cannot copy")?;
    sink.send(rows.as_bytes()).await?;
    sink.finish().await?;
    Ok(())
}
