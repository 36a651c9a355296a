//! Stripe's API: reads of the state that entitlements depend on, the end of a subscription, and
//! what a customer pays and manages by.
//!
//! Requests, their paths and the pinned API version are async-stripe's; the transport is ours
//! (pooled connections, time-outs, retries, key rotation), and so are the answers' types: only the
//! fields that a rule needs, absent and `null` alike, both payload generations
//! (docs/adr/0003-stripe-reads.md). Nothing here knows the database.

mod events;
mod objects;
mod slots;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stripe_billing::subscription::{
    CancelSubscription, ListSubscription, ListSubscriptionStatus, RetrieveSubscription,
};
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, CreateCheckoutSessionSubscriptionData,
    RetrieveCheckoutSession,
};
use stripe_client_core::{RequestBuilder, StripeMethod, StripeRequest};
use stripe_shared::CheckoutSessionMode;
use tokio::sync::OnceCell;

pub use self::events::{EventPage, EventQuery};
pub use self::objects::{
    Address, CheckoutSession, CustomerDetails, Invoice, Item, Items, Metadata, Subscription,
    SubscriptionPage,
};
use self::objects::{Charge, ListOf};
pub use self::slots::NewPayment;
use super::secrets::Secrets;
use crate::base::error::{Refusal, Service, with_causes};
use crate::base::ids::{
    PlanId, StripeChargeId, StripeCustomerId, StripePriceId, StripeSessionId, StripeSubscriptionId,
    TenantId,
};
use crate::process::tls;
use crate::{Error, Result};

/// Tries of one request before its message goes back to the queue, or its step waits, and how long
/// each may take.
const ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);

/// How long all of them may take together: two reads fit into what one event has
/// (`events::EVENT_BUDGET`), so that a stalled Stripe is what is noted, and not the event's own
/// end.
const REQUEST_BUDGET: Duration = Duration::from_secs(11);

/// The code of a refusal whose idempotency key was used with other parameters, which Stripe
/// remembers for a day or longer.
pub const KEY_SPENT: &str = "stripe_key_spent";

/// The code of a refusal of a checkout that would close too early: its request was repeated too
/// late.
pub const SESSION_TOO_SHORT: &str = "stripe_session_too_short";

