//! The hourly run: notices before a term ends, what becomes of terms and graces that have ended,
//! and what keeps all of it true (docs/renewals.md).
//!
//! Everything that is due is in the data: a run that dies leaves the rest to the next, and two
//! runs at once share the work. Chunks are transactions of their own, with the change, its audit
//! row and its mail.

mod breaker;
pub mod customer;
mod due;
pub mod model;
pub mod operator;
mod refresh;
pub mod rehearsal;
#[expect(clippy::missing_errors_doc, reason = "each: `Database`; public for the property test")]
pub mod store;
pub mod summary;
mod upkeep;

use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use jiff::Timestamp;

use self::model::RunOptions;
use self::operator::model::RunStatus;
use self::rehearsal::dry_run;
use self::summary::Summary;
use crate::domain::events::Applier;
use crate::domain::invariants;
use crate::domain::invariants::model::Invariant;
use crate::outside::queue::Queue;
use crate::{Error, Result};

/// What the run needs.
pub struct Renewal {
    /// The database as `pulse_system`, Stripe and the time.
    pub applier: Applier,
    /// The FIFO queue of events.
    pub queue: Queue,
    /// Whether tenants are organizations in Keycloak.
    pub has_organizations: bool,
    /// Whether nothing here is real, so that a run may write as if it were another hour.
    pub may_rehearse: bool,
}

impl Renewal {
    /// Does what is due, for about `budget`; the rest is for the next run. A part that fails does
    /// not keep the others from their work.
    ///
    /// # Errors
    /// `Invalid` (`as_of`) where a run would write as if it were another hour than it is;
    /// `Database` where the run cannot be recorded.
    pub async fn run(&self, options: &RunOptions, budget: Duration) -> Result<Summary> {
        let time = Time { began: Instant::now(), budget };
        let started = self.applier.clock.now();
        let now = options.as_of.unwrap_or(started);
        if options.dry_run {
            return dry_run(&self.applier.db, now).await;
        }
        if options.as_of.is_some() && !self.may_rehearse {
            return Err(Error::invalid(
                "as_of",
                "needs dry_run: this deployment is no local or test one",
            ));
        }
        let by = options.requested_by.as_deref();
        let id = store::begin_run(&self.connection().await?, started, now, by).await?;
        let run = Run { id, now, time };
        let mut summary = Summary { run_id: Some(id), as_of: now, ..Summary::default() };
        self.do_parts(run, &mut summary).await;
        summary.duration_ms = u64::try_from(time.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status = match (summary.errors.is_empty(), time.is_up()) {
            (false, _) => RunStatus::Failed,
            (true, true) => RunStatus::Stopped,
            (true, false) => RunStatus::Done,
        };
        let ended = self.applier.clock.now();
        store::finish_run(&self.connection().await?, id, status, &summary, ended).await?;
        summary.put_metrics();
        Ok(summary)
    }

    async fn do_parts(&self, run: Run, summary: &mut Summary) {
        let refreshed = self.refresh_overdue(run, summary).await;
        let changed = self.change(run, &refreshed, summary).await;
        summary.part("changes", changed);
        let noticed = self.notice(run, summary).await;
        summary.part("notices", noticed);
        let counts = summary.part("counts", self.count_devices(run).await);
        let were_counted = counts.is_some();
        summary.counts = counts.unwrap_or_default();
        summary.tidied = summary.part("tidying", self.tidy(run).await).unwrap_or_default();
        summary.organizations =
            summary.part("organizations", self.leave_organizations(run).await).unwrap_or_default();
        summary.backfilled = summary.part("backfill", self.backfill(run).await).unwrap_or_default();
        summary.drift = summary.part("drift", self.compare(run).await).unwrap_or_default();
        summary.part("digest", self.leave_digest(run.now).await);
        let broken = invariants::count(&self.applier.db, &summary.counts, run.now).await;
        let broken = summary.part("invariants", broken).unwrap_or_default();
        // What was not compared is not right either.
        let known = broken.into_iter().filter(|(invariant, _)| {
            were_counted
                || !matches!(invariant, Invariant::SlotsUsedDiffers | Invariant::DeviceCountDiffers)
        });
        summary.broken = known.map(|(invariant, count)| (invariant.as_str(), count)).collect();
        summary.left = summary.part("left", self.left(run.now).await).unwrap_or_default();
    }

    async fn connection(&self) -> Result<Object> {
        self.applier.db.connection().await
    }
}

/// A run that has begun.
#[derive(Clone, Copy)]
struct Run {
    /// Its row.
    id: i64,
    /// The instant that it decides by, UTC.
    now: Timestamp,
    time: Time,
}

/// How long a run may go on.
#[derive(Clone, Copy)]
pub(crate) struct Time {
    began: Instant,
    budget: Duration,
}

impl Time {
    fn left(self) -> Duration {
        self.budget.saturating_sub(self.began.elapsed())
    }

    fn is_up(self) -> bool {
        self.left().is_zero()
    }

    /// A part of the whole, if so much is left.
    fn share(self, of: u32) -> Duration {
        (self.budget / of).min(self.left())
    }

    /// That part, from now on.
    fn part(self, of: u32) -> Self {
        Self { began: Instant::now(), budget: self.share(of) }
    }
}
