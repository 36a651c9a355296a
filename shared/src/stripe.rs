//! Stripe's API: reads of the state that entitlements depend on, and the end of a subscription.
//!
//! Requests, their paths and the pinned API version are async-stripe's; the transport is ours (pooled connections, time-outs,
//! retries, key rotation), and so are the answers' types: only the fields that a rule needs, absent and `null` alike, both payload
//! generations (docs/adr/0003-stripe-reads.md). Nothing here knows the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stripe_billing::subscription::{CancelSubscription, RetrieveSubscription};
use stripe_checkout::checkout_session::RetrieveCheckoutSession;
use stripe_client_core::{RequestBuilder, StripeRequest};

use crate::error::{Service, with_causes};
use crate::ids::{StripeCustomerId, StripePriceId, StripeSessionId, StripeSubscriptionId};
use crate::secrets::Secrets;
use crate::{Error, Result};

/// Tries of one request before its message goes back to the queue, or its step waits, and how long each may take.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);

/// How long all of them may take together: two reads fit into what one event has (`events::EVENT_BUDGET`), so that a stalled Stripe is
/// what is noted, and not the event's own end.
const REQUEST_BUDGET: Duration = Duration::from_secs(11);

/// Stripe in one account and mode.
pub struct Stripe {
    http: reqwest::Client,
    base: String,
    secrets: Arc<Secrets>,
}

impl Stripe {
    /// A client of the API at `base` (without `/v1`). Connects at the first request.
    ///
    /// # Errors
    /// `Setting` where the secret key is missing or malformed.
    pub fn new(base: String, secrets: Arc<Secrets>) -> Result<Self> {
        secrets.stripe_secret_key()?;
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).timeout(ATTEMPT_TIMEOUT).build();
        let http = http.map_err(|error| Error::Internal(format!("HTTP client: {error}")))?;
        Ok(Self { http, base, secrets })
    }

    /// Whether the key is one of live mode. Events of the other mode are not ours.
    ///
    /// # Errors
    /// `Setting`.
    pub fn livemode(&self) -> Result<bool> {
        Ok(self.secrets.stripe_secret_key()?.contains("_live_"))
    }

    /// Reads a Checkout Session.
    ///
    /// # Errors
    /// `Upstream`; `Conflict` (`stripe_shape`) where a needed field is missing.
    pub async fn checkout_session(&self, id: &StripeSessionId) -> Result<CheckoutSession> {
        self.read(RetrieveCheckoutSession::new(id.as_str()).build()).await
    }

    /// Reads a subscription.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn subscription(&self, id: &StripeSubscriptionId) -> Result<Subscription> {
        self.read(RetrieveSubscription::new(id.as_str()).build()).await
    }

    /// Ends a subscription at once. One that has ended already is success, whoever ended it: a try whose answer was lost may have.
    ///
    /// Stripe answers 404 for a subscription that is canceled, as for one that it does not know, so a refusal is read back. There is no
    /// idempotency key: Stripe has them for POST only, and a DELETE that is repeated changes nothing.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn cancel_subscription(&self, id: &StripeSubscriptionId) -> Result<()> {
        let Err(refusal) = self.send(Method::DELETE, &CancelSubscription::new(id.as_str()).build()).await else { return Ok(()) };
        if refusal.is_transient() {
            return Err(refusal);
        }
        match self.subscription(id).await {
            Ok(found) if found.status == "canceled" => Ok(()),
            Err(unknown) if unknown.is_transient() => Err(unknown),
            _ => Err(refusal),
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let answer = self.send(Method::GET, &request).await?;
        serde_json::from_slice(&answer).map_err(|error| Error::conflict("stripe_shape", format!("Stripe's answer to {}: {error}", request.path)))
    }

    async fn send(&self, method: Method, request: &RequestBuilder) -> Result<Bytes> {
        let in_time = tokio::time::timeout(REQUEST_BUDGET, self.send_patiently(&method, request)).await;
        let late = || format!("{method} {} was not answered within {} s", request.path, REQUEST_BUDGET.as_secs());
        in_time.unwrap_or_else(|_| Err(Error::unavailable(Service::Stripe, late())))
    }

    /// A request of ours may be repeated: a read changes nothing, and neither does the second DELETE.
    async fn send_patiently(&self, method: &Method, request: &RequestBuilder) -> Result<Bytes> {
        let mut attempt = 1;
        let mut refreshed = false;
        loop {
            let error = match self.try_send(method, request).await {
                Ok(answer) => return Ok(answer),
                Err((Some(StatusCode::UNAUTHORIZED), error)) => {
                    if refreshed || !self.secrets.refresh().await? {
                        return Err(error);
                    }
                    refreshed = true;
                    continue;
                }
                Err((_, error)) => error,
            };
            if attempt == ATTEMPTS || !error.is_transient() {
                return Err(error);
            }
            tracing::warn!(%error, attempt, "Stripe request failed");
            tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt * attempt))).await;
            attempt += 1;
        }
    }

    async fn try_send(&self, method: &Method, request: &RequestBuilder) -> std::result::Result<Bytes, (Option<StatusCode>, Error)> {
        let query = request.query.as_deref().filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{}/v1{}{query}", self.base, request.path);
        let unreachable = |error: reqwest::Error| (None, Error::unavailable(Service::Stripe, with_causes(&error.without_url())));
        let key = self.secrets.stripe_secret_key().map_err(|error| (None, error))?;
        let call = self.http.request(method.clone(), url).bearer_auth(key).header("Stripe-Version", stripe_shared::version::VERSION.as_str());
        let answer = call.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return answer.bytes().await.map_err(unreachable);
        }
        let request_id = answer.headers().get("request-id").and_then(|id| id.to_str().ok()).unwrap_or("none").to_owned();
        let said = answer.json::<ErrorAnswer>().await.map(|body| body.error.message.unwrap_or_default()).unwrap_or_default();
        let detail = format!("{method} {} answered {status}: {said} (request {request_id})", request.path);
        Err((Some(status), Error::Upstream { service: Service::Stripe, transient: status_is_transient(status), detail }))
    }
}

