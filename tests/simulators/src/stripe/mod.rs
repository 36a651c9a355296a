//! A stateful Stripe: customers, prices, Checkout with its hosted page, subscriptions, invoices,
//! events and their delivery.
//!
//! Shapes follow Stripe's API reference at [`API_VERSION`]; a test holds them against the generated
//! types. Parameters that are not simulated are refused as unknown rather than ignored, so that
//! nobody relies on what does not happen. The handle does what a payer, a customer, an operator,
//! time or an outage would do. Not here: proration, tax, discounts, invoice items, mail.

mod billing;
mod checkout;
mod delivery;
mod http;
mod ledger;
mod life;
mod money;
mod objects;
mod pages;
mod state;
mod subscriptions;
mod versions;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc;

use crate::server::Faults;
use crate::server::Server;
use crate::server::basic;
use crate::server::lock;
pub use delivery::Delivery;
pub use delivery::Disorder;
pub use life::Card;
pub use life::Dunning;
pub use life::GivenUp;
use state::Payment;
use state::State;
pub use versions::shape_event;

/// The API version whose shapes are answered.
pub const API_VERSION: &str = "2026-09-30.endive";

/// How to start a [`Simulator`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The key a caller must present (`sk_…`).
    pub secret_key: String,
    /// The endpoint's signing secret (`whsec_…`).
    pub webhook_secret: String,
    /// Where events are posted to; without it they only accumulate.
    pub webhook_url: Option<String>,
}

/// A recurring price.
#[derive(Clone, Debug)]
pub struct Price {
    /// `price_…`
    pub id: String,
    /// `prod_…`
    pub product: String,
    /// US cents a unit and interval.
    pub unit_amount: i64,
    /// How often it is charged.
    pub interval: Interval,
    /// Shown on the payment page.
    pub nickname: String,
}

/// The billing interval of a [`Price`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Every calendar month.
    Month,
    /// Every calendar year.
    Year,
}

/// What a person types on the payment page.
#[derive(Clone, Debug, Default)]
pub struct Payer {
    /// Ignored where the session or its customer already has an address.
    pub email: String,
    /// The name on the card.
    pub name: Option<String>,
    /// A telephone number.
    pub phone: Option<String>,
    /// The billing address.
    pub address: Option<Address>,
}

/// A postal address in Stripe's shape; any field may be missing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Address {
    /// Street and number.
    pub line1: Option<String>,
    /// Flat, floor, building.
    pub line2: Option<String>,
    /// City.
    pub city: Option<String>,
    /// State or province.
    pub state: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// Two-letter country code.
    pub country: Option<String>,
}

/// A Checkout session to create from a test.
#[derive(Clone, Debug)]
pub struct CheckoutParams {
    /// `price_…`
    pub price: String,
    /// Units of it.
    pub quantity: u64,
    /// Metadata of the session.
    pub metadata: BTreeMap<String, String>,
    /// Metadata the subscription will get.
    pub subscription_metadata: BTreeMap<String, String>,
    /// An existing `cus_…`.
    pub customer: Option<String>,
    /// Prefills the payer's address; excludes `customer`.
    pub customer_email: Option<String>,
    /// `subscription` or `payment`.
    pub mode: String,
    /// Days until the first payment.
    pub trial_period_days: Option<u32>,
}

impl CheckoutParams {
    /// One unit of a subscription to `price`, without metadata.
    #[must_use]
    pub fn subscription(price: &str) -> Self {
        Self {
            price: price.to_owned(),
            quantity: 1,
            metadata: BTreeMap::new(),
            subscription_metadata: BTreeMap::new(),
            customer: None,
            customer_email: None,
            mode: "subscription".to_owned(),
            trial_period_days: None,
        }
    }
}

/// What the handle, the server and the delivery share.
pub(crate) struct Core {
    state: Mutex<State>,
    secret_key: String,
    basic: String,
    webhook_secret: String,
}

/// A running simulator; clones are one and the same, and the socket closes with the last of them.
#[derive(Clone)]
pub struct Simulator {
    core: Arc<Core>,
    faults: Arc<Faults>,
    server: Arc<Server>,
    base_url: String,
}

