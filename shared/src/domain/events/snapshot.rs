//! What Stripe says now: read outside any transaction, at a rate that all functions share, and once
//! for all events of a batch that are about the same subscription.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::stripe_state::StripeState;
use super::{Applier, pace};
use crate::Result;
use crate::base::ids::{StripePriceId, StripeSubscriptionId};
use crate::domain::families::subscription::StripeItem;
use crate::domain::plans::model::Plan;
use crate::outside::stripe::{Invoice, Item, Subscription};

/// How long a payment may be under way: a bank debit fails after 14 working days at the latest
/// (docs/adr/0014-paused-pending-unpaid.md).
const PENDING: SignedDuration = SignedDuration::from_hours(21 * 24);

/// A Stripe subscription as it was read.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub subscription: Subscription,
    /// When it was read.
    read_at: Timestamp,
    payment: Payment,
    /// Whether any of its invoices bought something; none where not all of them were read.
    was_bought: Option<bool>,
    /// The invoice by which the present period is paid.
    pub paid_by: Option<String>,
    /// The oldest that is due and not paid.
    pub unpaid: Option<String>,
}

/// How the present period is paid.
#[derive(Debug, Clone)]
enum Payment {
    /// Nothing is due for it: it is paid, not due yet, written off, or not collected on purpose.
    /// `invoice_paid` is in cents, where its latest invoice was paid.
    NothingDue { invoice_paid: Option<i64> },
    /// Something is due for it, or it has ended.
    Due {
        /// Of its oldest open invoice.
        unpaid_since: Option<Timestamp>,
        /// Of its latest settled invoice: a sync that comes late must find what was paid meanwhile.
        paid_term: Option<(Timestamp, Timestamp)>,
        /// In cents, where that invoice was paid.
        invoice_paid: Option<i64>,
        /// Since when the oldest one is waited for that is newer, if Stripe has neither got its
        /// payment nor been refused it.
        pending_since: Option<Timestamp>,
    },
}

impl Snapshot {
    /// The state that this is, with its price and its plan resolved.
    pub(super) fn state<'a>(
        &'a self,
        item: &Item,
        price: Option<&'a StripePriceId>,
        (plan, quantity): (Option<&'a Plan>, i32),
    ) -> Result<StripeState<'a>> {
        let period = self.subscription.period(item)?;
        let (paid_term, invoice_paid, unpaid_since, pending_since) = match self.payment {
            Payment::NothingDue { invoice_paid } => (Some(period), invoice_paid, None, None),
            Payment::Due { paid_term, invoice_paid, unpaid_since, pending_since } => {
                (paid_term, invoice_paid, unpaid_since, pending_since)
            }
        };
        Ok(StripeState {
            status: &self.subscription.status,
            read_at: self.read_at,
            period,
            paid_term,
            invoice_paid,
            // A payment that failed did so when the present period began, unless an open invoice
            // says better.
            unpaid_since: unpaid_since.unwrap_or(period.0),
            pending_until: pending_since.map(|since| since + PENDING),
            cancel_at: self.subscription.cancel_at(),
            is_collection_paused: self.subscription.is_collection_paused(),
            currency: self.subscription.currency(),
            price,
            items: items_of(&self.subscription)?,
            plan,
            quantity,
            slots: None,
        })
    }
}

/// What a subscription pays for, in one order.
pub(super) fn items_of(subscription: &Subscription) -> Result<Vec<StripeItem>> {
    let item = |item: &Item| Ok(StripeItem { price_id: item.price()?, quantity: item.quantity() });
    let mut items: Vec<StripeItem> =
        subscription.items.data.iter().map(item).collect::<Result<_>>()?;
    items.sort_unstable();
    Ok(items)
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

    /// Reads the items that a subscription was answered without.
    pub(super) async fn read_all_items(&self, subscription: &mut Subscription) -> Result<()> {
        while subscription.items.has_more {
            self.pace().await?;
            self.stripe.read_more_items(subscription).await?;
        }
        Ok(())
    }

    /// Reads a subscription; and its invoices, where the present period is not what was paid for.
    pub(super) async fn read_snapshot(&self, id: &StripeSubscriptionId) -> Result<Snapshot> {
        self.pace().await?;
        let subscription = self.stripe.subscription(id).await?;
        self.complete_snapshot(id, subscription).await
    }

    /// The same, of a subscription that was read.
    pub(super) async fn complete_snapshot(
        &self,
        id: &StripeSubscriptionId,
        mut subscription: Subscription,
    ) -> Result<Snapshot> {
        self.read_all_items(&mut subscription).await?;
        let read_at = self.clock.now();
        let runs = matches!(subscription.status.as_str(), "active" | "trialing");
        let latest = if runs { subscription.latest_invoice()? } else { None };
        let nothing_due = |invoice: &Invoice| {
            invoice.is_settled(read_at)
                || invoice.is_left_alone()
                || subscription.is_collection_paused()
        };
        if runs && latest.is_none_or(nothing_due) {
            let payment =
                Payment::NothingDue { invoice_paid: latest.and_then(Invoice::paid_cents) };
            let paid_by = latest.map(|invoice| invoice.id.clone());
            let was_bought =
                latest.is_some_and(|invoice| invoice.is_purchase(read_at)).then_some(true);
            let unpaid = None;
            return Ok(Snapshot { subscription, read_at, payment, was_bought, paid_by, unpaid });
        }
        self.pace().await?;
        let invoices = self.stripe.invoices(id).await?;
        let open = invoices.iter().filter(|invoice| {
            invoice.status.as_deref() == Some("open") && !invoice.is_settled(read_at)
        });
        let unpaid =
            open.filter_map(|invoice| Some((invoice.unpaid_since()?, invoice.id.clone()))).min();
        let (unpaid_since, unpaid) = unpaid.unzip();
        let mut settled = invoices.iter().filter(|invoice| invoice.is_settled(read_at));
        let paid = settled.find_map(|invoice| Some((invoice.term()?, invoice)));
        let payment = Payment::Due {
            unpaid_since,
            paid_term: paid.map(|(term, _)| term),
            invoice_paid: paid.and_then(|(_, invoice)| invoice.paid_cents()),
            // Stripe makes a subscription past due once an attempt has failed. Until then a bank
            // debit is on its way, or the invoice is a draft.
            pending_since: invoices
                .iter()
                .take_while(|invoice| !invoice.is_settled(read_at))
                .filter(|invoice| runs && !invoice.is_left_alone())
                .filter_map(Invoice::unpaid_since)
                .min(),
        };
        let paid_by = paid.map(|(_, invoice)| invoice.id.clone());
        let was_bought = Some(invoices.iter().any(|invoice| invoice.is_purchase(read_at)));
        Ok(Snapshot { subscription, read_at, payment, was_bought, paid_by, unpaid })
    }

    /// Whether anything was ever paid for it, or is payable later. Stripe runs what was bought by
    /// bank debit before the money comes, if it does.
    pub(super) async fn was_bought(
        &self,
        id: &StripeSubscriptionId,
        snapshot: &Snapshot,
    ) -> Result<bool> {
        if let Some(was_bought) = snapshot.was_bought {
            return Ok(was_bought);
        }
        self.pace().await?;
        let invoices = self.stripe.invoices(id).await?;
        Ok(invoices.iter().any(|invoice| invoice.is_purchase(snapshot.read_at)))
    }
}
