//! The database's clock, known for a while without looking.

use crate::identity::Timestamp;
use chrono::SubsecRound as _;
use std::time::{Duration, Instant, SystemTime};

/// For how long the database's clock is known after it was asked for, as by each append, and nobody looks
/// whether others have written.
const CLOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// The database's clock, when it was read last.
pub struct Clock {
    read: Timestamp,
    at: Instant,
    asked: SystemTime,
}

impl Clock {
    /// It was asked for then, and the answer is there now. It was read in between: an append reads it
    /// before it writes and commits.
    pub fn reads(read: Timestamp, asked: SystemTime) -> Self {
        Self { read, at: Instant::now(), asked }
    }

    /// What it reads now, to the microsecond. None where it was asked for too long ago; a machine that
    /// slept meanwhile knows that by its own clock alone.
    pub fn now(&self) -> Option<Timestamp> {
        let since_asked = self.asked.elapsed().ok()?;
        let since = self.at.elapsed();
        let is_recent = since.max(since_asked) < CLOCK_WAIT_MAX;
        is_recent.then(|| (self.read + since).trunc_subsecs(6))
    }
}
