//! Reads events page after page: to the end of the ledger, or on from there as they come.

use super::auditor::{Auditor, EventPage};
use crate::identity::Position;
use crate::ledger::{EventFilter, EventRow, Fault};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

/// In events.
const PAGE_LEN: i64 = 1_000;
/// How long a live feed waits before it looks for new events again.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads on from a position. Each page is one short statement, and none is read before it is
/// asked for.
pub struct Feed {
    auditor: Auditor,
    position: Position,
    wanted: EventFilter,
    _place: OwnedSemaphorePermit,
}

impl Auditor {
    /// The wanted events after a position, page after page. `None` while there are too many feeds.
    pub fn feed(&self, after: Position, wanted: EventFilter) -> Option<Feed> {
        let _place = self.feeds.clone().try_acquire_owned().ok()?;
        Some(Feed { auditor: self.clone(), position: after, wanted, _place })
    }
}

impl Feed {
    /// All wanted events up to here have been returned.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns the next events up to a position that the ledger has reached. May return none before
    /// `position` has come to it.
    pub async fn next(&mut self, up_to: Position) -> Result<Vec<EventRow>, Fault> {
        let page = self.auditor.events(self.position, up_to, &self.wanted, PAGE_LEN);
        let EventPage { events, through } = page.await?;
        self.position = through;
        Ok(events)
    }

    /// Waits until there is at least one wanted event, and returns the next ones. May be cancelled and
    /// called again.
    pub async fn next_live(&mut self) -> Result<Vec<EventRow>, Fault> {
        loop {
            let head = self.auditor.recent_position().await?;
            while self.position < head {
                let events = self.next(head).await?;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            sleep(PAUSE).await;
        }
    }
}
