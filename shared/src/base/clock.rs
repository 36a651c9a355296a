//! The only place that reads the wall clock; rules take `now` as an argument.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// A source of the current time, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place")]
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that a test sets.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// This instant in UTC, cut to microseconds as `PostgreSQL` stores it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = (self.0)();
        now - SignedDuration::from_nanos(i64::from(now.subsec_nanosecond() % 1_000))
    }
}
