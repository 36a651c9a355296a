//! The hourly run.

pub mod breaker;
pub mod runs;
