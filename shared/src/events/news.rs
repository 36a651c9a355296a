//! What Stripe says now: read outside any transaction, at a rate that all functions share, and once for all events of a batch that are
//! about the same subscription.

use std::collections::HashMap;

use jiff::Timestamp;
use stripe_shared::InvoiceStatus;

use super::{Applier, pace};
use crate::Result;
use crate::ids::{StripePriceId, StripeSubscriptionId};
use crate::plans::model::Plan;
use crate::stripe::{Item, Subscription};
use crate::subscriptions::word::Word;

/// A Stripe subscription as it was read.
#[derive(Debug, Clone)]
pub(super) struct News {
    pub subscription: Subscription,
    /// Of its oldest open invoice, where it is past due.
    unpaid_since: Option<Timestamp>,
}

impl News {
    /// The word that this is for a subscription with these items' prices resolved.
    pub fn word<'a>(&'a self, item: &Item, price: Option<&'a StripePriceId>, plan: Option<&'a Plan>, now: Timestamp) -> Result<Word<'a>> {
        let period = self.subscription.period(item)?;
        Ok(Word {
            status: &self.subscription.status,
            period,
            is_settled: self.subscription.is_settled(now)?,
            // A payment that failed did so when the present period began, unless an open invoice says better.
            unpaid_since: self.unpaid_since.unwrap_or(period.0),
            cancel_at: self.subscription.cancel_at(),
            is_collection_paused: self.subscription.is_collection_paused(),
            price,
            plan,
            slots: None,
        })
    }
}

/// What a batch has read of Stripe. All of its events happened before their delivery, and so before any read that came after it.
#[derive(Default)]
pub struct Reads(HashMap<StripeSubscriptionId, (i64, News)>);

impl Reads {
    /// What was read, if nobody else has applied a word of it since.
    pub(super) fn of(&self, id: &StripeSubscriptionId, sync: i64) -> Option<News> {
        self.0.get(id).filter(|(seen, _)| *seen == sync).map(|(_, news)| news.clone())
    }

    /// Keeps what was read, or applied, when `sync` words had been applied.
    pub(super) fn keep(&mut self, id: &StripeSubscriptionId, sync: i64, news: News) {
        self.0.insert(id.clone(), (sync, news));
    }
}

impl Applier {
    /// As `pace::wait`.
    pub(super) async fn pace(&self) -> Result<()> {
        pace::wait(&self.db, self.reads_per_second).await
    }

    /// Reads a subscription.
    pub(super) async fn news(&self, id: &StripeSubscriptionId) -> Result<News> {
        self.pace().await?;
        let subscription = self.stripe.subscription(id).await?;
        let mut unpaid_since = None;
        if subscription.status == "past_due" {
            self.pace().await?;
            let open = self.stripe.invoices(id, InvoiceStatus::Open).await?;
            unpaid_since = open.iter().filter(|invoice| invoice.amount_due > 0).filter_map(crate::stripe::Invoice::unpaid_since).min();
        }
        Ok(News { subscription, unpaid_since })
    }

    /// The time that was paid for last, of a subscription that is not settled for its present period.
    pub(super) async fn paid_term(&self, id: &StripeSubscriptionId) -> Result<Option<(Timestamp, Timestamp)>> {
        self.pace().await?;
        Ok(self.stripe.invoices(id, InvoiceStatus::Paid).await?.iter().find_map(crate::stripe::Invoice::term))
    }
}
