//! The hourly run: what it will do, what it did, and an operator's word to it.

pub mod breaker;
pub mod forecast;
pub mod run;
pub mod runs;
