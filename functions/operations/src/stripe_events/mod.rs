//! Stripe's events.

pub(crate) mod backfill;
pub(crate) mod dismiss;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod replay;
