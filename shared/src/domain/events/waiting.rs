//! Events that wait: taken up when what they are about appears, and ended after 72 hours
//! (docs/events.md, "Waiting").

use jiff::SignedDuration;

use super::{Applier, SnapshotCache, store};
use crate::Result;
use crate::base::ids::StripeCustomerId;

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
            "what waited for a checkout waits on");
        }
    }

    /// Takes up what can be applied by now, and ends what has waited for too long: not ours, unless
    /// one of our prices is in it, which a person must see. Returns how many events it took up.
    ///
    /// # Errors
    /// `Database`, `Upstream`.
    pub async fn take_up_waiting(&self) -> Result<usize> {
        let taken = self.take_up(None).await?;
        let now = self.clock.now();
        let mut db = self.db.connection().await?;
        let tx = db.transaction().await?;
        store::end_waiting(&tx, now - PATIENCE, now, AT_ONCE).await?;
        tx.commit().await?;
        Ok(taken)
    }

    async fn take_up(&self, customer: Option<&StripeCustomerId>) -> Result<usize> {
        let events = store::ready(&self.db.connection().await?, customer, AT_ONCE).await?;
        // All of them happened before they were recorded, and so before any read from here on.
        let mut reads = SnapshotCache::default();
        for event in &events {
            self.apply(event, 1, &mut reads).await?;
        }
        Ok(events.len())
    }
}
