//! How many requests a token is good for in a second.

use parking_lot::Mutex;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// So many requests a second, all of them at once after a second of silence: the generic cell rate
/// algorithm (ITU-T I.371). These few lines replace a crate that brings thirteen others.
pub struct Limit {
    pub per_second: NonZeroU32,
    /// When all requests so far are paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl Limit {
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, paid_at: Mutex::default() }
    }

    /// Takes one request, or says how long to wait until there is room for it.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut paid_at = self.paid_at.lock();
        let from = paid_at.map_or(now, |at| at.max(now));
        let to = from + SECOND / self.per_second.get();
        match to.duration_since(now).checked_sub(SECOND) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *paid_at = Some(to);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_room_for_so_many_requests_and_no_more() {
        let limit = Limit::new(NonZeroU32::new(4).unwrap());
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        assert!((0..4).all(|_| limit.take(begun).is_ok()));
        assert_eq!(limit.take(begun), Err(Duration::from_millis(250)));
        assert_eq!(limit.take(at(100)), Err(Duration::from_millis(150)));
        assert_eq!(limit.take(at(250)), Ok(()));
        assert!(limit.take(at(250)).is_err());
        let later = (10_000..11_000).filter(|ms| limit.take(at(*ms)).is_ok()).count();
        assert_eq!(later, 4 + 3, "those of a silent second, and then one each 250 ms");
    }
}
