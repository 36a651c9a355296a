//! Stripe's answers: only the fields that a rule needs, absent and `null` alike, both payload
//! generations (docs/adr/0003-stripe-reads.md).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::errors::{id, unreadable};
use crate::Result;
use crate::base::ids::{Currency, StripeCustomerId, StripePriceId, StripeSubscriptionId};

/// A reference that Stripe gives as an id, or as the object itself where it was expanded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

/// Metadata as our marketing site and our own sessions write it (docs/events.md, "Metadata").
pub type Metadata = BTreeMap<String, String>;

/// A Checkout Session: what a customer is to pay for, and whether they did.
#[derive(Debug, Clone, Deserialize)]
pub struct CheckoutSession {
    /// The id that it was read by.
    pub id: String,
    /// `payment`, `subscription` or `setup`.
    pub mode: String,
    /// `open`, `complete` or `expired`.
    pub status: Option<String>,
    /// `paid`, `unpaid` or `no_payment_required`.
    pub payment_status: String,
    /// What it asks for before tax and discounts, in the currency's smallest unit.
    pub amount_subtotal: Option<i64>,
    /// The currency's code in lower case.
    pub currency: Option<String>,
    customer: Option<Reference>,
    subscription: Option<Reference>,
    invoice: Option<Reference>,
    /// What the customer typed at the checkout.
    #[serde(default, deserialize_with = "null_is_default")]
    pub customer_details: CustomerDetails,
    /// Metadata that we or our site set.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: Metadata,
}

impl CheckoutSession {
    /// Its customer, if one was made.
    ///
    /// # Errors
    /// `Upstream` where its id is malformed.
    pub fn customer(&self) -> Result<Option<StripeCustomerId>> {
        self.customer
            .as_ref()
            .map(|reference| id(StripeCustomerId::parse(reference.id())))
            .transpose()
    }

    /// Its subscription, in mode `subscription` once completed.
    ///
    /// # Errors
    /// `Upstream` where its id is malformed.
    pub fn subscription(&self) -> Result<Option<StripeSubscriptionId>> {
        self.subscription
            .as_ref()
            .map(|reference| id(StripeSubscriptionId::parse(reference.id())))
            .transpose()
    }

    /// The id of the invoice that it paid.
    #[must_use]
    pub fn invoice(&self) -> Option<&str> {
        self.invoice.as_ref().map(Reference::id)
    }
}

/// The details that a customer gave at the checkout.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct CustomerDetails {
    /// Mail address.
    pub email: Option<String>,
    /// Name as typed: a person's or a company's.
    pub name: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// Billing address.
    #[serde(default, deserialize_with = "null_is_default")]
    pub address: Address,
}

/// A billing address.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Address {
    /// First line.
    pub line1: Option<String>,
    /// Second line.
    pub line2: Option<String>,
    /// City.
    pub city: Option<String>,
    /// State or province.
    pub state: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// Two letters.
    pub country: Option<String>,
}

/// A subscription at Stripe.
#[derive(Debug, Clone, Deserialize)]
pub struct Subscription {
    /// The id that it was read by.
    pub id: String,
    /// As Stripe spells it; `subscriptions::model::StripeStatus` reads it.
    pub status: String,
    customer: Option<Reference>,
    /// What it bills.
    pub items: Items,
    /// Metadata that we or our site set.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: Metadata,
    // Before API 2025-03-31 the period was here; since then it is on the items.
    current_period_start: Option<i64>,
    current_period_end: Option<i64>,
    cancel_at: Option<i64>,
    #[serde(default, deserialize_with = "null_is_default")]
    cancel_at_period_end: bool,
    pause_collection: Option<serde_json::Value>,
    currency: Option<String>,
    latest_invoice: Option<Expandable<Invoice>>,
    created: Option<i64>,
}

/// A page of subscriptions.
#[derive(Debug, Clone, Deserialize)]
pub struct SubscriptionPage {
    /// Without their invoices.
    pub data: Vec<Subscription>,
    /// Whether more follow.
    pub has_more: bool,
}

/// An object where its expansion was requested, else its id.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Expandable<T> {
    Object(Box<T>),
    Id(String),
}

#[derive(Deserialize)]
pub(super) struct ListOf<T> {
    pub(super) data: Vec<T>,
}

#[derive(Deserialize)]
pub(super) struct Charge {
    pub(super) customer: Option<Reference>,
}

