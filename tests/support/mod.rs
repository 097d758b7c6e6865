//! A throwaway Postgres, a database a test, services as their users start them, and a model.

mod key;
mod model;
mod postgres;
mod service;
mod tokens;

pub use key::SigningKey;
pub use model::{Model, Seen, random_observations};
pub use postgres::{
    DEFAULT_FILE, EXACT_FILE, PHONES_ONLY, TestLedger, append_activation, files_dir, hold_head,
    is_waited_for, patient, postmaster, private_database, refusal, scratch_dir,
};
pub use service::{
    BINARY, CHECK_EXPORT, Contact, SERVE, Service, VARIABLES, command, command_of, ended, hashes,
    misuse, refuses, succeeds, told, until, until_async,
};
pub use tokens::Tokens;
