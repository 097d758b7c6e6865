//! An event-sourced identity ledger on Postgres. Start reading at ARCHITECTURE.md.

pub mod http;
pub mod identity;
pub mod metrics;
pub mod projection;
pub mod recorder;
