//! Connections, and what is done around each request whatever it asks: limits of time and size, checks of its
//! head and its token, measuring.
//!
//! Promises: a client that sends or takes slowly is waited for only so long; a request under way is answered
//! before the service stops. Never: what a route answers.

pub mod answering;
pub mod around;
mod connection;
pub mod guard;
pub mod head;
pub mod measure;
pub mod noted;
pub mod serve;
pub mod tls;
mod unread;
