//! A customer's own tenant.

pub mod get;
pub mod update;
