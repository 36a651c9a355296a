//! Stripe's events: none lost, none applied twice, order does not matter (docs/events.md).
//!
//! An event is a hint: what it means is read from Stripe, outside any transaction; its row and
//! everything that it changes commit together. Whoever applies an event (queue, replay, backfill)
//! calls `apply`.

mod addon;
pub mod adoption;
pub mod backfill;
mod checkout;
mod currency;
mod dispatch;
mod drift;
mod items;
pub mod kind;
pub mod model;
mod notices;
pub mod operator;
mod pace;
mod resolve;
mod sale;
pub mod signature;
mod snapshot;
mod store;
pub mod stripe_state;
mod subscription;
pub mod tidying;
mod vain;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

pub use self::drift::DriftPage;
use self::model::{Envelope, EventStatus};
pub use self::snapshot::SnapshotCache;
use crate::base::clock::Clock;
use crate::db::Db;
use crate::domain::flags;
use crate::domain::flags::model::{Flag, FlagCause};
use crate::outside::stripe::Stripe;
use crate::{Error, Result};

/// How long its outcome, or a note on the try, may take to record after that.
const RECORD_BUDGET: Duration = Duration::from_secs(5);

/// What applying needs.
pub struct Applier {
    /// As `pulse_system`; to adopt for an operator, as `pulse_operator`.
    pub db: Arc<Db>,
    /// Where present state is read.
    pub stripe: Stripe,
    /// How often a second all functions together read it; 0: as often as they like.
    pub reads_per_second: i32,
    /// The time.
    pub clock: Clock,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// As recorded.
    pub status: EventStatus,
    /// Whether it left steps that the outbox should take at once.
    pub wake_outbox: bool,
}

impl Outcome {
    fn quiet(status: EventStatus) -> Self {
        Self { status, wake_outbox: false }
    }
}

impl Applier {
    async fn note_transient(&self, event: &Envelope, error: &Error) -> Result<()> {
        store::record_transient(&self.db, event, &error.to_string(), self.clock.now()).await
    }

    /// A permanent error: recorded with its text, so that others go on. Somebody may have paid, or
    /// go on using what they no longer pay: an operator must look.
    async fn record_failure(&self, event: &Envelope, error: &Error) -> Result<Outcome> {
        tracing::error!(code = error.code(), %error, "Stripe event failed");
        let reason = error.to_string();
        let flag = Flag {
            kind: FlagCause::FailedEvent(error.code()),
            tenant: None,
            subscription: None,
            stripe_event: Some(&event.id),
            subject: None,
            detail: reason.clone(),
        };
        self.record(event, EventStatus::Failed, &reason, Some(flag)).await
    }

    /// Records an outcome that changes nothing else.
    async fn record(
        &self,
        event: &Envelope,
        status: EventStatus,
        reason: &str,
        flag: Option<Flag<'_>>,
    ) -> Result<Outcome> {
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        if !store::record(&tx, event, status, Some(reason), None, now).await? {
            return Ok(Outcome::quiet(store::status(&tx, &event.id).await?.unwrap_or(status)));
        }
        if let Some(flag) = flag {
            flags::store::raise(&tx, &flag, now).await?;
        }
        tx.commit().await?;
        Ok(Outcome::quiet(status))
    }
}
