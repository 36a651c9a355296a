//! What Stripe says now: read outside any transaction, at a rate that all functions share, and once
//! for all events of a batch that are about the same subscription.

use std::collections::HashMap;

use jiff::Timestamp;

use super::stripe_state::StripeState;
use super::{Applier, pace};
use crate::Result;
use crate::base::ids::{StripePriceId, StripeSubscriptionId};
use crate::domain::plans::model::Plan;
use crate::outside::stripe::{Invoice, Item, Subscription};

/// A Stripe subscription as it was read.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub subscription: Subscription,
    /// Whether it is active or trialing, and its present period is paid, or not due yet.
    is_paid: bool,
    /// Of its oldest open invoice.
    unpaid_since: Option<Timestamp>,
    /// Of its latest settled invoice, where the present period is not paid: a sync that comes late
    /// must find what was paid meanwhile.
    paid_term: Option<(Timestamp, Timestamp)>,
}

impl Snapshot {
    /// The state that this is, with its price and its plan resolved.
    pub(super) fn state<'a>(
        &'a self,
        item: &Item,
        price: Option<&'a StripePriceId>,
        plan: Option<&'a Plan>,
    ) -> Result<StripeState<'a>> {
        let period = self.subscription.period(item)?;
        Ok(StripeState {
            status: &self.subscription.status,
            period,
            paid_term: if self.is_paid { Some(period) } else { self.paid_term },
            // A payment that failed did so when the present period began, unless an open invoice
            // says better.
            unpaid_since: self.unpaid_since.unwrap_or(period.0),
            cancel_at: self.subscription.cancel_at(),
            is_collection_paused: self.subscription.is_collection_paused(),
            price,
            plan,
            slots: None,
        })
    }
}

/// What a batch has read of Stripe. All of its events happened before their delivery, and so before
/// any read that came after it.
#[derive(Default)]
pub struct SnapshotCache(HashMap<StripeSubscriptionId, (i64, Snapshot)>);

impl SnapshotCache {
    /// What was read, if no other snapshot was applied since.
    pub(super) fn of(&self, id: &StripeSubscriptionId, sync: i64) -> Option<Snapshot> {
        self.0.get(id).filter(|(seen, _)| *seen == sync).map(|(_, snapshot)| snapshot.clone())
    }

    /// Keeps what was read, or applied, when `sync` snapshots had been applied.
    pub(super) fn keep(&mut self, id: &StripeSubscriptionId, sync: i64, snapshot: Snapshot) {
        self.0.insert(id.clone(), (sync, snapshot));
    }
}

impl Applier {
    /// As `pace::wait`.
    pub(crate) async fn pace(&self) -> Result<()> {
        pace::wait(&self.db, self.reads_per_second).await
    }

    /// Reads a subscription; and its invoices, where the present period is not what was paid for.
    pub(super) async fn read_snapshot(&self, id: &StripeSubscriptionId) -> Result<Snapshot> {
        self.pace().await?;
        let subscription = self.stripe.subscription(id).await?;
        let now = self.clock.now();
        if matches!(subscription.status.as_str(), "active" | "trialing")
            && subscription.is_settled(now)?
        {
            return Ok(Snapshot {
                subscription,
                is_paid: true,
                unpaid_since: None,
                paid_term: None,
            });
        }
        self.pace().await?;
        let invoices = self.stripe.invoices(id).await?;
        let open = invoices.iter().filter(|invoice| {
            invoice.status.as_deref() == Some("open") && !invoice.is_settled(now)
        });
        let unpaid_since = open.filter_map(Invoice::unpaid_since).min();
        let paid_term =
            invoices.iter().filter(|invoice| invoice.is_settled(now)).find_map(Invoice::term);
        Ok(Snapshot { subscription, is_paid: false, unpaid_since, paid_term })
    }
}
