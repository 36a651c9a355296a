//! Events that wait: applied when what they are about appears, and ended after 72 hours
//! (docs/events.md, "Waiting").

use jiff::SignedDuration;

use super::{Applier, SnapshotCache, store};
use crate::Result;
use crate::base::ids::{StripeCustomerId, StripeSubscriptionId};
use crate::domain::flags;
use crate::domain::flags::model::{Flag, FlagKind};

/// How long an event waits for its customer or checkout.
const PATIENCE: SignedDuration = SignedDuration::from_hours(72);

/// How many events one run takes up; the next one takes more.
const AT_ONCE: i64 = 100;

impl Applier {
    /// Applies what waited for this customer's checkout, which has just been applied.
    ///
    /// The checkout is committed by now and stays so: what fails here is taken up by
    /// `take_up_waiting`.
    pub(super) async fn wake(&self, customer: &StripeCustomerId) {
        if let Err(error) = self.take_up(Some(customer)).await {
            tracing::warn!(stripe.customer_id = %customer, %error,
            "events that waited for a checkout still wait");
        }
    }

    /// Applies what can be applied by now, and ends what has waited for too long: not ours, unless
    /// one of our prices is in it, which is flagged. Returns how many events it applied.
    ///
    /// # Errors
    /// `Database`, `Upstream`.
    pub async fn take_up_waiting(&self) -> Result<usize> {
        let taken = self.take_up(None).await?;
        let now = self.clock.now();
        let tx = self.db.begin().await?;
        for ended in store::end_waiting(&tx, now - PATIENCE, now, AT_ONCE).await? {
            if !ended.names_our_price {
                continue;
            }
            let flag = Flag {
                kind: FlagKind::NeverMatched.into(),
                tenant: None,
                subscription: None,
                stripe_event: Some(&ended.id),
                subject: ended.stripe_subscription_id.as_ref().map(ToString::to_string),
                detail: format!(
                    "{} names a price of ours, and no checkout of it came within 72 hours: adopt \
                     its subscription {} (POST /api/v1/operator/subscriptions/adopt)",
                    ended.event_type,
                    ended.stripe_subscription_id.as_ref().map_or("", StripeSubscriptionId::as_str)
                ),
            };
            flags::store::raise(&tx, &flag, now).await?;
        }
        tx.commit().await?;
        Ok(taken)
    }

    async fn take_up(&self, customer: Option<&StripeCustomerId>) -> Result<usize> {
        let events = store::ready(&self.db.connection().await?, customer, AT_ONCE).await?;
        // All of them happened before they were recorded, and so before any read from here on.
        let mut snapshots = SnapshotCache::default();
        for event in &events {
            self.apply(event, 1, &mut snapshots).await?;
        }
        Ok(events.len())
    }
}
