//! What auditors ask: the events in order, and what was known of an identity at any moment, and why.
//!
//! Promises: a reader of the feed skips and repeats no position; every answer holds at one
//! position; the cost of a question grows with what it is about, not with the ledger.
//! Never: changes anything, or holds a transaction open while a client reads.

mod auditor;
mod feed;
mod history;
mod past;
mod why;

pub use auditor::{Auditor, EventPage};
pub use feed::Feed;
pub use history::Happened;
pub use past::{Moment, Observed};
pub use why::{LinkingRules, Relation, Why};
