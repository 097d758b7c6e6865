//! The write path: one task that records all waiting observations in one commit.
//!
//! Promises: an answer is given when it is durable, and is the fold of exactly the events up to its
//! position, on one node or many; one request never fails its neighbours.
//! Never: keeps a request waiting for others while nothing is in flight or being read; never runs a
//! transaction in a handler.

mod absent;
mod append;
mod cache;
mod careful;
mod clock;
mod decide;
mod expire;
mod flight;
mod memory;
mod queue;
mod reading;
mod retry;
mod settle;
mod shared;
mod task;

pub use expire::expire;
pub use queue::{NotRecorded, Outcome, Recorded, Recorder};
pub use retry::RetryKey;
pub use task::start;
