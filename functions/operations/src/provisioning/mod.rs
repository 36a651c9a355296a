//! Outbox steps.

pub(crate) mod dismiss;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod retry;
