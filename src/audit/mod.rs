//! For auditors: the events in order, and whether they still say what the contact table says.
//!
//! Promises: a reader of the feed skips and repeats no position; every answer holds at one
//! position; the cost of a question grows with what it is about, not with the ledger.
//! Never: changes anything, or holds a transaction open while a client reads.

mod auditor;
mod feed;
mod history;
mod past;
mod verify;
mod why;

pub use auditor::{Auditor, EventPage};
pub use feed::Feed;
pub use history::Happened;
pub use past::{Moment, Observed};
pub use verify::{Verified, verify};
pub use why::{Outcome, Why};
