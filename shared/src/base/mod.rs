//! What everything else is made of: errors, ids, time, field types, pages and versions. It knows
//! nothing of this product but its words.

pub mod caller;
pub mod clock;
pub mod error;
pub mod fault;
pub mod fields;
pub mod ids;
pub mod paging;
pub mod sql;
pub mod version;