/// Stripe in one account and mode.
pub struct Stripe {
    /// Made at the first request: a function may start for one that asks Stripe nothing.
    http: OnceCell<reqwest::Client>,
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
        Ok(Self { http: OnceCell::new(), base, secrets })
    }

    async fn http(&self) -> Result<&reqwest::Client> {
        self.http
            .get_or_try_init(async || tls::http_client(Duration::from_secs(3), ATTEMPT_TIMEOUT))
            .await
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

    /// Reads a subscription, with its latest invoice.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn subscription(&self, id: &StripeSubscriptionId) -> Result<Subscription> {
        self.read(
            RetrieveSubscription::new(id.as_str()).expand(["latest_invoice".to_owned()]).build(),
        )
        .await
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

    /// Whose a charge is. A dispute names nothing but its charge.
    ///
    /// # Errors
    /// As `checkout_session`.
    pub async fn customer_of_charge(
        &self,
        id: &StripeChargeId,
    ) -> Result<Option<StripeCustomerId>> {
        let charge: Charge =
            self.read(RequestBuilder::new(StripeMethod::Get, format!("/charges/{id}"))).await?;
        charge.customer.as_ref().map(|customer| StripeCustomerId::parse(customer.id())).transpose()
    }

    /// Ends a subscription at once. One that has ended already is success, whoever ended it: a try
    /// whose answer was lost may have.
    ///
    /// Stripe answers 404 for a subscription that is canceled, as for one that it does not know, so
    /// a refusal is read back. There is no idempotency key: Stripe has them for POST only, and
    /// a DELETE that is repeated changes nothing.
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

    /// The same as `checkout_session`, of an id that somebody names: none where Stripe does not
    /// know it.
    ///
    /// # Errors
    /// `Upstream`.
    pub async fn find_checkout_session(
        &self,
        id: &StripeSessionId,
    ) -> Result<Option<CheckoutSession>> {
        let request = RetrieveCheckoutSession::new(id.as_str()).build();
        match self.send(Method::GET, &request, None).await {
            Ok(answer) => parse(&request, &answer).map(Some).map_err(unreadable),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.error),
        }
    }

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

    /// Opens a checkout of a subscription. The same `key` again is the same session.
    ///
    /// # Errors
    /// As `create_customer`.
    pub async fn create_checkout_session(
        &self,
        new: &NewSession<'_>,
        key: &str,
    ) -> Result<OpenSession> {
        let metadata = HashMap::from([
            ("tenant_id".to_owned(), new.tenant.to_string()),
            ("plan_id".to_owned(), new.plan.to_string()),
        ]);
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

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let answer = self.send(Method::GET, &request, None).await?;
        parse(&request, &answer)
    }

    async fn write<T: DeserializeOwned>(&self, request: RequestBuilder, key: &str) -> Result<T> {
        match self.send(Method::POST, &request, Some(key)).await {
            Ok(answer) => parse(&request, &answer).map_err(unreadable),
            Err(failure) => Err(match failure.said.as_deref().and_then(FailedCall::for_the_user) {
                Some(told) => {
                    // What the user is told leaves out what an operator may need.
                    tracing::warn!(error = %failure.error, code = told.code(),
                    "Stripe refused a request");
                    told
                }
                None => failure.error,
            }),
        }
    }

    async fn send(
        &self,
        method: Method,
        request: &RequestBuilder,
        key: Option<&str>,
    ) -> std::result::Result<Bytes, Failure> {
        let in_time =
            tokio::time::timeout(REQUEST_BUDGET, self.send_patiently(&method, request, key)).await;
        let late = || {
            format!(
                "{method} {} was not answered within {} s",
                request.path,
                REQUEST_BUDGET.as_secs()
            )
        };
        in_time.unwrap_or_else(|_| Err(Error::unavailable(Service::Stripe, late()).into()))
    }

    /// A request of ours may be repeated: a read changes nothing, neither does the second DELETE,
    /// and a POST has its idempotency key.
    async fn send_patiently(
        &self,
        method: &Method,
        request: &RequestBuilder,
        key: Option<&str>,
    ) -> std::result::Result<Bytes, Failure> {
        let mut attempt = 1;
        let mut refreshed = false;
        let mut key = key.map(str::to_owned);
        let mut anew = false;
        loop {
            let failure = match self.try_send(method, request, key.as_deref()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if failure.is(StatusCode::UNAUTHORIZED) => {
                    if refreshed || !self.secrets.refresh().await? {
                        return Err(failure);
                    }
                    refreshed = true;
                    continue;
                }
                Err(failure)
                    if failure
                        .said
                        .as_ref()
                        .is_some_and(|said| said.replayed && said.status.is_server_error()) =>
                {
                    if anew {
                        return Err(failure);
                    }
                    // Stripe keeps a failure of its own for the key, and would answer nothing else
                    // for a day. What that request may have made is known to
                    // nobody, and stays unused.
                    key = key.map(|key| format!("{key}:anew"));
                    anew = true;
                    continue;
                }
                Err(failure) => failure,
            };
            if attempt == ATTEMPTS || !failure.error.is_transient() {
                return Err(failure);
            }
            tracing::warn!(error = %failure.error, attempt, "Stripe request failed");
            tokio::time::sleep(Duration::from_millis(200 * u64::from(attempt * attempt))).await;
            attempt += 1;
        }
    }

    async fn try_send(
        &self,
        method: &Method,
        request: &RequestBuilder,
        key: Option<&str>,
    ) -> std::result::Result<Bytes, Failure> {
        let query = request
            .query
            .as_deref()
            .filter(|query| !query.is_empty())
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let url = format!("{}/v1{}{query}", self.base, request.path);
        let unreachable = |error: reqwest::Error| {
            Failure::from(Error::unavailable(Service::Stripe, with_causes(&error.without_url())))
        };
        let secret = self.secrets.stripe_secret_key()?;
        let mut call = self
            .http()
            .await?
            .request(method.clone(), url)
            .bearer_auth(secret)
            .header("Stripe-Version", stripe_shared::version::VERSION.as_str());
        if let Some(key) = key {
            call = call.header("Idempotency-Key", key);
        }
        if let Some(form) = &request.body {
            call =
                call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let answer = call.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return answer.bytes().await.map_err(unreachable);
        }
        let request_id = answer
            .headers()
            .get("request-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or("none")
            .to_owned();
        let replayed = answer.headers().contains_key("idempotent-replayed");
        let body = answer.json::<ErrorAnswer>().await.map(|body| body.error).unwrap_or_default();
        // A refused mail address is quoted; it has no place in a log.
        let said =
            body.message.as_deref().filter(|message| !message.contains('@')).unwrap_or_default();
        let detail =
            format!("{method} {} answered {status}: {said} (request {request_id})", request.path);
        let error = Error::Upstream {
            service: Service::Stripe,
            transient: status_is_transient(status),
            detail,
        };
        Err(Failure { error, said: Some(Box::new(FailedCall { status, replayed, body })) })
    }
}

