//! Outbox steps.

pub mod dismiss;
pub mod list;
pub mod retry;