/// By Stripe's "Advanced error handling": a conflict, a rate limit and a server error pass. A key that is refused or may not read is
/// mended by an operator, and what waits must outlive that. A 404 is never an expiry: it is an error of ours that a person must see.
fn status_is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::FAILED_DEPENDENCY
        )
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: Option<String>,
}

/// A reference that Stripe gives as an id, or as the object itself where it was expanded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

/// Metadata as our marketing site and our own sessions write it (docs/events.md, "Metadata").
pub type Metadata = BTreeMap<String, String>;

/// A Checkout Session: what a customer was asked to pay for, and whether they did.
#[derive(Debug, Clone, Deserialize)]
pub struct CheckoutSession {
    /// Its id, once more.
    pub id: String,
    /// `payment`, `subscription` or `setup`.
    pub mode: String,
    /// `paid`, `unpaid` or `no_payment_required`.
    pub payment_status: String,
    customer: Option<Reference>,
    subscription: Option<Reference>,
    /// What the customer typed at the checkout.
    #[serde(default, deserialize_with = "null_is_default")]
    pub customer_details: CustomerDetails,
    /// Ours.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: Metadata,
}

impl CheckoutSession {
    /// Its customer, if one was made.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn customer(&self) -> Result<Option<StripeCustomerId>> {
        self.customer.as_ref().map(|reference| StripeCustomerId::parse(reference.id())).transpose()
    }

    /// Its subscription, in mode `subscription` once completed.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn subscription(&self) -> Result<Option<StripeSubscriptionId>> {
        self.subscription.as_ref().map(|reference| StripeSubscriptionId::parse(reference.id())).transpose()
    }
}

