//! Answers what was known of some observations at a position.

use super::auditor::Auditor;
use crate::identity::{
    Answer, ContactId, Event, Fact, Identifiers, ObservationId, Past, Position, Rules,
    RulesActivated, Timestamp, fold,
};
use crate::ledger::{self, ThisVersion, Unanswered};
use chrono::Datelike as _;
use sqlx::{query_file, query_file_as};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

/// How many observations that brought nothing new are read to explain a link.
const REPEATS_LEN_MAX: i64 = 100_000;

/// The years that RFC 3339 can write, except 0, which Postgres does not have.
const YEARS: RangeInclusive<i32> = 1..=9999;

/// The moment that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Position(Position),
    /// Means the last position whose event was not recorded after this time.
    Time(Timestamp),
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected a position, or a time such as 2026-11-01T12:00:00Z";
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let position = text.parse().map_err(|_| expected)?;
            return Ok(Self::Position(Position::new(position)));
        }
        // Chrono reads other years, too, but Postgres refuses them.
        let time: Option<Timestamp> = text.parse().ok();
        time.filter(|time| YEARS.contains(&time.year())).map(Self::Time).ok_or(expected)
    }
}

/// Some observations as they were at a position, and everything that had led to that.
pub struct Excerpt {
    pub past: Past,
    pub observed: BTreeMap<ObservationId, Observed>,
    /// The rules that had been activated, in order, with their positions.
    pub activated: Vec<(Position, RulesActivated)>,
}

/// An observation as it was recorded.
pub struct Observed {
    pub position: Position,
    pub recorded_at: Timestamp,
    /// `None` if they were erased since.
    pub identifiers: Option<Identifiers>,
}

struct Row {
    position: i64,
    line: String,
    email: Option<String>,
    phone_number: Option<String>,
}

impl Auditor {
    /// The position that a moment means. `None` if it is beyond the head, or in the future.
    pub async fn position_at(&self, moment: Moment) -> Result<Option<Position>, Unanswered> {
        match moment {
            Moment::Position(position) => {
                let head = self.position().await?;
                Ok(Some(position).filter(|position| *position <= head))
            }
            Moment::Time(time) => {
                let found = query_file!("src/audit/moment.sql", time).fetch_one(&self.pool).await?;
                Ok((!found.is_to_come).then_some(Position::new(found.position)))
            }
        }
    }

    /// The identity that an observation belonged to at a position that the ledger has reached, as
    /// it would have been answered then. `None` if the number had not been given yet.
    pub async fn identity_at(
        &self,
        id: ObservationId,
        position: Position,
    ) -> Result<Option<Answer>, Unanswered> {
        let known = self.known_at(&[id], position, false).await?;
        let Some(primary) = known.past.primary_of(id) else { return Ok(None) };
        let rules = self.rules_of(known.rules_at(position)?).await?;
        let observed = |contact: ContactId| known.identifiers(contact.into());
        Ok(Some(known.past.answer(primary, &rules, observed)))
    }

    /// What was known, at a position that the ledger has reached, of these observations and of all
    /// contacts that were linked to theirs. `with_repeats` adds the observations that brought nothing
    /// new.
    pub(super) async fn known_at(
        &self,
        ids: &[ObservationId],
        position: Position,
        with_repeats: bool,
    ) -> Result<Excerpt, Unanswered> {
        let ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
        let rows = query_file_as!(
            Row,
            "src/audit/past.sql",
            &ids,
            position.get(),
            with_repeats,
            REPEATS_LEN_MAX
        );
        let mut known =
            Excerpt { past: Past::default(), observed: BTreeMap::new(), activated: Vec::new() };
        for row in rows.fetch_all(&self.pool).await? {
            known.learn(&row)?;
        }
        Ok(known)
    }

    /// The recorded rules of an activation.
    pub(super) async fn rules_of(
        &self,
        activated: &RulesActivated,
    ) -> Result<Arc<Rules>, Unanswered> {
        let digest = &activated.digest;
        if let Some(rules) = self.rules.lock().get(digest) {
            return Ok(rules.clone());
        }
        let rules = Arc::new(ledger::rules_to_show(&self.pool, digest).await?);
        self.rules.lock().insert(digest.clone(), rules.clone());
        Ok(rules)
    }
}

impl Excerpt {
    /// The rules that were in force at a position.
    pub fn rules_at(&self, position: Position) -> Result<&RulesActivated, Unanswered> {
        last_up_to(&self.activated, position)
            .ok_or_else(|| Unanswered::Unreadable(format!("no rules were in force at {position}")))
    }

    pub fn identifiers(&self, id: ObservationId) -> Option<&Identifiers> {
        self.observed.get(&id)?.identifiers.as_ref()
    }

    fn learn(&mut self, row: &Row) -> Result<(), Unanswered> {
        let event = read_event(Position::new(row.position), &row.line)?;
        self.past.apply(fold(&event.fact));
        match event.fact {
            Fact::RulesActivated(activated) => self.activated.push((event.position, activated)),
            Fact::ContactObserved(observed) => {
                let identifiers =
                    Identifiers::recorded(row.email.as_deref(), row.phone_number.as_deref());
                let (position, recorded_at) = (event.position, event.recorded_at);
                let as_recorded = Observed { position, recorded_at, identifiers };
                self.observed.insert(observed.observation_id, as_recorded);
            }
            _ => {}
        }
        Ok(())
    }
}

/// The last of what came at a position up to a given one. All are in order.
pub(super) fn last_up_to<T>(all: &[(Position, T)], position: Position) -> Option<&T> {
    let len = all.partition_point(|(at, _)| *at <= position);
    all[..len].last().map(|(_, last)| last)
}

pub(super) fn read_event(position: Position, line: &str) -> Result<Event, Unanswered> {
    Event::parse(line).map_err(|_| unreadable(position))
}

pub(super) fn unreadable(position: Position) -> Unanswered {
    Unanswered::Unreadable(format!("event {position}"))
}
