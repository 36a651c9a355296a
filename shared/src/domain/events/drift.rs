//! What Stripe lists against what was applied last: changes whose event never came are found
//! (docs/renewals.md, "Drift").

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::adoption::{ARRIVAL, Payer};
use super::model::EventStatus;
use super::snapshot::items_of;
use super::subscription::Cause;
use super::{Applier, SnapshotCache, store};
use crate::Result;
use crate::base::ids::{StripePriceId, StripeSubscriptionId};
use crate::domain::families::subscription::Status;
use crate::domain::flags::model::{Flag, FlagKind};
use crate::domain::{families, flags, prices};
use crate::outside::stripe::Subscription;

/// A page that was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct DriftPage {
    /// Those of the page that we have and that are under no hold.
    pub compared: u32,
    /// Those that differed, and were repaired.
    pub repaired: u32,
    /// Those that could not be repaired or adopted.
    pub failed: u32,
    /// Those that were not known here, and were adopted.
    pub adopted: u32,
    /// Those that pay one of our prices, and are still not known here.
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
        let mut page = self.stripe.subscriptions(after).await?;
        for listed in &mut page.data {
            self.read_all_items(listed).await?;
        }
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
        self.take_in(&unknown, &mut compared).await?;
        compared.next = page
            .data
            .last()
            .filter(|_| page.has_more)
            .map(|last| StripeSubscriptionId::parse(&last.id))
            .transpose()?;
        Ok(compared)
    }

    /// Adopts running subscriptions of our prices that no checkout made subscriptions of, or flags
    /// them: somebody pays for nothing. Not one that waits for its checkout.
    async fn take_in(&self, listed: &[&Subscription], page: &mut DriftPage) -> Result<()> {
        let now = self.clock.now();
        let missed: Vec<&Subscription> = listed
            .iter()
            .copied()
            .filter(|listed| {
                matches!(listed.status.as_str(), "active" | "trialing" | "past_due")
                    && listed.created().is_some_and(|created| created <= now - ARRIVAL)
            })
            .collect();
        let mut unknown = Vec::new();
        for listed in self.paying_us(&missed).await? {
            let id = StripeSubscriptionId::parse(&listed.id)?;
            let named = listed.metadata.get("tenant_id").map(String::as_str);
            let payer = Payer { customer: listed.customer()?, named };
            match self.take_in_one(&id, &payer).await {
                Ok(true) => page.adopted += 1,
                Ok(false) => unknown.push(id),
                Err(error) => {
                    page.failed += 1;
                    tracing::warn!(code = error.code(), %error,
                        "a Stripe subscription could not be adopted");
                }
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let tx = self.db.begin().await?;
        for id in &unknown {
            if store::has_open_event(&tx, id).await? {
                continue;
            }
            let detail = format!(
                "Stripe subscription {id} pays for one of our prices, and no subscription here is \
                 its: was its checkout lost? Backfill, or adopt it (POST \
                 /api/v1/operator/subscriptions/adopt)"
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
            page.unknown += 1;
        }
        tx.commit().await?;
        Ok(())
    }

    /// By its checkout, which waits for a payment whose event was lost; else by its adoption.
    async fn take_in_one(&self, id: &StripeSubscriptionId, payer: &Payer<'_>) -> Result<bool> {
        Ok(self.apply_unpaid_checkout(id).await? == Some(EventStatus::Applied)
            || self.adopt_by_itself(id, payer, None).await?)
    }

    /// Those of which a price is ours.
    async fn paying_us<'a>(&self, listed: &[&'a Subscription]) -> Result<Vec<&'a Subscription>> {
        let mut paid = Vec::new();
        for (index, listed) in listed.iter().enumerate() {
            for item in &listed.items.data {
                paid.push((index, item.price()?));
            }
        }
        if paid.is_empty() {
            return Ok(Vec::new());
        }
        let prices: Vec<StripePriceId> = paid.iter().map(|(_, price)| price.clone()).collect();
        let ours = prices::store::find(&self.db.begin().await?, &prices).await?;
        let mut paying: Vec<usize> = paid
            .into_iter()
            .filter(|(_, price)| ours.iter().any(|(our, _)| our == price))
            .map(|(index, _)| index)
            .collect();
        paying.dedup();
        Ok(paying.into_iter().map(|index| listed[index]).collect())
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
        && link.collection_paused == listed.is_collection_paused()
        && link.items == items_of(listed)?;
    // An invoice that was paid changes nothing in the list.
    let is_late = matches!(own.status, Status::Active | Status::Trial) && own.term_end <= now;
    Ok(!same || !same_item || is_late)
}
