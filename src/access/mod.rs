//! Who may ask: the tokens, their roles and limits, and the record of who read personal data.
//!
//! Promises: a token is known only by its hash, and compared in constant time; a tokens file that
//! cannot be read changes nothing; a read waits for no record of it, and one that is lost is
//! counted.
//! Never: a token in a log, an error, a metric or a table; a value that someone asked by.

mod gate;
mod limit;
mod reads;
mod role;
mod token;
mod tokens_file;

pub use gate::{Gate, Holder, Refused};
pub use reads::{Read, ReadLog, ReadRow, reads};
pub use role::Role;
pub use token::Token;
pub use tokens_file::{TokenLines, check_free};
