//! Writes that may be repeated: each POST has an idempotency key.

use std::collections::{BTreeMap, HashMap};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use stripe_billing::subscription::CancelSubscription;
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, CreateCheckoutSessionSubscriptionData,
};
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest as _};
use stripe_shared::CheckoutSessionMode;

use super::client::Stripe;
use crate::base::ids::{
    PlanId, StripeCustomerId, StripePriceId, StripeSessionId, StripeSubscriptionId, TenantId,
};
use crate::{Error, Result};

/// A customer to make.
pub struct NewCustomer<'a> {
    /// The tenant that it is for.
    pub tenant: &'a TenantId,
    /// The company's name.
    pub name: &'a str,
    /// Where Stripe sends invoices.
    pub email: Option<&'a str>,
}

/// Parts of a customer to set: `None` leaves one as it is, and an empty text clears it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "Stripe's fields of the same names")]
pub struct CustomerChange<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressChange<'a>>,
}

/// A whole address to set; an empty text clears its line.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "Stripe's fields of the same names")]
pub struct AddressChange<'a> {
    pub line1: &'a str,
    pub line2: &'a str,
    pub city: &'a str,
    pub state: &'a str,
    pub postal_code: &'a str,
    pub country: &'a str,
}

/// A checkout to open.
pub struct NewSession<'a> {
    /// The tenant that buys.
    pub tenant: &'a TenantId,
    /// Its customer at Stripe, which pays.
    pub customer: &'a StripeCustomerId,
    /// The plan that it buys.
    pub plan: &'a PlanId,
    /// The plan's price for the chosen interval.
    pub price: &'a StripePriceId,
    /// Whether it is wanted in addition to another one.
    pub additional: bool,
    /// Where the customer goes after paying.
    pub success_url: &'a str,
    /// Where the customer goes without having paid.
    pub cancel_url: &'a str,
}

/// A checkout that was opened.
#[derive(Debug, Clone, Deserialize)]
pub struct OpenSession {
    /// The session's id.
    pub id: StripeSessionId,
    /// The page to pay on.
    pub url: String,
}

impl Stripe {
    /// Makes a customer. The same `key` again is the same customer.
    ///
    /// # Errors
    /// `Upstream`; refusals that the user can act on; `Conflict` (`KEY_SPENT`).
    pub async fn create_customer(
        &self,
        new: &NewCustomer<'_>,
        key: &str,
    ) -> Result<StripeCustomerId> {
        let metadata = BTreeMap::from([("tenant_id", new.tenant.as_str())]);
        let form = CustomerForm { name: new.name, email: new.email, metadata };
        let made: CreatedCustomer = self
            .write(RequestBuilder::new(StripeMethod::Post, "/customers").form(&form), key)
            .await?;
        Ok(made.id)
    }

    /// Sets parts of a customer. Setting the same again changes nothing.
    ///
    /// # Errors
    /// As `create_customer`.
    pub async fn update_customer(
        &self,
        id: &StripeCustomerId,
        change: &CustomerChange<'_>,
        key: &str,
    ) -> Result<()> {
        let request = RequestBuilder::new(StripeMethod::Post, format!("/customers/{id}"));
        self.write::<CreatedCustomer>(request.form(change), key).await.map(drop)
    }

    /// Opens a checkout of a subscription. The same `key` again is the same session.
    ///
    /// # Errors
    /// As `create_customer`.
    pub async fn create_checkout_session(
        &self,
        new: &NewSession<'_>,
        key: &str,
    ) -> Result<OpenSession> {
        let mut metadata = HashMap::from([
            ("tenant_id".to_owned(), new.tenant.to_string()),
            ("plan_id".to_owned(), new.plan.to_string()),
        ]);
        if new.additional {
            metadata.insert("additional".to_owned(), "true".to_owned());
        }
        let item = CreateCheckoutSessionLineItems {
            price: Some(new.price.to_string()),
            quantity: Some(1),
            ..CreateCheckoutSessionLineItems::new()
        };
        let subscription = CreateCheckoutSessionSubscriptionData {
            metadata: Some(metadata.clone()),
            ..CreateCheckoutSessionSubscriptionData::new()
        };
        let create = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Subscription)
            .customer(new.customer.as_str())
            .line_items([item]);
        let create = create
            .metadata(metadata)
            .subscription_data(subscription)
            .success_url(new.success_url)
            .cancel_url(new.cancel_url);
        self.write(create.build(), key).await
    }

    /// Opens the billing portal for a customer, and answers its address.
    ///
    /// # Errors
    /// As `create_customer`.
    pub async fn create_portal_session(
        &self,
        customer: &StripeCustomerId,
        return_url: &str,
        key: &str,
    ) -> Result<String> {
        let form = PortalForm { customer: customer.as_str(), return_url };
        let opened: OpenPortal = self
            .write(
                RequestBuilder::new(StripeMethod::Post, "/billing_portal/sessions").form(&form),
                key,
            )
            .await?;
        Ok(opened.url)
    }

    /// Ends a subscription at once. One that has ended already is success: an attempt whose answer
    /// was lost may have ended it.
    ///
    /// Stripe answers 404 for a canceled subscription and for an unknown one alike, so a refusal is
    /// followed by a read. There is no idempotency key: Stripe has them for POST only, and a
    /// repeated DELETE changes nothing.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn cancel_subscription(&self, id: &StripeSubscriptionId) -> Result<()> {
        let Err(refusal) = self
            .send(Method::DELETE, &CancelSubscription::new(id.as_str()).build(), None)
            .await
            .map_err(Error::from)
        else {
            return Ok(());
        };
        if refusal.is_transient() {
            return Err(refusal);
        }
        match self.subscription(id).await {
            Ok(found) if found.status == "canceled" => Ok(()),
            Err(unknown) if unknown.is_transient() => Err(unknown),
            _ => Err(refusal),
        }
    }
}

// The request crate of customers and that of the portal are not among ours: their two forms are
// small.
#[derive(Serialize)]
struct CustomerForm<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    metadata: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
struct PortalForm<'a> {
    customer: &'a str,
    return_url: &'a str,
}

#[derive(Deserialize)]
struct CreatedCustomer {
    id: StripeCustomerId,
}

#[derive(Deserialize)]
struct OpenPortal {
    url: String,
}
