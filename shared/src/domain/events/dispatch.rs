//! Applies an event: looks up what it is about, and hands it to its handler.

use std::time::Duration;

use tracing::Instrument as _;
use tracing::field::Empty;

use super::adoption::{ARRIVAL, Payer};
use super::checkout::NEVER_PAID;
use super::kind::{EventKind, InvoiceEvent};
use super::model::{Envelope, EventStatus, MAX_CRASHED_ATTEMPTS, MAX_RECEIVES, TYPE_LENGTH};
use super::snapshot::SnapshotCache;
use super::subscription::Cause;
use super::{Applier, Outcome, RECORD_BUDGET, checkout, notices, store};
use crate::base::fault;
use crate::base::fault::Point;
use crate::base::ids::StripeSubscriptionId;
use crate::domain::families;
use crate::domain::families::rows::Synced;
use crate::outside::stripe;
use crate::{Error, Result};

/// How long one event may take. What takes longer is tried again: a stalled service must not hold
/// up the batch until the function's end.
pub(crate) const EVENT_BUDGET: Duration = Duration::from_secs(25);

impl Applier {
    /// Applies an event, or records why not. Repeating it is harmless. `receives` is how often the
    /// queue has handed it out, this time included; `snapshots` are what its batch has read
    /// from Stripe so far.
    ///
    /// # Errors
    /// Only what may pass (`Error::is_transient`) or could not even be recorded: the message must
    /// stay on its queue.
    pub async fn apply(
        &self,
        event: &Envelope,
        receives: u32,
        snapshots: &mut SnapshotCache,
    ) -> Result<Outcome> {
        let span = tracing::info_span!("event", stripe.event_id = %event.id,
            stripe.event_type = event.event_type, receives, tenant.id = Empty);
        let apply = async {
            let applied = self.apply_or_record(event, receives, snapshots).await;
            match &applied {
                Ok(outcome) => {
                    tracing::info!(status = outcome.status.as_str(), "Stripe event recorded");
                }
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, "Stripe event not applied yet");
                }
            }
            applied
        };
        apply.instrument(span).await
    }

    async fn apply_or_record(
        &self,
        event: &Envelope,
        receives: u32,
        snapshots: &mut SnapshotCache,
    ) -> Result<Outcome> {
        let error = match self
            .db
            .bounded(EVENT_BUDGET, Box::pin(self.try_apply(event, receives, snapshots)))
            .await
        {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if !error.is_transient() || receives >= MAX_RECEIVES {
            return self.db.bounded(RECORD_BUDGET, self.record_failure(event, &error)).await;
        }
        // A sign that the consumer lives. Where the database is what is away, nothing can be
        // recorded, and nothing was counted either.
        // One of a connected account has no row before it is final: the row does not say whose it
        // is.
        if event.account.is_none()
            && let Err(unnoted) =
                self.db.bounded(RECORD_BUDGET, self.note_transient(event, &error)).await
        {
            tracing::warn!(error = %unnoted, "a failed attempt could not be recorded");
        }
        Err(error)
    }

    async fn try_apply(
        &self,
        event: &Envelope,
        receives: u32,
        snapshots: &mut SnapshotCache,
    ) -> Result<Outcome> {
        if let Some(account) = &event.account {
            return self.ignore(event, &format!("of the connected account {account}")).await;
        }
        if event.is_overlong() {
            return Err(Error::conflict(
                "overlong_event_type",
                format!("its type has more than {TYPE_LENGTH} characters; it is cut here"),
            ));
        }
        let subscription = match event.kind {
            EventKind::Subscription | EventKind::Invoice(_) => event.subscription(),
            EventKind::Checkout(_) | EventKind::Notice(_) | EventKind::Other => Ok(None),
        };
        let seen = {
            // The connection goes back before Stripe is read: a slow answer must not hold it.
            let db = self.db.connection().await?;
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
            seen
        };
        if receives > 1
            && store::count_attempt(&self.db, event, self.clock.now()).await? > MAX_CRASHED_ATTEMPTS
        {
            return Err(Error::conflict(
                "consumer_dies",
                format!("{MAX_CRASHED_ATTEMPTS} attempts crashed: their consumer died"),
            ));
        }
        fault::point(Point::ApplyBegun);
        if event.livemode != self.stripe.livemode().await? {
            return self.ignore(event, "of the other mode (livemode)").await;
        }
        match event.kind {
            EventKind::Checkout(_) => self.apply_checkout(event).await,
            EventKind::Subscription => match subscription? {
                Some(id) => self.apply_sync(event, &id, seen, snapshots).await,
                None => Err(stripe::unreadable("the event's subscription has no id")),
            },
            EventKind::Invoice(_) => match subscription? {
                Some(id) => self.apply_sync(event, &id, seen, snapshots).await,
                None => self.ignore(event, "an invoice of no subscription").await,
            },
            EventKind::Notice(kind) => notices::apply(self, event, kind).await,
            EventKind::Other => self.ignore(event, "events of this type change nothing here").await,
        }
    }

    pub(super) async fn ignore(&self, event: &Envelope, reason: &str) -> Result<Outcome> {
        self.record(event, EventStatus::Ignored, reason, None).await
    }

    /// Applies a checkout, and then what waited for it.
    async fn apply_checkout(&self, event: &Envelope) -> Result<Outcome> {
        let (outcome, customer) = checkout::apply(self, event).await?;
        if let (EventStatus::Applied, Some(customer)) = (outcome.status, customer) {
            self.wake(&customer).await;
        }
        Ok(outcome)
    }

    /// Applies the checkout of a subscription that waits for it to be complete or paid, or ended
    /// unpaid, if there is one: it may get no further event of its own. What became of it.
    pub(super) async fn apply_unpaid_checkout(
        &self,
        id: &StripeSubscriptionId,
    ) -> Result<Option<EventStatus>> {
        let db = self.db.connection().await?;
        let checkout = store::unpaid_checkout(&db, id, NEVER_PAID).await?;
        drop(db);
        let Some(checkout) = checkout else { return Ok(None) };
        Ok(Some(Box::pin(self.apply_checkout(&checkout)).await?.status))
    }

    /// Syncs the subscription of an event. One that we do not have yet waits for its checkout;
    /// `seen` is ours, as `find_synced` found it.
    async fn apply_sync(
        &self,
        event: &Envelope,
        id: &StripeSubscriptionId,
        seen: Option<Synced>,
        snapshots: &mut SnapshotCache,
    ) -> Result<Outcome> {
        let cause = Cause::Event(event);
        if let Some((status, _)) = self.sync_seen(id, seen, cause, snapshots).await? {
            return Ok(Outcome::quiet(status));
        }
        let checkout = self.apply_unpaid_checkout(id).await?;
        if checkout == Some(EventStatus::Applied)
            && let Some((status, _)) = self.sync_with_stripe(id, cause, snapshots).await?
        {
            return Ok(Outcome { status, wake_outbox: true });
        }
        if self.adopt_by_itself(id, &payer(event), Some(&event.id)).await?
            && let Some((status, _)) = self.sync_with_stripe(id, cause, snapshots).await?
        {
            return Ok(Outcome::quiet(status));
        }
        let is_paid = matches!(event.kind, EventKind::Invoice(InvoiceEvent::Paid));
        if checkout == Some(EventStatus::Ignored) && !is_paid {
            return self.ignore(event, NEVER_PAID).await;
        }
        let reason = "its Stripe subscription is not known here yet";
        self.record(event, EventStatus::Waiting, reason, None).await
    }
}

/// Who pays for the subscription that an event is about. Nobody while it is younger than its
/// checkout may take, as far as the event says: that is not worth a read.
fn payer(event: &Envelope) -> Payer<'_> {
    let object = &event.object;
    let is_young = object["created"]
        .as_i64()
        .filter(|_| event.kind == EventKind::Subscription)
        .is_some_and(|created| created > (event.created - ARRIVAL).as_second());
    if is_young {
        return Payer { customer: None, named: None };
    }
    let metadata = [
        &object["metadata"],
        &object["subscription_details"]["metadata"],
        &object["parent"]["subscription_details"]["metadata"],
    ];
    let named = metadata.into_iter().find_map(|metadata| metadata["tenant_id"].as_str());
    Payer { customer: event.customer(), named }
}
