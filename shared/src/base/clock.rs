//! The only place that reads the wall clock; rules take `now` as an argument.

use std::fmt;
use std::str::FromStr;
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

/// The time that a developer moves on a local stack (docs/adr/0018-business-time.md). As text it is
/// one line: `ahead PT720H`, or `held 2027-06-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusinessTime {
    /// It runs, this far ahead of the machine's time.
    Ahead(SignedDuration),
    /// It shows this instant until it is moved.
    Held(Timestamp),
}

impl BusinessTime {
    /// The machine's time, which nothing has moved.
    pub const UNMOVED: Self = Self::Ahead(SignedDuration::ZERO);

    /// What it shows.
    #[must_use]
    pub fn now(self) -> Timestamp {
        match self {
            Self::Ahead(ahead) => Clock::system().now() + ahead,
            Self::Held(now) => now,
        }
    }

    /// The time that runs on from what this shows.
    #[must_use]
    pub fn released(self) -> Self {
        Self::Ahead(self.now().duration_since(Clock::system().now()))
    }
}

impl fmt::Display for BusinessTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(ahead) => write!(f, "ahead {ahead}"),
            Self::Held(now) => write!(f, "held {now}"),
        }
    }
}

impl FromStr for BusinessTime {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        match text.trim().split_once(' ') {
            Some(("ahead", ahead)) => ahead.parse().map(Self::Ahead),
            Some(("held", now)) => now.parse().map(Self::Held),
            _ => Err(jiff::Error::from_args(format_args!("no business time: {text:?}"))),
        }
    }
}
