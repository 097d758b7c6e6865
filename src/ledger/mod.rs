//! What is remembered: the append-only tables of one ledger, in one Postgres schema.
//!
//! Promises: positions are in commit order, without gaps except where a loss was accepted; what is
//! written stays as it is.
//! Never: decides anything; updates or deletes an event.

mod append;
mod copy_in;
mod copy_out;
mod database;
mod erasures;
mod events;
mod fault;
mod gaps;
mod head;
mod in_time;
mod locks;
mod name;
mod open;
mod pages;
mod rights;
mod rules;
mod schema;

pub use append::{append_event, append_events, lock_to_append, write_event};
pub use copy_in::write_copied_row;
pub use copy_out::{CopiedRow, CopiedRows, copy_events, copy_out};
pub use database::Database;
pub use erasures::erasures;
pub use events::{EventColumns, EventFilter, EventRow, events_between, line_at};
pub use fault::{Damaged, Fault, Unanswered, failed_statement, is_lock_timeout};
pub use gaps::gaps;
pub use head::{last_observation, position};
pub use in_time::in_time;
pub use locks::{
    LOCK_CATALOG_IN, OUTWAIT_AUTOVACUUM, block_erasures, lock_erasures, release_all,
    try_lock_rebuild, try_lock_sealer, who_blocks_erasures,
};
pub use name::LedgerName;
pub use open::{
    check, check_exists, check_head, check_writable, connect, create_schema, exists,
    grant_to_service, is_there, open,
};
pub use pages::{EventLine, ObservationRow, Paged, Pages, is_served, observations};
pub use rights::check_rights;
pub use rules::{
    Activation, RulesFault, activations, can_keep, has_namesake, keep_rules, last_activation,
    read_rules, rules_documents, rules_in_force, rules_to_decide_by, rules_to_show,
};
pub use schema::{OtherVersion, ThisVersion, schema_version};
