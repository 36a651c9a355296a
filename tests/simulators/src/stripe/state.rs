//! The stored objects and what a payment does to them. No sockets here.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::delivery::Delivery;
use super::objects::{self, Line, Sale, Stamp, address, metadata, text};
use super::{API_VERSION, Payer};
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
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { status: 400, kind: "invalid_request_error", code: None, message: message.into(), param: None }
    }

    pub fn code(mut self, code: &'static str, param: impl Into<String>) -> Self {
        self.code = Some(code);
        self.param = Some(param.into());
        self
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// An id in a parameter that names nothing: 400, where the same id in the path is 404.
    pub fn missing(kind: &str, id: &str, param: &str) -> Self {
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

/// When a payer's money is confirmed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Payment {
    Now,
    Later,
}

/// What a session sells, until it is paid.
struct Cart {
    lines: Vec<Line>,
    metadata: Value,
}

pub(super) struct State {
    pub base: String,
    pub now: Option<Timestamp>,
    pub livemode: bool,
    pub webhook_url: Option<String>,
    pub deliveries: Vec<Delivery>,
    /// Idempotency key → what was asked, and its answer.
    pub answered: HashMap<String, (String, Value)>,
    /// Where the next request with an idempotency key fails, and keys whose failure is kept.
    pub failing: Option<String>,
    pub failed: HashSet<String>,
    seed: u64,
    last_id: u64,
    objects: HashMap<String, Value>,
    order: Vec<String>,
    carts: HashMap<String, Cart>,
    outgoing: UnboundedSender<String>,
}

impl State {
    pub fn new(base: String, webhook_url: Option<String>, outgoing: UnboundedSender<String>) -> Self {
        Self {
            base,
            now: None,
            livemode: false,
            webhook_url,
            deliveries: Vec::new(),
            answered: HashMap::new(),
            failing: None,
            failed: HashSet::new(),
            // Random, so that ids of two instances on one database never meet.
            seed: RandomState::new().hash_one(0),
            last_id: 0,
            objects: HashMap::new(),
            order: Vec::new(),
            carts: HashMap::new(),
            outgoing,
        }
    }

    /// A fresh id of Stripe's look.
    pub fn id(&mut self, prefix: &str, length: usize) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        self.last_id += 1;
        let mut digits = u128::from(self.seed ^ self.last_id.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let random = (0..length).map(|_| {
            digits = digits.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(1);
            let index = usize::try_from((digits >> 64) % 62).expect("less than 62");
            char::from(ALPHABET[index])
        });
        prefix.chars().chain(random).collect()
    }

    pub fn stamp(&self) -> Stamp {
        Stamp { now: self.now.unwrap_or_else(now), livemode: self.livemode }
    }

    fn store(&mut self, object: Value) {
        let id = text(&object, "id").to_owned();
        if self.objects.insert(id.clone(), object).is_none() {
            self.order.push(id);
        }
    }

    pub fn object(&self, id: &str) -> Option<&Value> {
        self.objects.get(id)
    }

    pub fn find(&self, kind: &str, id: &str) -> Option<&Value> {
        self.objects.get(id).filter(|object| text(object, "object") == kind)
    }

    pub fn find_mut(&mut self, kind: &str, id: &str) -> Option<&mut Value> {
        self.objects.get_mut(id).filter(|object| text(object, "object") == kind)
    }

    /// Every object of a kind, oldest first.
    pub fn all(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.order.iter().filter_map(move |id| self.find(kind, id))
    }

    pub fn emit(&mut self, event_type: &str, object: &Value) -> Value {
        self.emit_change(event_type, object, None)
    }

    fn emit_change(&mut self, event_type: &str, object: &Value, previous: Option<Value>) -> Value {
        let id = self.id("evt_1", 23);
        let mut data = json!({ "object": object });
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let event = json!({
            "id": id, "object": "event", "api_version": API_VERSION, "created": self.stamp().now.as_second(),
            "data": data, "livemode": self.livemode, "pending_webhooks": u8::from(self.webhook_url.is_some()),
            "request": { "id": null, "idempotency_key": null }, "type": event_type,
        });
        self.store(event.clone());
        if self.webhook_url.is_some() {
            self.deliver(&id);
        }
        event
    }

    /// Hands an event to the delivery task.
    pub fn deliver(&mut self, event_id: &str) {
        if !self.deliveries.iter().any(|delivery| delivery.event_id == event_id) {
            self.deliveries.push(Delivery::new(event_id));
        }
        // Fails only when the runtime of the task is gone, and with it everything else.
        drop(self.outgoing.send(event_id.to_owned()));
    }

    pub fn create_customer(&mut self, params: &Value) -> Value {
        let id = self.id("cus_", 14);
        let customer = objects::customer(&id, self.stamp(), params);
        self.store(customer.clone());
        customer
    }

    pub fn create_portal(&mut self, params: &Value) -> Result<Value> {
        let Some(customer) = params["customer"].as_str() else {
            return Err(ApiError::invalid("Missing required param: customer.").code("parameter_missing", "customer"));
        };
        if self.find("customer", customer).is_none() {
            return Err(ApiError::missing("customer", customer, "customer"));
        }
        let id = self.id("bps_1", 23);
        let url = format!("{}pay/portal/{id}", self.base);
        let session = objects::portal_session(&id, self.stamp(), &url, params);
        self.store(session.clone());
        Ok(session)
    }

    pub fn create_price(&mut self, params: &Value) -> Value {
        let id = self.id("price_1", 23);
        self.insert_price(&id, params)
    }

    pub fn insert_price(&mut self, id: &str, params: &Value) -> Value {
        let price = objects::price(id, self.stamp(), params);
        self.store(price.clone());
        price
    }

    pub fn create_session(&mut self, params: &Value) -> Result<Value> {
        let mode = text(params, "mode");
        for required in ["mode", "line_items", "success_url"] {
            if params.get(required).is_none() {
                let message = format!("Missing required param: {required}.");
                return Err(ApiError::invalid(message).code("parameter_missing", required));
            }
        }
        if !["subscription", "payment"].contains(&mode) {
            let message = "Invalid mode: must be one of payment or subscription (setup is not simulated)";
            return Err(ApiError::invalid(message).code("parameter_unknown", "mode"));
        }
        if mode != "subscription" && params.get("subscription_data").is_some() {
            let message = "You can not pass `subscription_data` in `payment` mode.";
            return Err(ApiError::invalid(message).code("parameter_unknown", "subscription_data"));
        }
        let mut email = params["customer_email"].as_str();
        if let Some(id) = params["customer"].as_str() {
            if email.is_some() {
                let message = "You may only specify one of these parameters: customer, customer_email.";
                return Err(ApiError::invalid(message));
            }
            let customer = self.find("customer", id);
            let customer = customer.ok_or_else(|| ApiError::missing("customer", id, "customer"))?;
            email = customer["email"].as_str();
        }
        let details = email.map(|email| objects::customer_details(email, &Value::Null, &Value::Null, &Value::Null));
        let lines = self.lines(mode, &params["line_items"])?;
        let id = self.id(if self.livemode { "cs_live_" } else { "cs_test_" }, 58);
        let url = format!("{}pay/{id}", self.base);
        let mut session = objects::session(&id, self.stamp(), &url, params, &lines);
        session["customer_details"] = details.unwrap_or_default();
        let of_sale = match mode {
            "subscription" => &params["subscription_data"],
            _ => &params["invoice_creation"]["invoice_data"],
        };
        let cart = Cart { lines, metadata: metadata(of_sale) };
        self.carts.insert(id, cart);
        self.store(session.clone());
        Ok(session)
    }

    fn lines(&mut self, mode: &str, given: &Value) -> Result<Vec<Line>> {
        // A form's lists arrive as objects keyed by index.
        let mut given: Vec<_> = given.as_object().into_iter().flatten().collect();
        given.sort_by_key(|(index, _)| index.parse::<u32>().unwrap_or(u32::MAX));
        let mut lines = Vec::new();
        for (index, item) in given {
            let param = format!("line_items[{index}][price]");
            let price_id = text(item, "price");
            let price = self.find("price", price_id).cloned();
            let price = price.ok_or_else(|| ApiError::missing("price", price_id, &param))?;
            if mode == "payment" && price["recurring"].is_object() {
                let message = "You must use `subscription` mode when using recurring prices.";
                return Err(ApiError::invalid(message));
            }
            let quantity = text(item, "quantity").parse().ok().filter(|quantity| *quantity > 0);
            let quantity = quantity.ok_or_else(|| {
                let param = format!("line_items[{index}][quantity]");
                ApiError::invalid("Quantity is required and must be positive.").code("parameter_invalid_integer", param)
            })?;
            lines.push(Line { id: self.id("li_1", 23), price, quantity });
        }
        if mode == "subscription" && !lines.iter().any(|line| line.price["recurring"].is_object()) {
            let message = "You must provide at least one recurring price in `subscription` mode when using prices.";
            return Err(ApiError::invalid(message));
        }
        Ok(lines)
    }

    pub fn line_items(&self, session_id: &str) -> Value {
        let lines = self.carts.get(session_id).map(|cart| cart.lines.as_slice());
        objects::line_items(session_id, lines.unwrap_or_default())
    }

    /// A session that can still be paid; one past its time expires here, as nothing else watches the clock.
    fn open_session(&mut self, id: &str) -> Result<Value> {
        let session = self.find("checkout.session", id).cloned();
        let session = session.ok_or_else(|| ApiError::missing("checkout.session", id, "session").status(404))?;
        if text(&session, "status") != "open" {
            return Err(ApiError::invalid("This Checkout Session is no longer open."));
        }
        if session["expires_at"].as_i64() <= Some(self.stamp().now.as_second()) {
            self.close_expired(session);
            return Err(ApiError::invalid("This Checkout Session has expired."));
        }
        Ok(session)
    }

    pub fn expire(&mut self, id: &str) -> Result<Value> {
        let session = self.open_session(id)?;
        Ok(self.close_expired(session))
    }

    fn close_expired(&mut self, mut session: Value) -> Value {
        session["status"] = json!("expired");
        session["url"] = Value::Null;
        self.store(session.clone());
        self.emit("checkout.session.expired", &session);
        session
    }

    pub fn complete(&mut self, id: &str, payer: Payer, payment: Payment) -> Result<Value> {
        let mut session = self.open_session(id)?;
        let (lines, sale_metadata) = match self.carts.get(id) {
            Some(cart) => (cart.lines.clone(), cart.metadata.clone()),
            None => return Err(ApiError::invalid("This Checkout Session sells nothing.")),
        };
        let stamp = self.stamp();
        let recurring = text(&session, "mode") == "subscription";
        let total = session["amount_total"].as_i64().unwrap_or_default();
        let paid = payment == Payment::Now || total == 0;

        // The payment page lets nobody change an address that the session or its customer brings.
        let email = session["customer_details"]["email"].as_str().map_or(payer.email, str::to_owned);
        let (name, phone) = (json!(payer.name), json!(payer.phone));
        let address = address(&json!(payer.address));
        session["customer_details"] = objects::customer_details(&email, &name, &phone, &address);
        let with_invoice = recurring || session["invoice_creation"]["enabled"] == true;
        let wants_customer = with_invoice || text(&session, "customer_creation") == "always";
        if session["customer"].is_null() && wants_customer {
            let params = json!({ "email": email, "name": name, "phone": phone, "address": address });
            session["customer"] = self.create_customer(&params)["id"].clone();
        }
        let customer_id = text(&session, "customer").to_owned();
        let customer = self.object(&customer_id).cloned().unwrap_or_default();

        let subscription_id = recurring.then(|| self.id("sub_1", 23));
        let invoice_id = self.id("in_1", 23);
        let sale =
            Sale { subscription: subscription_id.as_deref(), invoice: &invoice_id, customer: &customer_id, lines: &lines, metadata: &sale_metadata, paid };
        let invoice = with_invoice.then(|| objects::invoice(stamp, &sale, &customer));
        if let Some(invoice) = &invoice {
            session["invoice"] = invoice["id"].clone();
            self.store(invoice.clone());
        }
        if let Some(id) = &subscription_id {
            let subscription = objects::subscription(id, stamp, &sale);
            session["subscription"] = json!(id);
            self.store(subscription.clone());
            self.emit("customer.subscription.created", &subscription);
        } else if total > 0 {
            session["payment_intent"] = json!(self.id("pi_3", 23));
        }
        session["status"] = json!("complete");
        session["url"] = Value::Null;
        session["payment_status"] = json!(match (total, paid) {
            (0, _) => "no_payment_required",
            (_, true) => "paid",
            (_, false) => "unpaid",
        });
        self.store(session.clone());
        self.emit("checkout.session.completed", &session);
        if let Some(invoice) = invoice.filter(|_| paid) {
            self.emit("invoice.paid", &invoice);
        }
        Ok(session)
    }

    /// A completed session whose money is still on its way.
    fn pending_session(&self, id: &str) -> Result<Value> {
        let session = self.find("checkout.session", id).cloned();
        let session = session.ok_or_else(|| ApiError::missing("checkout.session", id, "session").status(404))?;
        let pending = text(&session, "status") == "complete" && text(&session, "payment_status") == "unpaid";
        if pending { Ok(session) } else { Err(ApiError::invalid("No payment of this Checkout Session is pending.")) }
    }

    pub fn settle(&mut self, id: &str) -> Result<Value> {
        let mut session = self.pending_session(id)?;
        session["payment_status"] = json!("paid");
        self.store(session.clone());
        self.emit("checkout.session.async_payment_succeeded", &session);
        if let Some(mut invoice) = self.find("invoice", text(&session, "invoice")).cloned() {
            objects::mark_paid(&mut invoice, self.stamp());
            self.store(invoice.clone());
            self.emit("invoice.paid", &invoice);
        }
        Ok(session)
    }

    pub fn fail_async(&mut self, id: &str) -> Result<Value> {
        let session = self.pending_session(id)?;
        self.emit("checkout.session.async_payment_failed", &session);
        if let Some(invoice) = self.find("invoice", text(&session, "invoice")).cloned() {
            self.emit("invoice.payment_failed", &invoice);
        }
        if let Some(mut subscription) = self.find("subscription", text(&session, "subscription")).cloned() {
            let previous = json!({ "status": subscription["status"] });
            subscription["status"] = json!("past_due");
            self.store(subscription.clone());
            self.emit_change("customer.subscription.updated", &subscription, Some(previous));
        }
        Ok(session)
    }

    /// Ends a subscription at once. One that has ended is none any more for Stripe, though it can still be read.
    pub fn cancel(&mut self, id: &str) -> Result<Value> {
        let subscription = self.find("subscription", id).filter(|subscription| text(subscription, "status") != "canceled").cloned();
        let mut subscription = subscription.ok_or_else(|| ApiError::missing("subscription", id, "id").status(404))?;
        objects::mark_canceled(&mut subscription, self.stamp());
        self.store(subscription.clone());
        self.emit("customer.subscription.deleted", &subscription);
        Ok(subscription)
    }
}
