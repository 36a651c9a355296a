//! Reads of what is at Stripe: nothing there changes by them.

use serde::Serialize;
use stripe_billing::subscription::{
    ListSubscription, ListSubscriptionStatus, RetrieveSubscription,
};
use stripe_checkout::checkout_session::RetrieveCheckoutSession;
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest as _};

use super::client::Stripe;
use super::errors;
use super::objects::{
    Charge, CheckoutSession, CustomerDetails, Invoice, Items, ListOf, Subscription,
    SubscriptionPage,
};
use crate::Result;
use crate::base::ids::{StripeChargeId, StripeCustomerId, StripeSessionId, StripeSubscriptionId};

fn with_invoice(id: &StripeSubscriptionId) -> RequestBuilder {
    RetrieveSubscription::new(id.as_str()).expand(["latest_invoice".to_owned()]).build()
}

impl Stripe {
    /// Reads a Checkout Session.
    ///
    /// # Errors
    /// `Upstream`: code `stripe_shape` where a needed field is missing.
    pub async fn checkout_session(&self, id: &StripeSessionId) -> Result<CheckoutSession> {
        self.read(RetrieveCheckoutSession::new(id.as_str()).build()).await
    }

    /// As `checkout_session`, for an id that a caller named: `None` where Stripe does not know it.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn find_checkout_session(
        &self,
        id: &StripeSessionId,
    ) -> Result<Option<CheckoutSession>> {
        self.find(RetrieveCheckoutSession::new(id.as_str()).build()).await
    }

    /// Reads a subscription, with its latest invoice.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn subscription(&self, id: &StripeSubscriptionId) -> Result<Subscription> {
        self.read(with_invoice(id)).await
    }

    /// As `subscription`, for an id that a caller named: `None` where Stripe does not know it.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn find_subscription(
        &self,
        id: &StripeSubscriptionId,
    ) -> Result<Option<Subscription>> {
        self.find(with_invoice(id)).await
    }

    /// Reads the next page of a subscription's items, and adds it to those that it has.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn read_more_items(&self, subscription: &mut Subscription) -> Result<()> {
        let last = subscription.items.data.last().and_then(|item| item.id.as_deref());
        let starting_after = last.ok_or_else(|| {
            errors::unreadable(format!("subscription {} has more items than none", subscription.id))
        })?;
        let query = ItemQuery { subscription: &subscription.id, limit: 100, starting_after };
        let request = RequestBuilder::new(StripeMethod::Get, "/subscription_items").query(&query);
        let page: Items = self.read(request).await?;
        let is_last = !page.has_more || page.data.is_empty();
        subscription.items.data.extend(page.data);
        subscription.items.has_more = !is_last;
        Ok(())
    }

    /// Reads a hundred subscriptions, ended ones too, the newest first: those that the list has
    /// after `after`.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn subscriptions(
        &self,
        after: Option<&StripeSubscriptionId>,
    ) -> Result<SubscriptionPage> {
        let list = ListSubscription::new().status(ListSubscriptionStatus::All).limit(100);
        self.read(
            after.into_iter().fold(list, |list, after| list.starting_after(after.as_str())).build(),
        )
        .await
    }

    /// Reads the latest invoices of a subscription, newest first: a hundred, which no delinquency
    /// outlasts.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn invoices(&self, id: &StripeSubscriptionId) -> Result<Vec<Invoice>> {
        let query = InvoiceQuery { subscription: id.as_str(), limit: 100 };
        let request = RequestBuilder::new(StripeMethod::Get, "/invoices").query(&query);
        Ok(self.read::<ListOf<Invoice>>(request).await?.data)
    }

    /// Reads a customer; one that was deleted has nothing but its id.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn customer(&self, id: &StripeCustomerId) -> Result<CustomerDetails> {
        self.read(RequestBuilder::new(StripeMethod::Get, format!("/customers/{id}"))).await
    }

    /// The customer of a charge. A dispute names nothing but its charge.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn customer_of_charge(
        &self,
        id: &StripeChargeId,
    ) -> Result<Option<StripeCustomerId>> {
        let charge: Charge =
            self.read(RequestBuilder::new(StripeMethod::Get, format!("/charges/{id}"))).await?;
        charge
            .customer
            .as_ref()
            .map(|customer| errors::id(StripeCustomerId::parse(customer.id())))
            .transpose()
    }
}

#[derive(Serialize)]
struct ItemQuery<'a> {
    subscription: &'a str,
    limit: u32,
    starting_after: &'a str,
}

#[derive(Serialize)]
struct InvoiceQuery<'a> {
    subscription: &'a str,
    limit: u32,
}
