//! Stripe's events: none lost, none applied twice, order does not matter (docs/events.md).
//!
//! An event is a hint: what it means is read from Stripe, outside any transaction; its row and
//! everything that it changes commit together. Whoever applies an event (queue, replay, backfill)
//! calls `apply`.

mod addon;
pub mod backfill;
mod checkout;
mod drift;
pub mod model;
mod notices;
pub mod operator;
mod pace;
pub mod signature;
mod snapshot;
mod store;
pub mod stripe_state;
mod subscription;
pub mod tidying;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

pub use self::drift::Compared;
use self::model::{Envelope, EventStatus, GIVE_UP_RECEIVES, MAX_LOST_TRIES};
pub use self::snapshot::Reads;
use crate::base::clock::Clock;
use crate::base::fault;
use crate::base::fault::Point;
use crate::db::Db;
use crate::domain::flags::model::Flag;
use crate::domain::{families, flags};
use crate::outside::stripe::Stripe;
use crate::{Error, Result};

/// How long one event may take. What takes longer is tried again: a stalled service must not hold
/// up the batch until the function's end.
const EVENT_BUDGET: Duration = Duration::from_secs(25);

/// How long its outcome, or a note on the try, may take to record after that.
const RECORD_BUDGET: Duration = Duration::from_secs(5);

/// What applying needs.
pub struct Applier {
    /// As `pulse_system`.
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
    /// Applies an event, or records why not. Repeating it is harmless. `receives` is how often the
    /// queue has handed it out, this time included; `reads` is what its batch has read of
    /// Stripe so far.
    ///
    /// # Errors
    /// Only what may pass (`Error::is_transient`) or could not even be recorded: the message must
    /// stay on its queue.
    pub async fn apply(
        &self,
        event: &Envelope,
        receives: u32,
        reads: &mut Reads,
    ) -> Result<Outcome> {
        let error = match self
            .db
            .bounded(EVENT_BUDGET, Box::pin(self.try_apply(event, receives, reads)))
            .await
        {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if !error.is_transient() || receives >= GIVE_UP_RECEIVES {
            return self.db.bounded(RECORD_BUDGET, self.record_failure(event, &error)).await;
        }
        // A word that the consumer lives. Where the database is what is away, nothing can be noted,
        // and nothing was counted either.
        if let Err(unnoted) =
            self.db.bounded(RECORD_BUDGET, self.note_transient(event, &error)).await
        {
            tracing::warn!(stripe.event_id = %event.id, error = %unnoted,
            "a try could not be noted");
        }
        Err(error)
    }

    async fn try_apply(
        &self,
        event: &Envelope,
        receives: u32,
        reads: &mut Reads,
    ) -> Result<Outcome> {
        let is_word = event.event_type.starts_with("customer.subscription.")
            || event.event_type.starts_with("invoice.");
        let subscription = if is_word { event.subscription() } else { Ok(None) };
        let seen = {
            // The connection goes back before Stripe is asked: a slow answer must not hold it.
            let mut db = self.db.connection().await?;
            let ours = async {
                match &subscription {
                    Ok(Some(id)) => families::rows::find_synced(&db, id).await,
                    _ => Ok(None),
                }
            };
            let (status, seen) = futures::try_join!(store::status(&db, &event.id), ours)?;
            if let Some(status) = status.filter(|status| status.is_final()) {
                return Ok(Outcome::quiet(status));
            }
            if receives > 1
                && store::begin_again(&mut db, event, self.clock.now()).await? > MAX_LOST_TRIES
            {
                return Err(Error::conflict(
                    "consumer_dies",
                    format!("{MAX_LOST_TRIES} tries came to no word: their consumer died"),
                ));
            }
            seen
        };
        fault::point(Point::ApplyBegun);
        if event.livemode != self.stripe.livemode()? {
            return self
                .record(event, EventStatus::Ignored, "of the other mode (livemode)", None)
                .await;
        }
        match event.event_type.as_str() {
            "checkout.session.completed"
            | "checkout.session.async_payment_succeeded"
            | "checkout.session.async_payment_failed"
            | "checkout.session.expired" => checkout::apply(self, event).await,
            kind if is_word => match subscription? {
                Some(id) => self.apply_word(event, &id, seen, reads).await,
                None if kind.starts_with("invoice.") => {
                    self.record(event, EventStatus::Ignored, "an invoice of no subscription", None)
                        .await
                }
                None => Err(Error::conflict("stripe_shape", "the event's subscription has no id")),
            },
            "charge.refunded"
            | "charge.dispute.created"
            | "charge.dispute.closed"
            | "customer.updated"
            | "customer.deleted" => notices::apply(self, event).await,
            _ => {
                self.record(
                    event,
                    EventStatus::Ignored,
                    "events of this type change nothing here",
                    None,
                )
                .await
            }
        }
    }

    async fn note_transient(&self, event: &Envelope, error: &Error) -> Result<()> {
        store::record_transient(
            &mut self.db.connection().await?,
            event,
            &error.to_string(),
            self.clock.now(),
        )
        .await
    }

    /// A permanent error: recorded with its text, so that others go on. Somebody may have paid, or
    /// go on using what they no longer pay: a person must look.
    async fn record_failure(&self, event: &Envelope, error: &Error) -> Result<Outcome> {
        tracing::error!(stripe.event_id = %event.id, code = error.code(), %error, "event failed");
        let reason = error.to_string();
        let flag = Flag {
            kind: error.code(),
            tenant: None,
            subscription: None,
            stripe_event: Some(&event.id),
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
        let mut db = self.db.connection().await?;
        let tx = db.transaction().await?;
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
