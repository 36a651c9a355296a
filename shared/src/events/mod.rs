//! Stripe's events: none lost, none applied twice, order does not matter (docs/events.md).
//!
//! An event is a hint: what it means is read from Stripe, outside any transaction; its row and everything that it changes commit
//! together. Whoever applies an event (queue, replay, backfill) calls `apply`.

mod checkout;
pub mod model;
pub mod signature;
mod store;

use crate::clock::Clock;
use crate::db::Db;
use crate::flags::{self, Flag};
use crate::stripe::Stripe;
use crate::{Error, Result};
use model::{Envelope, EventStatus};

/// What applying needs.
pub struct Applier {
    /// As `pulse_system`.
    pub db: Db,
    /// Where present state is read.
    pub stripe: Stripe,
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
    /// Applies an event, or records why not. Repeating it is harmless.
    ///
    /// # Errors
    /// Only what may pass (`Error::is_transient`) or could not even be recorded: the message must stay on its queue.
    pub async fn apply(&self, event: &Envelope) -> Result<Outcome> {
        // The connection goes back before Stripe is asked: a slow answer must not hold it.
        let recorded = store::status(&*self.db.connection().await?, &event.id).await?;
        if let Some(status) = recorded.filter(|status| status.is_final()) {
            return Ok(Outcome::quiet(status));
        }
        match self.try_apply(event).await {
            Err(error) if !error.is_transient() => self.record_failure(event, &error).await,
            outcome => outcome,
        }
    }

    async fn try_apply(&self, event: &Envelope) -> Result<Outcome> {
        if event.livemode != self.stripe.livemode()? {
            return self.record(event, EventStatus::Ignored, "of the other mode (livemode)").await;
        }
        match event.event_type.as_str() {
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" | "checkout.session.async_payment_failed" => {
                checkout::apply(self, event).await
            }
            _ => self.record(event, EventStatus::Waiting, "events of this type are not handled yet").await,
        }
    }

    /// Records an outcome that changes nothing else.
    async fn record(&self, event: &Envelope, status: EventStatus, reason: &str) -> Result<Outcome> {
        self.record_with(event, status, reason, None).await
    }

    /// A permanent error: recorded with its text, so that others go on. Where it was a checkout somebody has paid, and a person must
    /// look.
    async fn record_failure(&self, event: &Envelope, error: &Error) -> Result<Outcome> {
        tracing::error!(stripe.event_id = %event.id, code = error.code(), %error, "event failed");
        let reason = error.to_string();
        let flag = Flag { kind: error.code(), tenant: None, subscription: None, stripe_event: Some(&event.id), detail: reason.clone() };
        self.record_with(event, EventStatus::Failed, &reason, event.event_type.starts_with("checkout.session.").then_some(flag)).await
    }

    async fn record_with(&self, event: &Envelope, status: EventStatus, reason: &str, flag: Option<Flag<'_>>) -> Result<Outcome> {
        let now = self.clock.now();
        let mut db = self.db.connection().await?;
        let tx = db.transaction().await?;
        if let Some(status) = store::claim(&tx, event, event.customer().as_ref(), now).await?.filter(|status| status.is_final()) {
            return Ok(Outcome::quiet(status));
        }
        store::finish(&tx, &event.id, status, Some(reason), None, now).await?;
        if let Some(flag) = flag {
            flags::store::raise(&tx, &flag, now).await?;
        }
        tx.commit().await?;
        Ok(Outcome::quiet(status))
    }
}
