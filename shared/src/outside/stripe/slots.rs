//! Slots that customers add to a subscription: one payment for the rest of a term, and the items
//! that Stripe renews them by.

use std::collections::HashMap;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use stripe_billing::subscription_item::{
    CreateSubscriptionItem, CreateSubscriptionItemProrationBehavior, DeleteSubscriptionItem,
    DeleteSubscriptionItemProrationBehavior, UpdateSubscriptionItem,
    UpdateSubscriptionItemProrationBehavior,
};
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionAllowedPaymentMethodTypes,
    CreateCheckoutSessionInvoiceCreation, CreateCheckoutSessionLineItems,
    CreateCheckoutSessionLineItemsPriceData, ProductData,
};
use stripe_client_core::StripeRequest as _;
use stripe_shared::CheckoutSessionMode;

use super::client::Stripe;
use super::writes::OpenSession;
use crate::Result;
use crate::base::ids::{
    AddonOrderId, Currency, StripeCustomerId, StripePriceId, StripeSubscriptionId, SubscriptionId,
    TenantId,
};

/// A payment for slots to open.
pub struct NewPayment<'a> {
    /// The tenant that buys.
    pub tenant: &'a TenantId,
    /// Its customer at Stripe, which pays.
    pub customer: &'a StripeCustomerId,
    /// The MAIN that gets the slots.
    pub parent: &'a SubscriptionId,
    /// The order, which holds slots and price.
    pub order: &'a AddonOrderId,
    /// What each line is called, and its amount in the currency's smallest unit.
    pub lines: &'a [(String, i64)],
    /// What is paid in.
    pub currency: &'a Currency,
    /// When it closes: at least 30 minutes ahead.
    pub expires_at: Timestamp,
    /// Where the customer goes after paying.
    pub success_url: &'a str,
    /// Where the customer goes without having paid.
    pub cancel_url: &'a str,
}

fn at_stripe(currency: &Currency) -> stripe_types::Currency {
    let Ok(currency) = currency.as_str().parse();
    currency
}

/// Whether it is one that Stripe charges in.
pub(crate) fn is_known_currency(currency: &Currency) -> bool {
    !matches!(at_stripe(currency), stripe_types::Currency::Unknown(_))
}

impl Stripe {
    /// Opens a checkout of one payment, of exactly the sum of the lines, by a card: other methods
    /// may confirm days later, when the term that was priced has passed. The same `key` again
    /// is the same session.
    ///
    /// # Errors
    /// As `create_customer`; `Conflict` (`SESSION_TOO_SHORT`).
    pub async fn create_payment_session(
        &self,
        new: &NewPayment<'_>,
        key: &str,
    ) -> Result<OpenSession> {
        let metadata = HashMap::from([
            ("tenant_id".to_owned(), new.tenant.to_string()),
            ("parent_subscription_id".to_owned(), new.parent.to_string()),
            ("addon_order_id".to_owned(), new.order.to_string()),
        ]);
        let line = |(name, cents): &(String, i64)| CreateCheckoutSessionLineItems {
            price_data: Some(CreateCheckoutSessionLineItemsPriceData {
                product_data: Some(ProductData::new(name)),
                unit_amount: Some(*cents),
                ..CreateCheckoutSessionLineItemsPriceData::new(at_stripe(new.currency))
            }),
            // The line's own amount, once: a rounded price of one slot, times their number, would
            // be another sum.
            quantity: Some(1),
            ..CreateCheckoutSessionLineItems::new()
        };
        let lines: Vec<_> = new.lines.iter().map(line).collect();
        let create = CreateCheckoutSession::new()
            .mode(CheckoutSessionMode::Payment)
            .customer(new.customer.as_str())
            .line_items(lines)
            .metadata(metadata);
        let create = create
            .allowed_payment_method_types([CreateCheckoutSessionAllowedPaymentMethodTypes::Card])
            .expires_at(new.expires_at.as_second());
        let create = create.invoice_creation(CreateCheckoutSessionInvoiceCreation {
            enabled: true,
            invoice_data: None,
        });
        self.write(create.success_url(new.success_url).cancel_url(new.cancel_url).build(), key)
            .await
    }

    /// Adds an item to a subscription, without charging for the present period. The same `key`
    /// again is the same item.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn add_item(
        &self,
        subscription: &StripeSubscriptionId,
        price: &StripePriceId,
        quantity: u64,
        key: &str,
    ) -> Result<()> {
        let add = CreateSubscriptionItem::new(subscription.as_str())
            .price(price.as_str())
            .quantity(quantity);
        let add = add.proration_behavior(CreateSubscriptionItemProrationBehavior::None);
        self.send(Method::POST, &add.build(), Some(key)).await?;
        Ok(())
    }

    /// Sets the quantity of an item, without charging or crediting the present period.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn set_item_quantity(&self, item: &str, quantity: u64, key: &str) -> Result<()> {
        let set = UpdateSubscriptionItem::new(item)
            .quantity(quantity)
            .proration_behavior(UpdateSubscriptionItemProrationBehavior::None);
        self.send(Method::POST, &set.build(), Some(key)).await?;
        Ok(())
    }

    /// Takes an item off its subscription, without crediting the present period. One that is gone
    /// already is success: an attempt whose answer was lost may have taken it.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn remove_item(&self, item: &str) -> Result<()> {
        let remove = DeleteSubscriptionItem::new(item)
            .proration_behavior(DeleteSubscriptionItemProrationBehavior::None);
        match self.send(Method::DELETE, &remove.build(), None).await {
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(()),
            Err(failure) => Err(failure.error),
            Ok(_) => Ok(()),
        }
    }
}
