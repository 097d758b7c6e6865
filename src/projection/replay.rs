//! Folds the whole ledger again from its first event, page by page.

use crate::identity::{
    Change, ContactId, Event, Fact, Links, Position, RulesDigest, Timestamp, fold,
};
use crate::ledger::{self, Database, EventLine, Paged as _, Pages};
use crate::progress::Progress;
use anyhow::{anyhow, ensure};
use sqlx::PgConnection;

/// What the events up to a position fold into.
#[derive(Default)]
pub struct Replay {
    pub links: Links,
    pub events_len: i64,
    /// The position of the last event that was folded.
    pub position: Position,
    /// The time of that event.
    pub recorded_at: Timestamp,
    /// The digest of the last rules that were activated.
    pub rules_digest: Option<RulesDigest>,
}

impl Replay {
    /// Folds all events that are in the ledger now.
    pub async fn whole(database: &Database, progress: &mut Progress) -> anyhow::Result<Self> {
        let head = ledger::position(&mut database.owner().await?).await?;
        Self::up_to(database, head, progress).await
    }

    /// Folds all events up to a position that the ledger has reached.
    pub async fn up_to(
        database: &Database,
        head: Position,
        progress: &mut Progress,
    ) -> anyhow::Result<Self> {
        let observations_len = ledger::last_observation(&mut database.owner().await?).await?.get();
        let links = Links::with_capacity(usize::try_from(observations_len)?);
        let mut replay = Self { links, ..Self::default() };
        let mut pages = Pages::<EventLine>::between(database, 0, head.get());
        progress.begin("folding events", head.get());
        while let Some(page) = pages.next().await? {
            replay.fold(page)?;
            progress.at(replay.position.get());
        }
        replay.has_reached(head)?;
        Ok(replay)
    }

    /// Folds the next events, up to a position that the ledger has reached. Returns the contacts
    /// that they change.
    pub async fn catch_up(
        &mut self,
        connection: &mut PgConnection,
        up_to: Position,
    ) -> anyhow::Result<Vec<ContactId>> {
        let mut changed = Vec::new();
        while self.position < up_to {
            let (after, last) = (self.position.get(), up_to.get());
            let page = EventLine::page(&mut *connection, after, last).await?;
            if page.is_empty() {
                break;
            }
            changed.extend(self.fold(page)?);
        }
        self.has_reached(up_to)?;
        Ok(changed)
    }

    fn fold(&mut self, lines: Vec<EventLine>) -> anyhow::Result<Vec<ContactId>> {
        let mut changed = Vec::new();
        for EventLine { position, line } in lines {
            let expected = self.position.next();
            let event =
                Event::parse(&line).map_err(|error| anyhow!("event {expected} is {error}"))?;
            ensure!(event.position.get() == position && self.is_next(&event), missing(expected));
            ensure!(
                self.can_take(&event),
                "event {expected} contradicts those before it; run identity-ledger verify"
            );
            changed.extend(self.apply(&event));
        }
        Ok(changed)
    }

    /// Whether an event has the next position. There are no gaps except before an accepted loss,
    /// which says how many events came before it.
    fn is_next(&self, event: &Event) -> bool {
        match &event.fact {
            Fact::LedgerRestored(restored) => {
                restored.new_size == self.events_len && event.position > self.position
            }
            _ => event.position == self.position.next(),
        }
    }

    /// Whether an event can follow those before it.
    pub fn can_take(&self, event: &Event) -> bool {
        let change = fold(&event.fact);
        // There are no more observations than positions, skipped ones included.
        let is_bounded =
            !matches!(change, Change::Skipped { next } if next.get() > event.position.get());
        is_bounded && self.links.can_take(change)
    }

    /// Folds the next event, which `can_take` allows, and returns the contact that it changes.
    pub fn apply(&mut self, event: &Event) -> Option<ContactId> {
        let change = fold(&event.fact);
        self.links.apply(change, event.recorded_at);
        (self.position, self.recorded_at) = (event.position, event.recorded_at);
        self.events_len += 1;
        if let Fact::RulesActivated(activated) = &event.fact {
            self.rules_digest = Some(activated.digest.clone());
        }
        change.contact()
    }

    fn has_reached(&self, position: Position) -> anyhow::Result<()> {
        ensure!(self.position == position, missing(self.position.next()));
        Ok(())
    }
}

fn missing(position: Position) -> String {
    format!("event {position} is missing; run identity-ledger verify")
}