/// An invoice: what is due, since when, and for which time.
#[derive(Debug, Clone, Deserialize)]
pub struct Invoice {
    /// Its id.
    pub id: String,
    /// `draft`, `open`, `paid`, `void` or `uncollectible`.
    pub status: Option<String>,
    /// The amount due in cents.
    #[serde(default)]
    pub amount_due: i64,
    auto_advance: Option<bool>,
    billing_reason: Option<String>,
    created: i64,
    due_date: Option<i64>,
    #[serde(default, deserialize_with = "null_is_default")]
    status_transitions: StatusTransitions,
    #[serde(default, deserialize_with = "null_is_default")]
    lines: Lines,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct StatusTransitions {
    finalized_at: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Lines {
    data: Vec<InvoiceLine>,
}

#[derive(Debug, Clone, Deserialize)]
struct InvoiceLine {
    period: Period,
    // Before API 2025-03-31 it was here; since then it is in the details of the parent, whichever
    // it has.
    #[serde(default, deserialize_with = "null_is_default")]
    proration: bool,
    #[serde(default)]
    parent: serde_json::Value,
}

impl InvoiceLine {
    fn is_proration(&self) -> bool {
        self.proration
            || ["subscription_item_details", "invoice_item_details"]
                .iter()
                .any(|details| self.parent[*details]["proration"] == true)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Period {
    start: i64,
    end: i64,
}

impl Invoice {
    /// Whether nothing of it is unpaid and due at `now`: it is paid or void, asks for nothing, or
    /// is payable later (`send_invoice`).
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        match self.status.as_deref() {
            Some("paid" | "void") => true,
            Some("open") => {
                self.amount_due == 0 || self.due_date.is_some_and(|due| due > now.as_second())
            }
            _ => self.amount_due == 0,
        }
    }

    /// What was paid for it in cents; none where it is not paid.
    #[must_use]
    pub fn paid_cents(&self) -> Option<i64> {
        (self.status.as_deref() == Some("paid")).then_some(self.amount_due)
    }

    /// Whether something was bought by it at `now`: it was paid, or is payable later. One that asks
    /// for nothing buys only at the beginning: a trial, or what a coupon pays.
    #[must_use]
    pub fn is_purchase(&self, now: Timestamp) -> bool {
        match self.status.as_deref() {
            Some("paid") => {
                self.amount_due > 0 || self.billing_reason.as_deref() == Some("subscription_create")
            }
            Some("open") => self.due_date.is_some_and(|due| due > now.as_second()),
            _ => false,
        }
    }

    /// Whether Stripe does not collect it though it is not paid: it was written off, or is kept as
    /// a draft.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        match self.status.as_deref() {
            Some("uncollectible") => true,
            Some("draft") => self.auto_advance == Some(false),
            _ => false,
        }
    }

    /// From when on it is unpaid: when it was due, else when it was finalized.
    #[must_use]
    pub fn unpaid_since(&self) -> Option<Timestamp> {
        Timestamp::from_second(
            self.due_date.or(self.status_transitions.finalized_at).unwrap_or(self.created),
        )
        .ok()
    }

    /// The time that it pays for: of its line that ends last, corrections of a running period
    /// aside.
    #[must_use]
    pub fn term(&self) -> Option<(Timestamp, Timestamp)> {
        let last = self
            .lines
            .data
            .iter()
            .filter(|line| !line.is_proration())
            .map(|line| &line.period)
            .max_by_key(|period| period.end)?;
        Some((Timestamp::from_second(last.start).ok()?, Timestamp::from_second(last.end).ok()?))
    }
}

/// A page of subscription items.
#[derive(Debug, Clone, Deserialize)]
pub struct Items {
    /// The page.
    pub data: Vec<Item>,
    /// Whether Stripe holds more than it answered.
    #[serde(default)]
    pub has_more: bool,
}

/// One price and its quantity.
#[derive(Debug, Clone, Deserialize)]
pub struct Item {
    /// Its id, to change it by.
    pub id: Option<String>,
    price: Price,
    quantity: Option<i64>,
    current_period_start: Option<i64>,
    current_period_end: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Price {
    id: String,
    currency: Option<String>,
    recurring: Option<Recurring>,
}

#[derive(Debug, Clone, Deserialize)]
struct Recurring {
    interval: String,
}

impl Item {
    /// Its price.
    ///
    /// # Errors
    /// `Upstream` where its id is malformed.
    pub fn price(&self) -> Result<StripePriceId> {
        id(StripePriceId::parse(&self.price.id))
    }

    /// What its price is in; none where Stripe does not say so in three letters.
    #[must_use]
    pub fn currency(&self) -> Option<Currency> {
        code(self.price.currency.as_deref())
    }

    /// How many of it are paid for; 1 where Stripe does not count.
    #[must_use]
    pub fn quantity(&self) -> i32 {
        self.quantity.map_or(1, |quantity| i32::try_from(quantity.max(0)).unwrap_or(i32::MAX))
    }

