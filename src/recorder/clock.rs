//! The database's clock, estimated for a while without asking.

use crate::identity::Timestamp;
use chrono::SubsecRound as _;
use std::time::{Duration, Instant, SystemTime};

/// For how long the database's clock is estimated after it was asked for, as each append does. Meanwhile
/// the recorder does not look whether other nodes have written.
const CLOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// The last time that was read from the database's clock.
pub struct Clock {
    read: Timestamp,
    /// When the answer came.
    at: Instant,
    /// When it was asked for.
    asked: SystemTime,
}

impl Clock {
    /// The clock was asked for at `asked`, and the answer has come now. It was read in between: an append
    /// reads it before it writes and commits.
    pub fn reads(read: Timestamp, asked: SystemTime) -> Self {
        Self { read, at: Instant::now(), asked }
    }

    /// What the clock shows now, to the microsecond, or somewhat less. `None` if it was asked for
    /// too long ago. If this machine slept meanwhile, only its system time tells.
    pub fn now(&self) -> Option<Timestamp> {
        let since_asked = self.asked.elapsed().ok()?;
        let since = self.at.elapsed();
        let is_recent = since.max(since_asked) < CLOCK_WAIT_MAX;
        is_recent.then(|| (self.read + since).trunc_subsecs(6))
    }
}
