//! Applies an event: looks up what it is about, and hands it to its handler.

use std::time::Duration;

use super::model::{Envelope, EventStatus, MAX_CRASHED_ATTEMPTS, MAX_RECEIVES};
use super::snapshot::SnapshotCache;
use super::{Applier, Outcome, RECORD_BUDGET, checkout, notices, store};
use crate::base::fault;
use crate::base::fault::Point;
use crate::domain::families;
use crate::{Error, Result};

/// How long one event may take. What takes longer is tried again: a stalled service must not hold
/// up the batch until the function's end.
pub(crate) const EVENT_BUDGET: Duration = Duration::from_secs(25);

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
        reads: &mut SnapshotCache,
    ) -> Result<Outcome> {
        let error = match self
            .db
            .bounded(EVENT_BUDGET, Box::pin(self.try_apply(event, receives, reads)))
            .await
        {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if !error.is_transient() || receives >= MAX_RECEIVES {
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

    pub(super) async fn try_apply(
        &self,
        event: &Envelope,
        receives: u32,
        reads: &mut SnapshotCache,
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
                && store::count_attempt(&mut db, event, self.clock.now()).await?
                    > MAX_CRASHED_ATTEMPTS
            {
                return Err(Error::conflict(
                    "consumer_dies",
                    format!("{MAX_CRASHED_ATTEMPTS} tries came to no word: their consumer died"),
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
                Some(id) => self.sync_subscription(event, &id, seen, reads).await,
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
}
