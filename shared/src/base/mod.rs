//! What everything else is made of: errors, ids, time, field types, pages and versions. It knows
//! the names of this product's things, and none of its rules.

pub mod caller;
pub mod clock;
pub mod codes;
pub mod error;
pub mod fault;
pub mod fields;
pub mod ids;
pub mod paging;
pub mod sql;
pub mod version;
