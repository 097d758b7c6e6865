//! An event-sourced identity ledger on Postgres. Start reading at ARCHITECTURE.md.

pub mod access;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod erasure;
pub mod export;
mod files;
pub mod http;
pub mod identity;
pub mod ledger;
pub mod metrics;
mod outage;
pub mod postgres;
mod progress;
pub mod projection;
pub mod rebuild;
pub mod recorder;
pub mod seal;
mod threads;
pub mod verify;
