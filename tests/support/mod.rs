//! A throwaway Postgres, a database a test, services as their users start them, and a model.

mod key;
mod model;
mod postgres;
mod service;
mod tokens;

pub use key::SigningKey;
pub use model::{Model, Seen, random_observations};
pub use postgres::{PHONES_ONLY, TestLedger, hold_head, patient, postmaster, scratch_dir};
pub use service::{
    BINARY, Contact, Service, VARIABLES, command, command_of, ended, misuse, refuses, succeeds,
    told, until, until_async,
};
pub use tokens::Tokens;
