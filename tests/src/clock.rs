//! The clock of a [`World`](crate::World), which a test moves.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use shared::base::clock::Clock;

/// Shows the real time until a test moves it. Clones are the same clock.
#[derive(Clone)]
pub struct TestClock(Arc<Mutex<Time>>);

#[derive(Clone, Copy)]
enum Time {
    /// It runs, this far ahead of the real time.
    Running(SignedDuration),
    /// It shows this instant until it is moved.
    Stopped(Timestamp),
}

impl TestClock {
    /// One that shows the real time.
    #[must_use]
    pub fn real() -> Self {
        Self(Arc::new(Mutex::new(Time::Running(SignedDuration::ZERO))))
    }

    /// One that is stopped at this instant.
    #[must_use]
    pub fn stopped_at(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Time::Stopped(now))))
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
        let time = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match time {
            Time::Running(ahead) => Clock::system().now() + ahead,
            Time::Stopped(now) => now,
        }
    }

    /// Stops it at this instant.
    pub fn stop_at(&self, now: Timestamp) {
        self.put(Time::Stopped(now));
    }

    /// Lets it run from this instant on.
    pub fn run_from(&self, now: Timestamp) {
        self.put(Time::Running(now.duration_since(Clock::system().now())));
    }

    /// Lets it run so many seconds ahead of the real time.
    pub fn run_ahead(&self, seconds: i64) {
        self.put(Time::Running(SignedDuration::from_secs(seconds)));
    }

    /// Moves it forward by so many seconds, and returns what it shows then.
    pub fn pass(&self, seconds: i64) -> Timestamp {
        let by = SignedDuration::from_secs(seconds);
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = match *time {
            Time::Running(ahead) => Time::Running(ahead + by),
            Time::Stopped(now) => Time::Stopped(now + by),
        };
        drop(time);
        self.now()
    }

    fn put(&self, time: Time) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }
}
