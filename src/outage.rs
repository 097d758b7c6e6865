//! Trouble that lasts: it is told once when it begins and once when it ends.

/// The state of something that is tried again and again.
#[derive(Default)]
pub struct Outage {
    is_on: bool,
}

impl Outage {
    /// Notes a failure. Returns whether it is the first since all was well.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.is_on, true)
    }

    /// Notes a success. Returns whether it is the first since a failure.
    pub fn ends(&mut self) -> bool {
        std::mem::take(&mut self.is_on)
    }
}
