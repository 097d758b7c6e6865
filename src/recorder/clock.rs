//! The database's clock, known for a while without looking.

use crate::identity::Timestamp;
use chrono::SubsecRound as _;
use std::time::{Duration, Instant, SystemTime};

/// For how long the database's clock is known after it was read, as with each append, and nobody looks
/// whether others have written.
const CLOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// The database's clock, when it was read last.
pub struct Clock {
    read: Timestamp,
    at: Instant,
    wall: SystemTime,
}

impl Clock {
    pub fn reads(read: Timestamp) -> Self {
        Self { read, at: Instant::now(), wall: SystemTime::now() }
    }

    /// What it reads now, to the microsecond. None where it was read too long ago; a machine that
    /// slept meanwhile knows that by its own clock alone.
    pub fn now(&self) -> Option<Timestamp> {
        let slept = self.wall.elapsed().ok()?;
        let since = self.at.elapsed();
        let is_recent = since.max(slept) < CLOCK_WAIT_MAX;
        is_recent.then(|| (self.read + since).trunc_subsecs(6))
    }
}
