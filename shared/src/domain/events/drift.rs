//! What Stripe lists against what was applied last: changes whose event never came are found
//! (docs/renewals.md, "Drift").

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::subscription::Cause;
use super::{Applier, SnapshotCache, store};
use crate::Result;
use crate::base::ids::{StripePriceId, StripeSubscriptionId};
use crate::domain::families::subscription::Status;
use crate::domain::flags::model::{Flag, FlagKind};
use crate::domain::{families, flags, prices};
use crate::outside::stripe::Subscription;

/// How long the events of a checkout may take before its subscription is missed.
const ARRIVAL: SignedDuration = SignedDuration::from_hours(1);

/// A page that was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct DriftPage {
    /// Those of the page that we have and that are under no hold.
    pub compared: u32,
    /// Those that differed, and were repaired.
    pub repaired: u32,
    /// Those that could not be.
    pub failed: u32,
    /// Those that pay one of our prices, and are not known here.
    pub unknown: u32,
    /// Where the next page begins; none after the last.
    #[serde(skip)]
    pub next: Option<StripeSubscriptionId>,
}

impl Applier {
    /// Compares a page of a hundred of Stripe's subscriptions with ours, and repairs what differs.
    ///
    /// # Errors
    /// `Upstream`, `Database`.
    pub async fn compare(&self, after: Option<&StripeSubscriptionId>) -> Result<DriftPage> {
        self.pace().await?;
        let page = self.stripe.subscriptions(after).await?;
        let ids: Vec<&str> = page.data.iter().map(|listed| listed.id.as_str()).collect();
        let ours = families::rows::find_paid_by(&self.db.connection().await?, &ids).await?;
        let (mut compared, mut unknown) = (DriftPage::default(), Vec::new());
        for listed in &page.data {
            let Some(own) =
                ours.iter().find(|own| own.stripe_id().is_some_and(|id| id.as_str() == listed.id))
            else {
                unknown.push(listed);
                continue;
            };
            if own.hold.is_some() {
                continue;
            }
            compared.compared += 1;
            if !differs(listed, own, self.clock.now())? {
                continue;
            }
            match self
                .sync_with_stripe(
                    &StripeSubscriptionId::parse(&listed.id)?,
                    Cause::Drift,
                    &mut SnapshotCache::default(),
                )
                .await
            {
                Ok(done) => {
                    compared.repaired += u32::from(done.is_some_and(|(_, changed)| changed));
                }
                Err(error) => {
                    compared.failed += 1;
                    tracing::warn!(subscription.id = %own.subscription_id, code = error.code(),
                        %error, "what differs from Stripe could not be repaired");
                }
            }
        }
        compared.unknown = self.tell_unknown(&unknown).await?;
        compared.next = page
            .data
            .last()
            .filter(|_| page.has_more)
            .map(|last| StripeSubscriptionId::parse(&last.id))
            .transpose()?;
        Ok(compared)
    }

    /// Flags running subscriptions of our prices that no checkout made subscriptions of: somebody
    /// pays for nothing. Not one that waits for its checkout. Returns how many.
    async fn tell_unknown(&self, listed: &[&Subscription]) -> Result<u32> {
        let now = self.clock.now();
        let missed = |listed: &Subscription| {
            matches!(listed.status.as_str(), "active" | "trialing" | "past_due")
                && listed.created().is_some_and(|created| created <= now - ARRIVAL)
        };
        let mut pays = Vec::new();
        for listed in listed.iter().filter(|listed| missed(listed)) {
            for item in &listed.items.data {
                pays.push((StripeSubscriptionId::parse(&listed.id)?, item.price()?));
            }
        }
        if pays.is_empty() {
            return Ok(0);
        }
        let mut db = self.db.connection().await?;
        let tx = db.transaction().await?;
        let prices: Vec<StripePriceId> = pays.iter().map(|(_, price)| price.clone()).collect();
        let ours = prices::store::find(&tx, &prices).await?;
        pays.retain(|(_, price)| ours.iter().any(|(our, _)| our == price));
        pays.dedup_by(|one, other| one.0 == other.0);
        let mut told = 0;
        for (id, _) in &pays {
            if store::has_open_event(&tx, id).await? {
                continue;
            }
            let detail = format!(
                "Stripe subscription {id} pays for one of our prices, and no subscription here is \
                 its: was its checkout lost?"
            );
            let flag = Flag {
                kind: FlagKind::StripeSubscriptionUnknown.into(),
                tenant: None,
                subscription: None,
                stripe_event: None,
                subject: Some(id.to_string()),
                detail,
            };
            flags::store::raise_while_open(&tx, &flag, now).await?;
            told += 1;
        }
        tx.commit().await?;
        Ok(told)
    }
}

/// Whether Stripe's state differs from the one that was applied last, or should by now.
fn differs(
    listed: &Subscription,
    own: &families::subscription::Subscription,
    now: Timestamp,
) -> Result<bool> {
    let Some(link) = &own.stripe else { return Ok(true) };
    let mut same_item = false;
    for item in &listed.items.data {
        let same_price = link.price_id.is_none() || Some(item.price()?) == link.price_id;
        same_item |= same_price && Some(listed.period(item)?.1) == link.period_end;
    }
    let same = link.status.as_deref() == Some(listed.status.as_str())
        && link.cancel_at == listed.cancel_at()
        && link.collection_paused == listed.is_collection_paused();
    // An invoice that was paid changes nothing in the list.
    let is_late = matches!(own.status, Status::Active | Status::Trial) && own.term_end <= now;
    Ok(!same || !same_item || is_late)
}
