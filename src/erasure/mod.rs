//! Shows what is held about an identity, and erases it. docs/personal-data.md says what is left.
//!
//! Promises: an identity is erased as a whole, in one transaction, or not at all; each erasure is
//! one event, of numbers and a code.
//! Never: changes an event, takes a single value from an identity, or runs while all observations
//! are being read.

mod erase;
mod eraser;
mod held;
mod sweep;

pub use erase::{Erased, NotErased, erase};
pub use eraser::Eraser;
pub use held::{Held, HeldContact, HeldObservation, held};
pub use sweep::{Swept, is_due, sweep};
