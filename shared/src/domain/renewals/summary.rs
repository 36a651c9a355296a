//! What a run did, for its row, the log, the metrics and the answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Announced, Breaker, Remaining};
use crate::Result;
use crate::domain::allocations::model::CountCheck;
use crate::domain::events::DriftPage;
use crate::process::metrics;
use crate::process::metrics::Unit;

/// What a run did, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Summary {
    /// Its row; none of a dry run.
    pub run_id: Option<i64>,
    /// Whether it changed nothing.
    pub dry_run: bool,
    /// The instant that it decided by.
    pub as_of: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// Mails that it left, by kind.
    pub notices: BTreeMap<&'static str, u64>,
    /// Subscriptions that it changed, by their new status.
    pub changes: BTreeMap<&'static str, u64>,
    /// Set where so many were due that an operator must approve them first.
    pub breaker: Option<Breaker>,
    /// Overdue subscriptions that were read from Stripe, or tried to be.
    pub asked: u32,
    /// Those that could not be read: they stay as they are.
    pub unreachable: u32,
    /// Counts against the devices.
    pub counts: CountCheck,
    /// Answers to repeated requests that were deleted, and old events whose payload was dropped.
    pub tidied: u64,
    /// Tenants that are no organization in Keycloak yet, and are on their way to it.
    pub organizations: u64,
    /// Stripe's list against ours.
    pub drift: DriftPage,
    /// Events that never came, and are on the queue now.
    pub backfilled: usize,
    /// Broken invariants, and how often; the counts as they were before they were corrected.
    pub broken: BTreeMap<&'static str, i64>,
    /// What is due and was not done: held by others at that moment, over the time, or before the
    /// breaker.
    pub left: Remaining,
    /// What went wrong, by part; the others went on.
    pub errors: BTreeMap<&'static str, String>,
    /// Of a dry run: the first thousand changes that a run would make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub announced: Vec<Announced>,
}

impl Summary {
    /// What alarms look at (docs/deploy.md, "Alarms").
    pub(super) fn put_metrics(&self) {
        metrics::put_all(&[
            ("RenewalRuns", Unit::Count, 1),
            (
                "RenewalDuration",
                Unit::Milliseconds,
                i64::try_from(self.duration_ms).unwrap_or(i64::MAX),
            ),
            ("RenewalBreakerOpen", Unit::Count, self.breaker.is_some().into()),
            ("RenewalUnreachable", Unit::Count, self.unreachable.into()),
            (
                "RenewalPartsFailed",
                Unit::Count,
                i64::try_from(self.errors.len()).unwrap_or(i64::MAX),
            ),
            ("RenewalLeft", Unit::Count, self.left.changes.all().saturating_add(self.left.notices)),
            (
                "RenewalCorrections",
                Unit::Count,
                self.counts.corrected.saturating_add(self.drift.repaired.into()),
            ),
            ("InvariantsBroken", Unit::Count, self.broken.values().sum()),
        ]);
    }

    /// The result of a part; its error is kept, and the run goes on.
    pub(super) fn part<T>(&mut self, part: &'static str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(part, code = error.code(), %error, "a part of the run failed");
                self.errors.insert(part, error.to_string());
                None
            }
        }
    }
}