/// Who checked out.
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
    /// Its id, once more.
    pub id: String,
    /// As Stripe spells it; `subscriptions::model::StripeStatus` reads it.
    pub status: String,
    customer: Option<Reference>,
    /// What it bills.
    pub items: Items,
    /// Ours.
    #[serde(default, deserialize_with = "null_is_default")]
    pub metadata: Metadata,
    // Before API 2025-03-31 the period stood here, since then it stands on the items.
    current_period_start: Option<i64>,
    current_period_end: Option<i64>,
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
    price: Price,
    /// How many; a plan's is 1.
    pub quantity: Option<u32>,
    current_period_start: Option<i64>,
    current_period_end: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
struct Price {
    id: String,
}

impl Item {
    /// Its price.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn price(&self) -> Result<StripePriceId> {
        StripePriceId::parse(&self.price.id)
    }
}

impl Subscription {
    /// Its customer.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn customer(&self) -> Result<Option<StripeCustomerId>> {
        self.customer.as_ref().map(|reference| StripeCustomerId::parse(reference.id())).transpose()
    }

    /// The present period of `item`, `[start, end)` in UTC, from either payload generation.
    ///
    /// # Errors
    /// `Conflict` (`stripe_shape`) where neither has it: never "no term".
    pub fn period(&self, item: &Item) -> Result<(Timestamp, Timestamp)> {
        let missing = || Error::conflict("stripe_shape", format!("Stripe subscription {} has no current period", self.id));
        let start = item.current_period_start.or(self.current_period_start).ok_or_else(missing)?;
        let end = item.current_period_end.or(self.current_period_end).ok_or_else(missing)?;
        let instant = |seconds| Timestamp::from_second(seconds).map_err(|_| missing());
        Ok((instant(start)?, instant(end)?))
    }
}

/// Stripe writes `null` where others leave a field out.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(on_item: &str, on_subscription: &str) -> Subscription {
        let text = format!(
            r#"{{"id":"sub_1","status":"active","customer":{{"id":"cus_1"}},"metadata":null{on_subscription},
                "items":{{"data":[{{"price":{{"id":"price_1"}},"quantity":1{on_item}}}]}}}}"#
        );
        serde_json::from_str(&text).expect("readable")
    }

    #[test]
    fn the_period_is_read_from_both_payload_generations() {
        const PERIOD: &str = r#","current_period_start":1767225600,"current_period_end":1798761600"#;
        for (on_item, on_subscription) in [(PERIOD, ""), ("", PERIOD)] {
            let subscription = subscription(on_item, on_subscription);
            let (start, end) = subscription.period(&subscription.items.data[0]).expect("a period");
            assert_eq!((start.to_string().as_str(), end.to_string().as_str()), ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"));
        }
    }

    #[test]
    fn a_missing_period_is_an_error_and_never_no_change() {
        let subscription = subscription("", "");
        assert_eq!(subscription.period(&subscription.items.data[0]).expect_err("refused").code(), "stripe_shape");
    }

    #[test]
    fn an_expanded_customer_is_read_like_an_id() {
        assert_eq!(subscription("", "").customer().expect("well formed").expect("there").as_str(), "cus_1");
    }

    #[test]
    fn null_where_an_object_is_expected_is_read_as_absent() {
        let text = r#"{"id":"cs_1","mode":"subscription","payment_status":"paid","customer":null,"subscription":null,"customer_details":null,"metadata":null}"#;
        let session: CheckoutSession = serde_json::from_str(text).expect("readable");
        assert!(session.metadata.is_empty() && session.customer_details.email.is_none());
        let text = r#"{"id":"cs_1","mode":"subscription","payment_status":"paid","customer_details":{"email":null,"address":null}}"#;
        let session: CheckoutSession = serde_json::from_str(text).expect("readable");
        assert!(session.customer_details.address.line1.is_none());
    }

    #[test]
    fn a_404_stays_an_error_and_a_refused_key_waits_for_an_operator() {
        assert!(!status_is_transient(StatusCode::NOT_FOUND));
        assert!(!status_is_transient(StatusCode::BAD_REQUEST));
        for status in [401, 403, 409, 429, 500, 502, 503] {
            assert!(status_is_transient(StatusCode::from_u16(status).expect("a status")), "{status}");
        }
    }
}
