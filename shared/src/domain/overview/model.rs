//! The numbers that operators look at first.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::renewals::operator::model::{BreakerState, RunRow};

/// Up to how many are counted: any number beyond is shown as this one, so that it costs the same in
/// every fleet.
pub const MOST: i64 = 10_000;

/// What waits for operators, in numbers. Each number ends at 10,000, which stands for any beyond.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Overview {
    /// Open flags, by kind; kinds without any are absent.
    pub flags: BTreeMap<String, i64>,
    /// Stripe's events that are not done.
    pub events: OpenEvents,
    /// Steps of the outbox that are not done.
    pub steps: OpenSteps,
    /// Subscriptions, by status.
    pub subscriptions: BTreeMap<String, i64>,
    /// ACTIVE and TRIAL subscriptions whose term ends.
    pub ending: Ending,
    /// Counts of slots that an operator set by hand, against the devices.
    pub counted_by_hand: i64,
    /// The hourly run that began last.
    pub last_run: Option<RunRow>,
    /// Whether the next would stop.
    pub breaker: BreakerState,
    /// When it was counted.
    pub counted_at: Timestamp,
}

/// Stripe's events that are not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct OpenEvents {
    /// They wait for an operator.
    pub failed: i64,
    /// They wait for another event, or to be tried again.
    pub waiting: i64,
}

/// Steps of the outbox that are not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct OpenSteps {
    /// They were given up.
    pub failed: i64,
    /// They have been due for more than ten minutes.
    pub pending_late: i64,
}

/// How many terms end within one, seven and thirty days, overdue ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct Ending {
    pub d1: i64,
    pub d7: i64,
    pub d30: i64,
}
