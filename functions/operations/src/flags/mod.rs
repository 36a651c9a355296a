//! Flags.

pub(crate) mod list;
pub(crate) mod resolve;
