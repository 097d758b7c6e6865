//! For auditors: the events in order, what they said at any moment, and whether they still are what
//! was signed and what is served.
//!
//! Promises: a reader of the feed skips and repeats no position; every answer holds at one
//! position; the cost of a question grows with what it is about, not with the ledger.
//! Never: changes anything, or holds a transaction open while a client reads.

mod activated;
mod auditor;
mod commitments;
mod decisions;
mod difference;
mod edges;
mod feed;
mod folder;
mod history;
mod lines;
mod numbers;
mod page;
mod past;
mod rule_change;
mod tree;
mod verify;
mod walk;
mod why;

#[cfg(test)]
mod decision_tests;

pub use auditor::{Auditor, EventPage};
pub use difference::Difference;
pub use feed::Feed;
pub use folder::{VerifiedFolder, verify_folder};
pub use history::Happened;
pub use past::{Moment, Observed};
pub use verify::{Verified, verify, verify_with};
pub use walk::{Trust, Walked};
pub use why::{LinkingRules, Relation, Why};