fn parse<T: DeserializeOwned>(request: &RequestBuilder, answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::conflict("stripe_shape", format!("Stripe's answer to {}: {error}", request.path))
    })
}

/// To a caller over HTTP, an answer that we cannot read is Stripe's failure, and no refusal of
/// theirs.
pub(crate) fn unreadable(error: Error) -> Error {
    match error {
        Error::Refused { .. } => Error::refused(Service::Stripe, error),
        other => other,
    }
}

/// A request that came to nothing, and what Stripe said, where it answered.
struct Failure {
    error: Error,
    said: Option<Box<FailedCall>>,
}

impl Failure {
    /// Whether Stripe answered with this status.
    fn is(&self, status: StatusCode) -> bool {
        self.said.as_ref().is_some_and(|said| said.status == status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, said: None }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

struct FailedCall {
    status: StatusCode,
    /// The answer is the kept one of an earlier request with this idempotency key.
    replayed: bool,
    body: ErrorBody,
}

impl FailedCall {
    /// A refusal of a write in words for its user, with what they can do; none where Stripe failed,
    /// or refuses our secret key.
    ///
    /// By Stripe's "Error codes". Only a card error's message is written for users; the others may
    /// tell of our account.
    fn for_the_user(&self) -> Option<Error> {
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        let (kind, code, param) =
            (field(&self.body.kind), field(&self.body.code), field(&self.body.param));
        if kind == "idempotency_error" {
            return Some(Error::conflict(
                KEY_SPENT,
                "Stripe has answered another request of this idempotency key",
            ));
        }
        if status_is_transient(self.status) || !self.status.is_client_error() {
            return None;
        }
        Some(match (kind.as_str(), code.as_str(), param.as_str()) {
            ("card_error", ..) => {
                let said = self
                    .body
                    .message
                    .clone()
                    .unwrap_or_else(|| "The payment method was declined.".to_owned());
                Error::refusal(Refusal::PaymentRequired, "payment_refused", said)
            }
            (_, "url_invalid", "success_url" | "cancel_url" | "return_url") => {
                Error::invalid(param, "is no URL that Stripe takes")
            }
            (_, "email_invalid", _) | (_, _, "email") => Error::conflict(
                "billing_email_refused",
                "Stripe does not take the company's billing address. Correct billing_email in the \
                 organization's profile.",
            ),
            (_, "resource_missing", "customer") => Error::conflict(
                "billing_account_gone",
                "The company's billing account no longer exists at Stripe. Contact support to \
                 have it linked anew.",
            ),
            (_, _, "expires_at") => Error::conflict(
                SESSION_TOO_SHORT,
                "Stripe keeps a checkout open for 30 minutes at least",
            ),
            (_, _, param) if param.starts_with("line_items") => Error::conflict(
                "price_not_available",
                "Stripe does not sell this plan at this moment. Choose another plan or interval, \
                 or contact support.",
            ),
            _ => Error::conflict(
                "stripe_refused",
                "Stripe refused the request. Check the company's profile, or contact support with \
                 this request's id.",
            ),
        })
    }
}

/// By Stripe's "Advanced error handling": a conflict, a rate limit and a server error pass. A key
/// that is refused or may not read is mended by an operator, and what waits must outlive that. A
/// 404 is never an expiry: it is an error of ours that a person must see.
fn status_is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::CONFLICT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::FAILED_DEPENDENCY
        )
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(rename = "type")]
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
    message: Option<String>,
}

