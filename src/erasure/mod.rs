//! What is held on a person, and how it is forgotten. docs/personal-data.md says what is left.
//!
//! Promises: an identity is forgotten as a whole, in one transaction, or not at all; each erasure
//! is one event, of numbers and a code.
//! Never: changes an event, takes one value away from an identity that lives on, or runs beside
//! what reads all observations.

mod erase;
mod eraser;
mod held;
mod sweep;

pub use erase::{Erased, NotErased, erase};
pub use eraser::Eraser;
pub use held::{Held, HeldContact, HeldObservation, held};
pub use sweep::{Swept, is_due, sweep};
