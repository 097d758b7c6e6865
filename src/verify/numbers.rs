//! Checks the numbers of observations.

use super::mismatch::Mismatch;
use crate::identity::{Event, Fact};

/// They count up without gaps, except that an accepted loss skips as many numbers as positions,
/// since each observation has a position of its own.
#[derive(Default)]
pub struct Numbers {
    /// How many observations there were.
    pub len: i64,
    /// The last number that was given.
    pub last_given: i64,
    /// The last number that was given, or skipped.
    last: i64,
    last_position: i64,
}

impl Numbers {
    /// Checks the next event, whatever its kind.
    pub fn check(&mut self, event: &Event) -> Result<(), Mismatch> {
        let position = event.position.get();
        match &event.fact {
            Fact::ContactObserved(observed) => {
                self.last += 1;
                self.len += 1;
                check_number(event, self.last, observed.observation_id.get())?;
                self.last_given = self.last;
            }
            Fact::LedgerRestored(restored) => {
                self.last += position - self.last_position - 1;
                check_number(event, self.last + 1, restored.next_observation_id.get())?;
            }
            _ => {}
        }
        self.last_position = position;
        Ok(())
    }
}

fn check_number(event: &Event, expected: i64, found: i64) -> Result<(), Mismatch> {
    let number = |number: i64| format!("number {number}");
    match expected == found {
        true => Ok(()),
        false => Err(Mismatch::at(event.position, "observation", number(expected), number(found))),
    }
}