    /// How often it is paid, in Stripe's spelling: `month`, `year`, and others that we do not sell
    /// by.
    #[must_use]
    pub fn interval(&self) -> Option<&str> {
        self.price.recurring.as_ref().map(|recurring| recurring.interval.as_str())
    }
}

impl Subscription {
    /// Its customer.
    ///
    /// # Errors
    /// `Upstream` where its id is malformed.
    pub fn customer(&self) -> Result<Option<StripeCustomerId>> {
        self.customer
            .as_ref()
            .map(|reference| id(StripeCustomerId::parse(reference.id())))
            .transpose()
    }

    /// The present period of `item`, `[start, end)` in UTC, from either payload generation.
    ///
    /// # Errors
    /// `Upstream` (`stripe_shape`) where neither has it: never "no term".
    pub fn period(&self, item: &Item) -> Result<(Timestamp, Timestamp)> {
        let missing = || unreadable(format!("subscription {} has no current period", self.id));
        let start = item.current_period_start.or(self.current_period_start).ok_or_else(missing)?;
        let end = item.current_period_end.or(self.current_period_end).ok_or_else(missing)?;
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| missing());
        Ok((instant(start)?, instant(end)?))
    }

    /// When Stripe will end it: none while it renews.
    #[must_use]
    pub fn cancel_at(&self) -> Option<Timestamp> {
        let of_period = || {
            self.items
                .data
                .iter()
                .filter_map(|item| item.current_period_end.or(self.current_period_end))
                .min()
        };
        let seconds =
            self.cancel_at.or_else(|| of_period().filter(|_| self.cancel_at_period_end))?;
        Timestamp::from_second(seconds).ok()
    }

    /// What it is charged in; else what its first price is in.
    #[must_use]
    pub fn currency(&self) -> Option<Currency> {
        code(self.currency.as_deref()).or_else(|| self.items.data.first()?.currency())
    }

    /// When it was created, if Stripe names that.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.created.and_then(|seconds| Timestamp::from_second(seconds).ok())
    }

    /// Whether invoices are made, but not collected.
    #[must_use]
    pub fn is_collection_paused(&self) -> bool {
        self.pause_collection.is_some()
    }

    /// Its latest invoice, if it has one.
    ///
    /// # Errors
    /// `Upstream` (`stripe_shape`) where the answer lacks the requested invoice.
    pub fn latest_invoice(&self) -> Result<Option<&Invoice>> {
        match &self.latest_invoice {
            None => Ok(None),
            Some(Expandable::Object(invoice)) => Ok(Some(invoice)),
            Some(Expandable::Id(id)) => Err(unreadable(format!(
                "subscription {} was answered without its invoice {id}",
                self.id
            ))),
        }
    }
}

fn code(currency: Option<&str>) -> Option<Currency> {
    Currency::parse(&currency?.to_ascii_lowercase()).ok()
}

/// Stripe writes `null` where others leave a field out.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(on_item: &str, on_subscription: &str) -> Subscription {
        let text = format!(
            r#"{{"id":"sub_1","status":"active","customer":{{"id":"cus_1"}},
                "metadata":null{on_subscription},
                "items":{{"data":[{{"price":{{"id":"price_1"}},"quantity":1{on_item}}}]}}}}"#
        );
        serde_json::from_str(&text).expect("readable")
    }

    #[test]
    fn the_period_is_read_from_both_payload_generations() {
        const PERIOD: &str =
            r#","current_period_start":1767225600,"current_period_end":1798761600"#;
        for (on_item, on_subscription) in [(PERIOD, ""), ("", PERIOD)] {
            let subscription = subscription(on_item, on_subscription);
            let (start, end) = subscription.period(&subscription.items.data[0]).expect("a period");
            assert_eq!(
                (start.to_string().as_str(), end.to_string().as_str()),
                ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
            );
        }
    }

    #[test]
    fn a_missing_period_is_an_error_and_never_no_change() {
        let subscription = subscription("", "");
        assert_eq!(
            subscription.period(&subscription.items.data[0]).expect_err("refused").code(),
            "stripe_shape"
        );
    }

    #[test]
    fn an_expanded_customer_is_read_like_an_id() {
        assert_eq!(
            subscription("", "").customer().expect("well formed").expect("there").as_str(),
            "cus_1"
        );
    }

    #[test]
    fn null_where_an_object_is_expected_is_read_as_absent() {
        let text = r#"{"id":"cs_1","mode":"subscription","payment_status":"paid","customer":null,
            "subscription":null,"customer_details":null,"metadata":null}"#;
        let session: CheckoutSession = serde_json::from_str(text).expect("readable");
        assert!(session.metadata.is_empty() && session.customer_details.email.is_none());
        let text = r#"{"id":"cs_1","mode":"subscription","payment_status":"paid",
            "customer_details":{"email":null,"address":null}}"#;
        let session: CheckoutSession = serde_json::from_str(text).expect("readable");
        assert!(session.customer_details.address.line1.is_none());
    }
}
