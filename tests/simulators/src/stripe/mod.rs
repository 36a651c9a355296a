//! A stateful Stripe: customers, prices, Checkout with its hosted page, subscriptions, invoices,
//! events and webhook delivery.
//!
//! Shapes follow Stripe's API reference at [`API_VERSION`]; a test checks them against the
//! generated types. Parameters that are not simulated are rejected as unknown rather than ignored,
//! so that no caller relies on an effect that does not happen. The handle does what a payer, a
//! customer, an operator, time or an outage would do. Not simulated: proration, tax, discounts and
//! mail.

mod billing;
mod bounds;
mod checkout;
mod delivery;
mod http;
mod invoice_items;
mod ledger;
mod lifecycle;
mod lists;
mod money;
mod objects;
mod pages;
mod portal;
mod state;
mod subscriptions;
mod time;
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

pub use self::delivery::Delivery;
pub use self::delivery::Disorder;
pub use self::lifecycle::Card;
pub use self::lifecycle::Dunning;
pub use self::lifecycle::GivenUp;
use self::state::PaymentTiming;
use self::state::State;
pub use self::versions::shape_event;
use crate::server::Faults;
use crate::server::Server;
use crate::server::basic;
use crate::server::lock;

/// The API version whose shapes the simulator returns.
pub const API_VERSION: &str = "2026-09-30.endive";

/// How to start a [`Simulator`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on. Port 0 picks a free port.
    pub listen: SocketAddr,
    /// The API key that callers must present (`sk_…`).
    pub secret_key: String,
    /// The signing secret of the webhook endpoint (`whsec_…`).
    pub webhook_secret: String,
    /// The URL that events are posted to. With `None`, they are only stored.
    pub webhook_url: Option<String>,
}

/// A recurring price.
#[derive(Clone, Debug)]
pub struct Price {
    /// The price's id (`price_…`).
    pub id: String,
    /// The product's id (`prod_…`).
    pub product: String,
    /// The currency's code in lower case.
    pub currency: String,
    /// The amount per unit and interval, in the currency's smallest unit.
    pub unit_amount: i64,
    /// How often the price is charged.
    pub interval: Interval,
    /// The name on the payment page.
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

/// What a payer enters on the payment page.
#[derive(Clone, Debug, Default)]
pub struct Payer {
    /// The email address. Ignored if the session or its customer already has one.
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

/// Parameters of a Checkout session that a test creates.
#[derive(Clone, Debug)]
pub struct CheckoutParams {
    /// The price's id (`price_…`).
    pub price: String,
    /// The number of units.
    pub quantity: u64,
    /// Other prices in the same cart, and how many of each.
    pub also: Vec<(String, u64)>,
    /// Metadata of the session.
    pub metadata: BTreeMap<String, String>,
    /// Metadata of the subscription that the session creates.
    pub subscription_metadata: BTreeMap<String, String>,
    /// The id of an existing customer (`cus_…`).
    pub customer: Option<String>,
    /// Prefills the payer's email address. Cannot be combined with `customer`.
    pub customer_email: Option<String>,
    /// The session's mode: `subscription` or `payment`.
    pub mode: String,
    /// Days of trial before the first payment.
    pub trial_period_days: Option<u32>,
}

impl CheckoutParams {
    /// Returns parameters for a subscription to one unit of `price`, without metadata.
    #[must_use]
    pub fn subscription(price: &str) -> Self {
        Self {
            price: price.to_owned(),
            quantity: 1,
            also: Vec::new(),
            metadata: BTreeMap::new(),
            subscription_metadata: BTreeMap::new(),
            customer: None,
            customer_email: None,
            mode: "subscription".to_owned(),
            trial_period_days: None,
        }
    }
}

/// State shared by the handle, the server and the delivery task.
pub(crate) struct Core {
    state: Mutex<State>,
    secret_key: String,
    basic: String,
    webhook_secret: String,
}

/// A running simulator. Clones share it, and the socket closes when the last one is dropped.
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

    /// Returns the API's base URL, with a trailing slash: `http://127.0.0.1:PORT/`.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.base_url.clone()
    }

    /// Closes the socket and abandons pending deliveries.
    pub async fn stop(&self) {
        self.set_webhook_url(None);
        self.server.stop().await;
    }

