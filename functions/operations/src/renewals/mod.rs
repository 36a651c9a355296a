//! The hourly run: what it will do, what it did, and an operator's approval of a stopped one.

pub(crate) mod breaker;
pub(crate) mod forecast;
pub(crate) mod get_breaker;
pub(crate) mod get_run;
pub(crate) mod run;
pub(crate) mod runs;