/// A customer to make.
pub struct NewCustomer<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// The company's.
    pub name: &'a str,
    /// Where Stripe sends invoices.
    pub email: Option<&'a str>,
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

/// A checkout to open.
pub struct NewSession<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// Who pays.
    pub customer: &'a StripeCustomerId,
    /// What is bought.
    pub plan: &'a PlanId,
    /// The plan's, by the chosen interval.
    pub price: &'a StripePriceId,
    /// Where the customer goes after.
    pub success_url: &'a str,
    /// And where without having paid.
    pub cancel_url: &'a str,
}

#[derive(Deserialize)]
struct CreatedCustomer {
    id: StripeCustomerId,
}

/// A checkout that was opened.
#[derive(Debug, Clone, Deserialize)]
pub struct OpenSession {
    /// Its id.
    pub id: StripeSessionId,
    /// The page to pay on.
    pub url: String,
}

#[derive(Deserialize)]
struct OpenPortal {
    url: String,
}

#[derive(Serialize)]
struct InvoiceQuery<'a> {
    subscription: &'a str,
    limit: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> Option<Error> {
        let body = serde_json::from_str::<ErrorAnswer>(body).expect("readable").error;
        FailedCall {
            status: StatusCode::from_u16(status).expect("a status"),
            replayed: false,
            body,
        }
        .for_the_user()
    }

    #[test]
    fn only_what_a_user_can_act_on_is_told_and_only_a_cards_message_is_stripes() {
        let of =
            |status, body: &str| told(status, body).map(|error| (error.code(), error.to_string()));
        let card = of(
            402,
            r#"{"error":{"type":"card_error","code":"card_declined",
                "message":"Your card was declined."}}"#,
        );
        assert_eq!(card, Some(("payment_refused", "Your card was declined.".to_owned())));
        let price = r#"{"error":{"type":"invalid_request_error","code":"resource_missing",
            "param":"line_items[0][price]","message":"No such price: 'price_x'"}}"#;
        let (code, detail) = of(400, price).expect("told");
        assert!(code == "price_not_available" && !detail.contains("price_x"), "{detail}");
        let unknown = of(
            400,
            r#"{"error":{"type":"invalid_request_error","message":"acct_1 may not do this"}}"#,
        )
        .expect("told");
        assert!(unknown.0 == "stripe_refused" && !unknown.1.contains("acct_1"), "{unknown:?}");
        assert_eq!(
            of(400, r#"{"error":{"type":"idempotency_error"}}"#).expect("told").0,
            KEY_SPENT
        );
        for status in [401, 403, 409, 429, 500, 503] {
            assert_eq!(
                of(status, r#"{"error":{"type":"api_error","message":"sk_test_1"}}"#),
                None,
                "{status}"
            );
        }
    }

    #[test]
    fn a_404_stays_an_error_and_a_refused_key_waits_for_an_operator() {
        assert!(!status_is_transient(StatusCode::NOT_FOUND));
        assert!(!status_is_transient(StatusCode::BAD_REQUEST));
        for status in [401, 403, 409, 429, 500, 502, 503] {
            assert!(
                status_is_transient(StatusCode::from_u16(status).expect("a status")),
                "{status}"
            );
        }
    }
}
