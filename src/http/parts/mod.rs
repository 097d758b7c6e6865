//! What several routes share: how a request is read, how a question is asked of Postgres, how an answer or a
//! problem is written.

pub mod answer;
pub mod body;
pub mod entry;
pub mod event;
pub mod idempotency;
pub mod json;
pub mod moment;
pub mod number;
pub mod paging;
pub mod parameters;
pub mod problem;
pub mod question;
pub mod rule_set;
pub mod schema;
pub mod shared;
