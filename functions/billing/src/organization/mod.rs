//! A customer's own tenant.

pub(crate) mod get;
pub(crate) mod update;
