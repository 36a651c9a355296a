//! The stored objects and their events; also customers and prices. No sockets here.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher as _;
use std::hash::RandomState;

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;

use super::API_VERSION;
use super::Card;
use super::Dunning;
use super::delivery::Delivery;
use super::delivery::Disorder;
use super::delivery::Posting;
use super::lists;
use super::objects;
use super::objects::Line;
use super::objects::Stamp;
use super::objects::text;
use super::versions::shape_event;
use crate::server::now;

/// An error of Stripe's API.
#[derive(Debug)]
pub(super) struct ApiError {
    pub status: u16,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub message: String,
    pub param: Option<String>,
}

impl ApiError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            code: None,
            message: message.into(),
            param: None,
        }
    }

    pub(super) fn code(mut self, code: &'static str, param: impl Into<String>) -> Self {
        self.code = Some(code);
        self.param = Some(param.into());
        self
    }

    pub(super) fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn declined() -> Self {
        let error = Self::invalid("Your card was declined.").status(402);
        Self { kind: "card_error", code: Some("card_declined"), ..error }
    }

    pub(super) fn required(param: impl Into<String>) -> Self {
        let param = param.into();
        Self::invalid(format!("Missing required param: {param}.")).code("parameter_missing", param)
    }

    /// Returns the error for an unknown id in a parameter: 400. An unknown id in the path is a 404.
    pub(super) fn missing(kind: &str, id: &str, param: &str) -> Self {
        let noun = kind.replace('.', " ");
        Self::invalid(format!("No such {noun}: '{id}'")).code("resource_missing", param)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)
    }
}

impl std::error::Error for ApiError {}

pub(super) type Result<T> = std::result::Result<T, ApiError>;

/// When a payment is confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PaymentTiming {
    Now,
    Later,
}

/// What a session sells.
#[derive(Clone)]
pub(super) struct Cart {
    pub lines: Vec<Line>,
    /// Metadata of the subscription in `subscription` mode, otherwise of the invoice.
    pub metadata: Value,
    /// `metadata` and `description` of the payment.
    pub payment: Value,
    pub trial_days: Option<i64>,
}

pub(super) struct State {
    pub base: String,
    /// The instant at which the clock is stopped.
    pub now: Option<Timestamp>,
    /// A clock that someone else moves, so that nothing here stops it for long.
    pub clock: Option<Box<dyn Fn() -> Timestamp + Send>>,
    pub livemode: bool,
    pub webhook_url: Option<String>,
    pub deliveries: Vec<Delivery>,
    pub disorder: Option<Disorder>,
    /// Events are stored but not delivered.
    pub drop_deliveries: bool,
    /// The API version of emitted events; `None` is [`API_VERSION`].
    pub event_version: Option<String>,
    /// The request and its response by idempotency key.
    pub responses: HashMap<String, (String, Value)>,
    /// A part of the path on which the next request with an idempotency key fails.
    pub failing_path: Option<String>,
    /// Idempotency keys whose failure is kept.
    pub failed_keys: HashSet<String>,
    seed: u64,
    last_id: u64,
    pub cards: HashMap<String, Card>,
    /// Bank debits that are under way, by invoice: the Unix second of the outcome, and whether the
    /// money comes.
    pub debits: HashMap<String, (i64, bool)>,
    pub dunning: Dunning,
    pub drafts_wait: bool,
    /// Customers whose invoices cannot be finalized.
    pub unfinalizable: HashSet<String>,
    pub carts: HashMap<String, Cart>,
    /// The next change of each object by time: Unix second, sequence number, object id. An entry is
    /// ignored if its object has changed since.
    pub schedule: BTreeSet<(i64, u64, String)>,
    /// One-time effects of time that have happened: the id of an invoice that became overdue, the
    /// key of a trial warning that was sent.
    pub past_effects: HashSet<String>,
    objects: HashMap<String, Value>,
    order: Vec<String>,
    outgoing: UnboundedSender<Posting>,
}

impl State {
    pub(super) fn new(
        base: String,
        webhook_url: Option<String>,
        outgoing: UnboundedSender<Posting>,
    ) -> Self {
        Self {
            base,
            now: None,
            clock: None,
            livemode: false,
            webhook_url,
            deliveries: Vec::new(),
            disorder: None,
            drop_deliveries: false,
            event_version: None,
            responses: HashMap::new(),
            failing_path: None,
            failed_keys: HashSet::new(),
            // Random, so that the ids of two instances on one database never collide.
            seed: RandomState::new().hash_one(0),
            last_id: 0,
            cards: HashMap::new(),
            debits: HashMap::new(),
            dunning: Dunning::default(),
            drafts_wait: false,
            unfinalizable: HashSet::new(),
            carts: HashMap::new(),
            schedule: BTreeSet::new(),
            past_effects: HashSet::new(),
            objects: HashMap::new(),
            order: Vec::new(),
            outgoing,
        }
    }

    /// Returns a new id that looks like Stripe's.
    pub(super) fn id(&mut self, prefix: &str, length: usize) -> String {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        self.last_id += 1;
        let mut digits = u128::from(self.seed ^ self.last_id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let random = (0..length).map(|_| {
            digits = digits.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(1);
            let index = usize::try_from((digits >> 64) % 62).expect("less than 62");
            char::from(ALPHABET[index])
        });
        prefix.chars().chain(random).collect()
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            now: self.now.unwrap_or_else(|| self.clock.as_ref().map_or_else(now, |clock| clock())),
            livemode: self.livemode,
        }
    }

