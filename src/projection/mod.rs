//! The contact table, which answers come from. It is folded from the events.
//!
//! Promises: the table is always what a full replay would make it; it can be thrown away and folded
//! again.
//! Never: holds anything that is not in the ledger and its observations.

mod keys;
mod load;
mod reader;
mod replay;
mod resolved;
mod table;

pub use keys::{KeysHeld, KeysPage, keys_after};
pub use load::{Head, Snapshot, held, key, load, unlinked};
pub use reader::{Found, LookedUp, Reader, identity};
pub use replay::Replay;
pub use resolved::{resolve_page, resolved};
pub use table::{
    analyze_next, check_definition, check_replaceable, create_first, create_next, drop_next,
    exists, index_next, swap_in_next,
};
