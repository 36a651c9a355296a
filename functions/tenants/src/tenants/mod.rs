//! Tenants.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod erase;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod update;