    /// Serves again on the same port with the same state, except for the webhook URL, which stays
    /// unset.
    ///
    /// # Errors
    /// When the port is no longer free.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.server.restart().await
    }

    /// Adds a price, or replaces the one with the same id.
    pub fn add_price(&self, price: Price) {
        let Price { id, product, currency, unit_amount, interval, nickname } = price;
        let interval = match interval {
            Interval::Month => "month",
            Interval::Year => "year",
        };
        let params = json!({
            "currency": currency, "product": product, "unit_amount": unit_amount.to_string(),
            "recurring": { "interval": interval }, "nickname": nickname,
        });
        self.state(|state| state.insert_price(&id, &params));
    }

    /// Creates a Checkout session, as the API would, and returns its id.
    ///
    /// # Errors
    /// When Stripe would reject the parameters.
    pub fn create_checkout(&self, params: CheckoutParams) -> anyhow::Result<String> {
        let cart = [(params.price, params.quantity)].into_iter().chain(params.also);
        let lines: Map<String, Value> = cart
            .enumerate()
            .map(|(index, (price, quantity))| {
                let line = json!({ "price": price, "quantity": quantity.to_string() });
                (index.to_string(), line)
            })
            .collect();
        let mut form = Map::from_iter([
            ("mode".to_owned(), json!(params.mode)),
            (
                "success_url".to_owned(),
                json!("https://example.com/done?session_id={CHECKOUT_SESSION_ID}"),
            ),
            ("line_items".to_owned(), Value::Object(lines)),
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
        let form = Value::Object(form);
        bounds::check("checkout.session", &form)?;
        let session = self.state(|state| http::create_session(state, &form))?;
        Ok(objects::text(&session, "id").to_owned())
    }

    /// Pays a session by card and returns the completed session.
    ///
    /// # Errors
    /// When there is no open session with this id, or the card is declined, which leaves the
    /// session open.
    pub fn pay(&self, session_id: &str, payer: Payer) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.complete(session_id, payer, PaymentTiming::Now))?)
    }

    /// Pays by a method that confirms later. The session completes unpaid, and the subscription is
    /// already active.
    ///
    /// # Errors
    /// When there is no open session with this id.
    pub fn pay_async(&self, session_id: &str, payer: Payer) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.complete(session_id, payer, PaymentTiming::Later))?)
    }

    /// Confirms the payment of [`Simulator::pay_async`].
    ///
    /// # Errors
    /// When no payment of that session is pending.
    pub fn settle(&self, session_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.settle(session_id))?)
    }

    /// Fails the payment of [`Simulator::pay_async`]. The subscription, active until then, becomes
    /// `past_due`: Stripe uses `incomplete` only for a first payment that is refused at once.
    ///
    /// # Errors
    /// When no payment of that session is pending.
    pub fn fail_async(&self, session_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.fail_async(session_id))?)
    }

    /// Expires an open session, as Stripe does a day after its creation.
    ///
    /// # Errors
    /// When there is no open session with this id.
    pub fn expire(&self, session_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.expire(session_id))?)
    }

    /// Cancels a subscription immediately, as the API and the Dashboard do.
    ///
    /// # Errors
    /// When the subscription does not exist or has ended.
    pub fn cancel(&self, subscription_id: &str) -> anyhow::Result<Value> {
        Ok(self.state(|state| state.cancel(subscription_id))?)
    }

    /// Returns the event with this id.
    #[must_use]
    pub fn event(&self, id: &str) -> Option<Value> {
        self.state(|state| state.find("event", id).cloned())
    }

    /// Returns every event so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.state(|state| state.all("event").cloned().collect())
    }

    /// Emits an event with the current state of an object, for example after
    /// [`Simulator::edit_subscription`].
    ///
    /// # Errors
    /// When no object has this id.
    pub fn emit(&self, event_type: &str, object_id: &str) -> anyhow::Result<Value> {
        self.state(|state| {
            let object = state
                .object(object_id)
                .cloned()
                .with_context(|| format!("no object {object_id}"))?;
            Ok(state.emit(event_type, &object))
        })
    }

    /// Returns the stored object with this id, of any kind.
    #[must_use]
    pub fn object(&self, id: &str) -> Option<Value> {
        self.state(|state| state.object(id).cloned())
    }

    /// Edits a subscription in place, even into a shape that Stripe would not return. Emits no
    /// event.
    ///
    /// # Panics
    /// When the subscription does not exist.
    pub fn edit_subscription(&self, id: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.state(|state| state.edit("subscription", id, edit)), "a known subscription");
    }

    /// Edits a Checkout session in place, even into a shape that Stripe would not return. Emits no
    /// event.
    ///
    /// # Panics
    /// When the session does not exist.
    pub fn edit_session(&self, id: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.state(|state| state.edit("checkout.session", id, edit)), "a known session");
    }

    /// Edits an invoice in place, as `edit_session` does.
    ///
    /// # Panics
    /// When the invoice does not exist.
    pub fn edit_invoice(&self, id: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.state(|state| state.edit("invoice", id, edit)), "a known invoice");
    }

    /// Returns the delivery of every event that was to be delivered, with its attempts so far.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state(|state| state.deliveries.clone())
    }

    /// Delivers an event again, as the Dashboard's "Resend" does.
    pub fn redeliver(&self, event_id: &str) {
        self.state(|state| state.deliver(event_id));
    }

    /// Sets the URL that later events are posted to. `None` abandons the pending deliveries.
    pub fn set_webhook_url(&self, url: Option<String>) {
        self.state(|state| state.webhook_url = url);
    }

    /// Sets how later deliveries go wrong. With `None`, they are in order again.
    pub fn set_delivery(&self, disorder: Option<Disorder>) {
        self.state(|state| state.disorder = disorder);
    }

    /// Sets whether later events are lost in transit: they are never delivered, but the API lists
    /// them.
    pub fn drop_deliveries(&self, drop: bool) {
        self.state(|state| state.drop_deliveries = drop);
    }

    /// Emits later events in the shape of another API version, as [`shape_event`] does.
    pub fn set_event_version(&self, version: &str) {
        self.state(|state| state.event_version = Some(version.to_owned()));
    }

    /// Stops the clock at an instant, without applying what falls due by then; use
    /// [`Simulator::advance_to`] for that. Delivery signatures keep the real time.
    pub fn set_now(&self, now: Timestamp) {
        self.state(|state| state.now = Some(now));
    }

    /// Lets the time be what this clock shows, whoever moves it. What falls due still happens only
    /// by [`Simulator::advance_to`], or by `POST /clock`, each change at its own instant.
    pub fn follow(&self, clock: impl Fn() -> Timestamp + Send + 'static) {
        self.state(|state| state.clock = Some(Box::new(clock)));
    }

    /// Returns when something falls due next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.state(|state| state.next_due()).and_then(|due| Timestamp::from_second(due).ok())
    }

    /// Sets whether objects created from now on are in live or test mode.
    pub fn set_livemode(&self, livemode: bool) {
        self.state(|state| state.livemode = livemode);
    }

    /// Delays every API response.
    pub fn set_latency(&self, latency: Duration) {
        self.faults.set_latency(latency);
    }

    /// Answers `percent` of 100 API requests with 503 without carrying them out.
    pub fn fail_percent(&self, percent: u8) {
        self.faults.set_percent(percent);
    }

    /// Answers the next `n` API requests with `status` without carrying them out.
    pub fn fail_next(&self, n: usize, status: u16) {
        self.faults.fail("", n, status, false);
    }

    /// Removes the injected failures that no request has hit yet, and stops those of
    /// [`Simulator::fail_percent`].
    pub fn fail_no_more(&self) {
        self.faults.clear();
    }

    /// Like [`Simulator::fail_next`], for requests whose path contains `path_part`.
    pub fn fail_next_on(&self, path_part: &str, n: usize, status: u16) {
        self.faults.fail(path_part, n, status, false);
    }

    /// Carries out the next request whose path contains `path_part`, but answers it with `status`.
    pub fn lose_answer_on(&self, path_part: &str, status: u16) {
        self.faults.fail(path_part, 1, status, true);
    }

    /// Fails the next request that has an idempotency key and whose path contains `path_part`.
    /// Keeps the failure for the key, as Stripe does once the execution of a request has begun.
    pub fn fail_for_key_on(&self, path_part: &str) {
        self.state(|state| state.failing_path = Some(path_part.to_owned()));
    }

    /// Returns the method and path of every API request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, String)> {
        self.faults.requests()
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut lock(&self.core.state))
    }
}
