//! A run and an operator's approval as they are read, and how an approval is given.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::base::fields::{DateTime, Int, Note};
use crate::domain::renewals::summary::Summary;
use crate::{Error, Result, request, words};

/// How far ahead an approval may go: who gives it has looked at what is due now, not at
/// what will be.
const FURTHEST: SignedDuration = SignedDuration::from_hours(7 * 24);

words! {
    /// How a run went.
    pub enum RunStatus {
        /// It goes on; after a quarter of an hour it is one that died. What it did is done, the
        /// rest is the next one's.
        Running = "running",
        /// Through.
        Done = "done",
        /// Out of time: the rest is the next one's.
        Stopped = "stopped",
        /// A part failed; the others are done.
        Failed = "failed",
    }
}

/// One hourly run (docs/renewals.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RunRow {
    /// Its number.
    pub run_id: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// For which instant: another than its own where it rehearsed one.
    pub as_of: Timestamp,
    /// The `sub` of who requested it; none: the schedule.
    pub requested_by: Option<String>,
    /// How it went.
    pub status: RunStatus,
    /// How many it gave grace, suspended or expired without an approval: what the breaker counts
    /// of a day.
    pub counted: i32,
    /// What it did, in numbers; none while it goes on.
    #[schema(value_type = Option<Object>)]
    pub summary: Option<Value>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

request! {
    /// An operator's approval that so many may lose access after all.
    pub struct NewBreakerApproval {
        /// Until then, at most 7 days ahead.
        approve_until: DateTime,
        /// How many graces and suspensions.
        max_count: Int<1, 1_000_000>,
        /// Why it is right.
        note: Note,
    }
}

impl NewBreakerApproval {
    /// Whether it may be given at `now`.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        match self.approve_until.get() {
            until if until <= now => Err(Error::invalid("approve_until", "must be in the future")),
            until if until > now + FURTHEST => {
                Err(Error::invalid("approve_until", "must be at most 7 days ahead"))
            }
            _ => Ok(()),
        }
    }
}

/// The same as it was given. The last one counts, until it has run out or is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerApproval {
    /// Its number.
    pub approval_id: i64,
    /// When it was given.
    pub approved_at: Timestamp,
    /// The `sub` of who gave it.
    pub approved_by: String,
    /// Until when it counts.
    pub approve_until: Timestamp,
    /// For how many.
    pub max_count: i32,
    /// How many of them there were.
    pub used: i32,
    /// Why it is right.
    pub note: String,
}

/// The breaker at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BreakerState {
    /// Whether a run would make no change.
    pub open: bool,
    /// How many would get grace or lose access now, without what Stripe is asked about first.
    pub due: i64,
    /// How many the runs of the last 24 hours gave grace or took access from, without an approval.
    pub counted: i64,
    /// How many have access; 20 times the two before, and at least 1,000, stand for any number
    /// beyond.
    pub live: i64,
    /// The last approval, if its time is not over.
    pub approval: Option<BreakerApproval>,
}

/// What a request for a run led to.
pub enum RunOutcome {
    /// What a run would do.
    DryRun(Box<Summary>),
    /// A run will begin within seconds.
    Requested,
}
