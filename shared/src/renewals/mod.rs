//! The hourly run (docs/renewals.md).

pub mod desk;
