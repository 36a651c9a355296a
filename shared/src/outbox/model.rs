//! The kinds of step, and when a step is tried again.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// How long a worker may hold a step: longer than all time-outs of one step together.
pub const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// How long a step is tried before a person must look: longer than any outage that mends itself.
pub const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(72);

/// The user that a `keycloak_user` step makes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeycloakUser {
    /// Mail address and user name.
    pub email: String,
    /// First name, if known.
    pub first_name: Option<String>,
    /// Last name, if known.
    pub last_name: Option<String>,
}

/// The wait after a step's nth try failed: 5 s, doubled each time, at most 15 minutes.
#[must_use]
pub fn backoff(attempts: i32) -> SignedDuration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(10);
    SignedDuration::from_secs((5_i64 << doublings).min(15 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_quarter_of_an_hour() {
        let seconds: Vec<i64> = [0, 1, 2, 3, 8, 9, 1000, i32::MAX].into_iter().map(|attempts| backoff(attempts).as_secs()).collect();
        assert_eq!(seconds, [5, 5, 10, 20, 640, 900, 900, 900]);
    }
}
