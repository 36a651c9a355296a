//! The hourly run: what it will do, what it did, and an operator's approval of a stopped one.

pub mod breaker;
pub mod forecast;
pub mod run;
pub mod runs;