impl Simulator {
    /// Starts a simulator.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let (listener, address) = Server::bind(options.listen).await?;
        let base_url = format!("http://{address}/");
        let (outgoing, events) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            state: Mutex::new(State::new(base_url.clone(), options.webhook_url, outgoing)),
            basic: basic(&options.secret_key, ""),
            secret_key: options.secret_key,
            webhook_secret: options.webhook_secret,
        });
        tokio::spawn(delivery::run(Arc::downgrade(&core), events));
        let faults = Faults::new("/pay/", http::fault);
        let app = http::router(Arc::clone(&core));
        let server = Arc::new(Server::serve(listener, address, app, Arc::clone(&faults)));
        Ok(Self { core, faults, server, base_url })
    }

    /// The API's base, with a trailing slash: `http://127.0.0.1:PORT/`.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.base_url.clone()
    }

    /// Closes the socket and gives up pending deliveries.
    pub async fn stop(&self) {
        self.set_webhook_url(None);
        self.server.stop().await;
    }

    /// Serves again on the same port with everything remembered, except the webhook address.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.server.restart().await
    }

    /// Adds a price, or replaces the one of that id.
    pub fn add_price(&self, price: Price) {
        let Price { id, product, unit_amount, interval, nickname } = price;
        let interval = match interval {
            Interval::Month => "month",
            Interval::Year => "year",
        };
        let params = json!({
            "currency": "usd", "product": product, "unit_amount": unit_amount.to_string(),
            "recurring": { "interval": interval }, "nickname": nickname,
        });
        self.state(|state| state.insert_price(&id, &params));
    }

    /// Creates a Checkout session as the API would and answers its id.
    ///
    /// # Errors
    /// Where Stripe would refuse the parameters.
    pub fn create_checkout(&self, params: CheckoutParams) -> anyhow::Result<String> {
        let mut form = Map::from_iter([
            ("mode".to_owned(), json!(params.mode)),
            (
                "success_url".to_owned(),
                json!("https://example.com/done?session_id={CHECKOUT_SESSION_ID}"),
            ),
            (
                "line_items".to_owned(),
                json!({ "0": { "price": params.price, "quantity": params.quantity.to_string() } }),
            ),
            ("metadata".to_owned(), json!(params.metadata)),
        ]);
        let mut subscription_data = Map::new();
        if !params.subscription_metadata.is_empty() {
            subscription_data.insert("metadata".to_owned(), json!(params.subscription_metadata));
        }
        if let Some(days) = params.trial_period_days {
            subscription_data.insert("trial_period_days".to_owned(), json!(days.to_string()));
        }
        if !subscription_data.is_empty() {
            form.insert("subscription_data".to_owned(), Value::Object(subscription_data));
        }
        let optional = [("customer", params.customer), ("customer_email", params.customer_email)];
        form.extend(
            optional.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))),
        );
        let session = self.state(|state| state.create_session(&Value::Object(form)))?;
        Ok(objects::text(&session, "id").to_owned())
    }

    /// Pays a session by card and answers it as it then is.
    ///
    /// # Errors
    /// When there is no such open session, or the card is declined, which leaves it open.
    pub fn pay(&self, session_id: &str, payer: Payer) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.complete(session_id, payer, Payment::Now))?)
    }

    /// Pays by a method that confirms later: the session completes unpaid and the subscription is
    /// already active.
    ///
    /// # Errors
    /// When there is no such open session.
    pub fn pay_async(&self, session_id: &str, payer: Payer) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.complete(session_id, payer, Payment::Later))?)
    }

    /// Confirms the payment of [`Simulator::pay_async`].
    ///
    /// # Errors
    /// When no payment of that session is pending.
    pub fn settle(&self, session_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.settle(session_id))?)
    }

    /// Lets the payment of [`Simulator::pay_async`] fail. The subscription, active until then,
    /// becomes `past_due`: Stripe keeps `incomplete` for a first payment that was refused at
    /// once.
    ///
    /// # Errors
    /// When no payment of that session is pending.
    pub fn fail_async(&self, session_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.fail_async(session_id))?)
    }

    /// Expires an open session, as Stripe does a day after its creation.
    ///
    /// # Errors
    /// When there is no such open session.
    pub fn expire(&self, session_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.expire(session_id))?)
    }

    /// Cancels a subscription at once, as the API and the Dashboard do.
    ///
    /// # Errors
    /// When there is no such subscription, or it has ended.
    pub fn cancel(&self, subscription_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.cancel(subscription_id))?)
    }

    /// The event of that id.
    #[must_use]
    pub fn event(&self, id: &str) -> Option<Value> {
        self.state(|state| state.find("event", id).cloned())
    }

    /// Every event so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.state(|state| state.all("event").cloned().collect())
    }

    /// Emits an event about an object as it now is, for example after
    /// [`Simulator::edit_subscription`].
    ///
    /// # Errors
    /// When no object has that id.
    pub fn emit(&self, event_type: &str, object_id: &str) -> anyhow::Result<Value> {
        self.state(|state| {
            let object = state
                .object(object_id)
                .cloned()
                .with_context(|| format!("no object {object_id}"))?;
            Ok(state.emit(event_type, &object))
        })
    }

    /// Any stored object by its id.
    #[must_use]
    pub fn object(&self, id: &str) -> Option<Value> {
        self.state(|state| state.object(id).cloned())
    }

    /// Edits a subscription in place, also into shapes that Stripe would not answer. Emits nothing.
    ///
    /// # Panics
    /// When there is no such subscription.
    pub fn edit_subscription(&self, id: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.state(|state| state.edit("subscription", id, edit)), "a known subscription");
    }

    /// Edits a Checkout session in place, also into shapes that Stripe would not answer. Emits
    /// nothing.
    ///
    /// # Panics
    /// When there is no such session.
    pub fn edit_session(&self, id: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.state(|state| state.edit("checkout.session", id, edit)), "a known session");
    }

    /// Every event given to the delivery, with its attempts so far.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state(|state| state.deliveries.clone())
    }

    /// Delivers an event once more, as the Dashboard's "Resend" does.
    pub fn redeliver(&self, event_id: &str) {
        self.state(|state| state.deliver(event_id));
    }

    /// Sets where later events are posted to; `None` gives up the pending ones.
    pub fn set_webhook_url(&self, url: Option<String>) {
        self.state(|state| state.webhook_url = url);
    }

    /// Lets later deliveries go wrong, or go right again.
    pub fn set_delivery(&self, disorder: Option<Disorder>) {
        self.state(|state| state.disorder = disorder);
    }

    /// Loses later events on their way, or does so no more: they are never delivered, but the API
    /// lists them.
    pub fn drop_deliveries(&self, drop: bool) {
        self.state(|state| state.dropping = drop);
    }

    /// Emits later events in the shape of another API version, as [`shape_event`] does.
    pub fn set_event_version(&self, version: &str) {
        self.state(|state| state.event_version = Some(version.to_owned()));
    }

    /// Stops the clock at an instant, without what is due by then: that is for
    /// [`Simulator::advance_to`]. Signatures of deliveries keep the real time.
    pub fn set_now(&self, now: Timestamp) {
        self.state(|state| state.now = Some(now));
    }

    /// Marks everything created from now on as live or test mode.
    pub fn set_livemode(&self, livemode: bool) {
        self.state(|state| state.livemode = livemode);
    }

    /// Delays every API answer.
    pub fn set_latency(&self, latency: Duration) {
        self.faults.set_latency(latency);
    }

    /// Answers `percent` of a hundred API requests with 503, undone.
    pub fn fail_percent(&self, percent: u8) {
        self.faults.set_percent(percent);
    }

    /// Answers the next `n` API requests with `status`, undone.
    pub fn fail_next(&self, n: usize, status: u16) {
        self.faults.fail("", n, status, false);
    }

    /// Forgets the failures that no request has met yet.
    pub fn fail_no_more(&self) {
        self.faults.clear();
    }

    /// Like [`Simulator::fail_next`], for requests whose path contains `path_part`.
    pub fn fail_next_on(&self, path_part: &str, n: usize, status: u16) {
        self.faults.fail(path_part, n, status, false);
    }

    /// Carries out the next request whose path contains `path_part`, then loses its answer.
    pub fn lose_answer_on(&self, path_part: &str, status: u16) {
        self.faults.fail(path_part, 1, status, true);
    }

    /// Fails at the next request with an idempotency key whose path contains `path_part`, and, as
    /// Stripe does with what had begun, keeps that failure for the key.
    pub fn fail_for_key_on(&self, path_part: &str) {
        self.state(|state| state.failing = Some(path_part.to_owned()));
    }

    /// Method and path of every API request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, String)> {
        self.faults.requests()
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut lock(&self.core.state))
    }
}
