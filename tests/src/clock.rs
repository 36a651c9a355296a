//! The clock of a [`World`](crate::World), which a test moves.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use shared::base::clock::{BusinessTime, Clock};

/// Shows the real time until a test moves it. Clones are the same clock.
#[derive(Clone)]
pub struct TestClock(Arc<Mutex<BusinessTime>>);

impl TestClock {
    /// One that shows the real time.
    #[must_use]
    pub fn real() -> Self {
        Self(Arc::new(Mutex::new(BusinessTime::UNMOVED)))
    }

    /// One that is stopped at this instant.
    #[must_use]
    pub fn stopped_at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(BusinessTime::Held(now))))
    }

    /// The clock that functions are started with: it always shows what this one shows.
    #[must_use]
    pub fn reader(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || clock.now())
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now()
    }

    /// Stops it at this instant.
    pub fn stop_at(&self, now: Timestamp) {
        self.put(BusinessTime::Held(now));
    }

    /// Lets it run from this instant on.
    pub fn run_from(&self, now: Timestamp) {
        self.put(BusinessTime::Held(now).released());
    }

    /// Lets it run so many seconds ahead of the real time.
    pub fn run_ahead(&self, seconds: i64) {
        self.put(BusinessTime::Ahead(SignedDuration::from_secs(seconds)));
    }

    /// Moves it forward by so many seconds, and returns what it shows then.
    pub fn pass(&self, seconds: i64) -> Timestamp {
        let by = SignedDuration::from_secs(seconds);
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = match *time {
            BusinessTime::Ahead(ahead) => BusinessTime::Ahead(ahead + by),
            BusinessTime::Held(now) => BusinessTime::Held(now + by),
        };
        time.now()
    }

    fn put(&self, time: BusinessTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }
}
