//! Flags.

pub mod list;
pub mod resolve;