    pub(super) fn store(&mut self, object: Value) {
        let id = text(&object, "id").to_owned();
        if let Some(due) = self.next_change(&object) {
            self.last_id += 1;
            self.schedule.insert((due, self.last_id, id.clone()));
        }
        if self.objects.insert(id.clone(), object).is_none() {
            self.order.push(id);
        }
    }

    pub(super) fn object(&self, id: &str) -> Option<&Value> {
        self.objects.get(id)
    }

    pub(super) fn find(&self, kind: &str, id: &str) -> Option<&Value> {
        self.objects.get(id).filter(|object| text(object, "object") == kind)
    }

    /// Returns the object that a path or a handle names, or a 404 error.
    pub(super) fn existing(&self, kind: &str, id: &str) -> Result<Value> {
        self.find(kind, id).cloned().ok_or_else(|| ApiError::missing(kind, id, "id").status(404))
    }

    /// Changes an object without emitting an event. Returns false if it does not exist.
    pub(super) fn edit(&mut self, kind: &str, id: &str, edit: impl FnOnce(&mut Value)) -> bool {
        let Some(mut object) = self.find(kind, id).cloned() else { return false };
        edit(&mut object);
        self.store(object);
        true
    }

    /// Stores a changed object and emits an event with its previous attributes. Does neither if
    /// nothing changed.
    pub(super) fn save(&mut self, event_type: &str, before: &Value, after: Value) -> Value {
        if let Some(previous) = objects::difference(before, &after) {
            self.store(after.clone());
            self.emit_change(event_type, &after, Some(previous));
        }
        after
    }

    /// Returns the customer that a request names, unless it is deleted.
    pub(super) fn customer(&self, id: &str) -> Result<&Value> {
        let customer = self.find("customer", id).filter(|customer| customer["deleted"] != true);
        customer.ok_or_else(|| ApiError::missing("customer", id, "customer"))
    }

    /// Refuses a subscription in another currency than that of one which the customer has.
    pub(super) fn check_currency(&self, customer: &str, currency: &Value) -> Result<()> {
        let other = self.all("subscription").find(|subscription| {
            let status = objects::text(subscription, "status");
            subscription["customer"] == customer
                && subscription["currency"] != *currency
                && !["canceled", "incomplete_expired"].contains(&status)
        });
        let Some(other) = other else { return Ok(()) };
        let message = format!(
            "You cannot combine currencies on a single customer. This customer has an active \
             subscription, subscription schedule, discount, quote, or invoice item with \
             currency {}",
            objects::text(other, "currency")
        );
        Err(ApiError::invalid(message))
    }

    /// Returns the price that a request names in `param`, if it is active.
    pub(super) fn price(&self, id: &str, param: &str) -> Result<Value> {
        let price = self.find("price", id).ok_or_else(|| ApiError::missing("price", id, param))?;
        if price["active"] == true {
            return Ok(price.clone());
        }
        Err(ApiError::invalid(
            "The price specified is inactive. This field only accepts active prices.",
        )
        .param(param))
    }

    /// Returns every object of a kind, oldest first.
    pub(super) fn all(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.order.iter().filter_map(move |id| self.find(kind, id))
    }

    pub(super) fn emit(&mut self, event_type: &str, object: &Value) -> Value {
        self.emit_change(event_type, object, None)
    }

    fn emit_change(&mut self, event_type: &str, object: &Value, previous: Option<Value>) -> Value {
        let id = self.id("evt_1", 23);
        let mut data = json!({ "object": object });
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        lists::abridge(&mut data);
        let mut event = json!({
            "id": id, "object": "event", "api_version": API_VERSION,
            "created": self.stamp().now.as_second(),
            "data": data, "livemode": self.livemode,
            "pending_webhooks": u8::from(self.webhook_url.is_some()),
            "request": { "id": null, "idempotency_key": null }, "type": event_type,
        });
        if let Some(version) = &self.event_version {
            event = shape_event(&event, version);
        }
        self.store(event.clone());
        if self.webhook_url.is_some() && !self.drop_deliveries {
            self.deliveries.push(Delivery::new(&id));
            self.hand_over(&id);
        }
        event
    }

    /// Delivers an event, which may have been delivered before.
    pub(super) fn deliver(&mut self, event_id: &str) {
        if !self.deliveries.iter().any(|delivery| delivery.event_id == event_id) {
            self.deliveries.push(Delivery::new(event_id));
        }
        self.hand_over(event_id);
    }

    /// Hands an event to the delivery task.
    fn hand_over(&mut self, event_id: &str) {
        for posting in Posting::plan(event_id, self.disorder.as_mut()) {
            // Fails only when the task's runtime has shut down, and everything else with it.
            drop(self.outgoing.send(posting));
        }
    }

    pub(super) fn create_customer(&mut self, params: &Value) -> Value {
        let id = self.id("cus_", 14);
        let customer = objects::customer(&id, self.stamp(), params);
        self.store(customer.clone());
        customer
    }

    pub(super) fn create_price(&mut self, params: &Value) -> Value {
        let id = self.id("price_1", 23);
        self.insert_price(&id, params)
    }

    pub(super) fn insert_price(&mut self, id: &str, params: &Value) -> Value {
        let price = objects::price(id, self.stamp(), params);
        self.store(price.clone());
        price
    }
}
