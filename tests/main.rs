//! Everything that needs a real Postgres, a real service, or both.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod support;

mod absent_keys;
mod access;
mod backup;
mod commands;
mod crashes;
mod erasure;
mod export;
mod faults;
mod feed;
mod http;
mod identify;
mod ledger;
mod lookup;
mod plans;
mod private_postgres;
mod readme;
mod rebuild;
mod replay;
mod restore;
mod retries;
mod rules;
mod seal;
mod tampering;
mod tls;
mod traces;
mod two_nodes;
mod upgrade;
