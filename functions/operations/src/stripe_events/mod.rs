//! Stripe's events.

pub mod backfill;
pub mod dismiss;
pub mod get;
pub mod list;
pub mod replay;
