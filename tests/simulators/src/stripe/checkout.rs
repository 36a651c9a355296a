//! Checkout sessions: creation, payment and expiry.

use serde_json::Value;
use serde_json::json;

use super::Card;
use super::Payer;
use super::bounds;
use super::ledger;
use super::ledger::InvoiceParams;
use super::objects;
use super::objects::Line;
use super::objects::address;
use super::objects::metadata;
use super::objects::ordered;
use super::objects::text;
use super::state::ApiError;
use super::state::Cart;
use super::state::PaymentTiming;
use super::state::Result;
use super::state::State;

/// Stripe's minimum charge in US cents.
const MINIMUM_CHARGE: i64 = 50;

impl State {
    pub(super) fn create_session(&mut self, params: &Value) -> Result<Value> {
        let mode = text(params, "mode");
        if let Some(required) = ["mode", "line_items", "success_url"]
            .into_iter()
            .find(|required| params.get(required).is_none())
        {
            return Err(ApiError::required(required));
        }
        if !["subscription", "payment"].contains(&mode) {
            let message =
                "Invalid mode: must be one of payment or subscription (setup is not simulated)";
            return Err(ApiError::invalid(message).code("parameter_unknown", "mode"));
        }
        let foreign: &[&str] = if mode == "payment" {
            &["subscription_data"]
        } else {
            &["invoice_creation", "payment_intent_data"]
        };
        if let Some(foreign) = foreign.iter().find(|foreign| params.get(**foreign).is_some()) {
            let message = format!("You can not pass `{foreign}` in `{mode}` mode.");
            return Err(ApiError::invalid(message).code("parameter_unknown", *foreign));
        }
        if mode == "subscription" && params.get("customer_creation").is_some() {
            let message = "`customer_creation` can only be used in `payment` mode.";
            return Err(ApiError::invalid(message));
        }
        self.check_terms(params)?;
        let mut email = params["customer_email"].as_str();
        if let Some(id) = params["customer"].as_str() {
            if email.is_some() {
                let message =
                    "You may only specify one of these parameters: customer, customer_email.";
                return Err(ApiError::invalid(message));
            }
            email = self.customer(id)?["email"].as_str();
        }
        let details = email.map(|email| {
            objects::customer_details(email, &Value::Null, &Value::Null, &Value::Null)
        });
        let sale_params = match mode {
            "subscription" => &params["subscription_data"],
            _ => &params["invoice_creation"]["invoice_data"],
        };
        let trial_days = sale_params.get("trial_period_days").map(|_| {
            text(sale_params, "trial_period_days")
                .parse::<i64>()
                .ok()
                .filter(|days| (1..=730).contains(days))
        });
        if trial_days == Some(None) {
            let param = "subscription_data[trial_period_days]";
            return Err(
                ApiError::invalid("The minimum number of trial period days is 1.").param(param)
            );
        }
        let lines = self.lines(mode, &params["line_items"], trial_days.is_some())?;
        if let (Some(customer), "subscription", Some(line)) =
            (params["customer"].as_str(), mode, lines.first())
        {
            self.check_currency(customer, &line.price["currency"])?;
        }
        let total: i64 = lines.iter().map(Line::amount).sum();
        if mode == "payment" && (1..MINIMUM_CHARGE).contains(&total) {
            let message = "The Checkout Session's total amount must convert to at least 50 cents.";
            return Err(ApiError { code: Some("amount_too_small"), ..ApiError::invalid(message) });
        }
        bounds::check_amount(total)?;
        let id = self.id(if self.livemode { "cs_live_" } else { "cs_test_" }, 58);
        let url = format!("{}pay/{id}", self.base);
        let mut session = objects::session(&id, self.stamp(), &url, params, &lines);
        session["customer_details"] = details.unwrap_or_default();
        let payment = json!({
            "description": params["payment_intent_data"]["description"],
            "metadata": metadata(&params["payment_intent_data"]),
        });
        let cart = Cart {
            lines,
            metadata: metadata(sale_params),
            payment,
            trial_days: trial_days.flatten(),
        };
        self.carts.insert(id, cart);
        self.store(session.clone());
        Ok(session)
    }

    /// Checks the expiry time and the payment methods.
    fn check_terms(&self, params: &Value) -> Result<()> {
        if let Some(expires_at) = params.get("expires_at") {
            let left = expires_at
                .as_str()
                .and_then(|at| at.parse::<i64>().ok())
                .map(|at| at - self.stamp().created());
            let message = match left {
                Some(..1_800) => {
                    "The `expires_at` timestamp must be at least 30 minutes from Checkout Session \
                     creation."
                }
                Some(1_800..=86_400) => "",
                Some(_) => {
                    "The `expires_at` timestamp must be less than 24 hours from Checkout Session \
                     creation."
                }
                None => "Invalid timestamp: expires_at must be an integer Unix timestamp.",
            };
            if !message.is_empty() {
                return Err(ApiError::invalid(message).param("expires_at"));
            }
        }
        for (index, method) in ordered(&params["allowed_payment_method_types"]) {
            if !["card", "us_bank_account"].contains(&method.as_str().unwrap_or_default()) {
                let param = format!("allowed_payment_method_types[{index}]");
                return Err(ApiError::invalid(format!(
                    "Invalid {param}: must be one of card or us_bank_account"
                ))
                .param(param));
            }
        }
        Ok(())
    }

    fn lines(&mut self, mode: &str, items: &Value, trial: bool) -> Result<Vec<Line>> {
        let mut lines: Vec<Line> = Vec::new();
        for (index, item) in ordered(items) {
            let (price, description) = if let Some(data) = item.get("price_data") {
                (
                    self.inline_price(data, &format!("line_items[{index}][price_data]"))?,
                    data["product_data"]["name"].clone(),
                )
            } else {
                let price =
                    self.price(text(item, "price"), &format!("line_items[{index}][price]"))?;
                let description = price["nickname"].clone();
                (price, description)
            };
            let recurring = &price["recurring"];
            if mode == "payment" && recurring.is_object() {
                let message = "You must use `subscription` mode when using recurring prices.";
                return Err(ApiError::invalid(message));
            }
            if lines.iter().any(|line| {
                line.recurs() && recurring.is_object() && line.price["recurring"] != *recurring
            }) {
                return Err(ApiError::invalid(
                    "All prices on a subscription must have the same `recurring.interval` and \
                     `recurring.interval_count`.",
                ));
            }
            if let Some(other) =
                lines.first().filter(|line| line.price["currency"] != price["currency"])
            {
                let message = format!(
                    "The price specified only supports `{}`. This doesn't match the expected \
                     currency: `{}`.",
                    text(&price, "currency"),
                    text(&other.price, "currency")
                );
                return Err(ApiError::invalid(message).param(format!("line_items[{index}][price]")));
            }
            let quantity = text(item, "quantity").parse().ok().filter(|quantity| *quantity > 0);
            let quantity = quantity.ok_or_else(|| {
                let param = format!("line_items[{index}][quantity]");
                ApiError::invalid("Quantity is required and must be positive.")
                    .code("parameter_invalid_integer", param)
            })?;
            let id = self.id("li_1", 23);
            lines.push(Line {
                item: id.replacen("li_", "si_", 1),
                id,
                price,
                quantity,
                description,
                trial,
            });
        }
        let recurring = lines.iter().filter(|line| line.recurs()).count();
        let most = if mode == "payment" { bounds::LINES } else { bounds::ITEMS };
        bounds::check_count(recurring.max(lines.len() - recurring), most, "line_items")?;
        if mode == "subscription" && recurring == 0 {
            let message = "You must provide at least one recurring price in `subscription` mode \
                           when using prices.";
            return Err(ApiError::invalid(message));
        }
        Ok(lines)
    }

    /// Creates the price of a `price_data`. As at Stripe, it is stored but inactive.
    fn inline_price(&mut self, data: &Value, param: &str) -> Result<Value> {
        let required = [
            ("currency", &data["currency"]),
            ("unit_amount", &data["unit_amount"]),
            ("product_data][name", &data["product_data"]["name"]),
        ];
        if let Some((key, _)) =
            required.iter().find(|(_, value)| value.as_str().is_none_or(str::is_empty))
        {
            return Err(ApiError::required(format!("{param}[{key}]")));
        }
        if text(data, "unit_amount").parse::<u32>().is_err() {
            let param = format!("{param}[unit_amount]");
            return Err(ApiError::invalid(format!(
                "Invalid integer: {}",
                text(data, "unit_amount")
            ))
            .code("parameter_invalid_integer", param));
        }
        let mut params = data.clone();
        params["product"] = json!(self.id("prod_", 14));
        params["active"] = json!("false");
        Ok(self.create_price(&params))
    }

    pub(super) fn line_items(&self, session_id: &str) -> Value {
        let lines = self.carts.get(session_id).map(|cart| cart.lines.as_slice());
        objects::line_items(session_id, lines.unwrap_or_default())
    }

    /// Returns a session that can still be paid. Expires one that is past its time, because a test
    /// may set the clock without advancing it.
    fn open_session(&mut self, id: &str) -> Result<Value> {
        let session = self.find("checkout.session", id).cloned();
        let session = session
            .ok_or_else(|| ApiError::missing("checkout.session", id, "session").status(404))?;
        if text(&session, "status") != "open" {
            return Err(ApiError::invalid("This Checkout Session is no longer open."));
        }
        if session["expires_at"].as_i64() <= Some(self.stamp().now.as_second()) {
            self.close_expired(session);
            return Err(ApiError::invalid("This Checkout Session has expired."));
        }
        Ok(session)
    }

    pub(super) fn expire(&mut self, id: &str) -> Result<Value> {
        let session = self.open_session(id)?;
        Ok(self.close_expired(session))
    }

    pub(super) fn close_expired(&mut self, mut session: Value) -> Value {
        session["status"] = json!("expired");
        session["url"] = Value::Null;
        self.store(session.clone());
        self.emit("checkout.session.expired", &session);
        session
    }

    pub(super) fn complete(
        &mut self,
        id: &str,
        payer: Payer,
        timing: PaymentTiming,
    ) -> Result<Value> {
        let mut session = self.open_session(id)?;
        let Some(cart) = self.carts.get(id).cloned() else {
            return Err(ApiError::invalid("This Checkout Session sells nothing."));
        };
        let methods = session["payment_method_types"].as_array();
        let method = if timing == PaymentTiming::Later { "us_bank_account" } else { "card" };
        if !methods.is_some_and(|methods| methods.iter().any(|known| known == method)) {
            return Err(ApiError::invalid(format!(
                "This Checkout Session cannot be paid by {method}."
            )));
        }
        let stamp = self.stamp();
        let recurring = text(&session, "mode") == "subscription";
        let total = session["amount_total"].as_i64().unwrap_or_default();
        let paid = timing == PaymentTiming::Now || total == 0;
        if timing == PaymentTiming::Now && self.card(text(&session, "customer")) == Card::Declines {
            return Err(ApiError::declined());
        }

        // On the payment page, an email address of the session or its customer cannot be changed.
        let email =
            session["customer_details"]["email"].as_str().map_or(payer.email, str::to_owned);
        let (name, phone) = (json!(payer.name), json!(payer.phone));
        let address = address(&json!(payer.address));
        session["customer_details"] = objects::customer_details(&email, &name, &phone, &address);
        let with_invoice = recurring || session["invoice_creation"]["enabled"] == true;
        let wants_customer = with_invoice || text(&session, "customer_creation") == "always";
        if session["customer"].is_null() && wants_customer {
            let params =
                json!({ "email": email, "name": name, "phone": phone, "address": address });
            session["customer"] = self.create_customer(&params)["id"].clone();
        }
        let customer_id = text(&session, "customer").to_owned();
        let customer = self.object(&customer_id).cloned().unwrap_or_default();

        let mut subscription = recurring.then(|| {
            let id = self.id("sub_1", 23);
            ledger::subscription(
                &id,
                stamp,
                &customer_id,
                &cart.lines,
                &cart.metadata,
                cart.trial_days,
            )
        });
        // The ids of the intent and the charge derive from this id, even without an invoice.
        let invoice_id = self.id("in_1", 23);
        let invoice = with_invoice.then(|| {
            let (reason, metadata) = if recurring {
                ("subscription_create", json!({}))
            } else {
                ("manual", cart.metadata.clone())
            };
            let now = (stamp.created(), stamp.created());
            let params = InvoiceParams {
                id: &invoice_id,
                customer: &customer,
                lines: &cart.lines,
                subscription: subscription.as_ref(),
                metadata: &metadata,
                reason,
                past_period: now,
            };
            let mut invoice = ledger::invoice(stamp, &params);
            ledger::finalize(&mut invoice, stamp);
            invoice["attempted"] = json!(true);
            if paid {
                ledger::mark_paid(&mut invoice, stamp);
            }
            invoice
        });
        if let Some(invoice) = &invoice {
            session["invoice"] = invoice["id"].clone();
            self.store(invoice.clone());
        }
        if let Some(subscription) = &mut subscription {
            subscription["latest_invoice"] = json!(invoice_id);
            session["subscription"] = subscription["id"].clone();
            self.store(subscription.clone());
            self.emit("customer.subscription.created", subscription);
        } else if total > 0 {
            session["payment_intent"] = json!(ledger::payment_ids(&invoice_id).0);
        }
        session["status"] = json!("complete");
        session["url"] = Value::Null;
        session["payment_status"] = json!(match (total, paid) {
            (0, _) => "no_payment_required",
            (_, true) => "paid",
            (_, false) => "unpaid",
        });
        self.store(session.clone());
        if paid {
            self.charge_session(&session, &invoice_id);
        }
        self.emit("checkout.session.completed", &session);
        if let Some(invoice) = invoice.filter(|_| paid) {
            self.emit("invoice.paid", &invoice);
        }
        Ok(session)
    }

    /// Stores the charge that paid a session. `of` is the id of its invoice or payment intent.
    fn charge_session(&mut self, session: &Value, of: &str) {
        let amount = session["amount_total"].as_i64().unwrap_or_default();
        let payment = self
            .carts
            .get(text(session, "id"))
            .map(|cart| cart.payment.clone())
            .unwrap_or_default();
        let description = if session["subscription"].is_string() {
            json!("Subscription creation")
        } else {
            payment["description"].clone()
        };
        self.charge(&ledger::ChargeParams {
            of,
            amount,
            currency: &session["currency"],
            customer: &session["customer"],
            payer: &session["customer_details"],
            description: &description,
            metadata: &payment["metadata"],
        });
    }

    /// Returns a completed session whose payment is still pending.
    fn pending_session(&self, id: &str) -> Result<Value> {
        let session = self.find("checkout.session", id).cloned();
        let session = session
            .ok_or_else(|| ApiError::missing("checkout.session", id, "session").status(404))?;
        let pending =
            text(&session, "status") == "complete" && text(&session, "payment_status") == "unpaid";
        if pending {
            Ok(session)
        } else {
            Err(ApiError::invalid("No payment of this Checkout Session is pending."))
        }
    }

    pub(super) fn settle(&mut self, id: &str) -> Result<Value> {
        let mut session = self.pending_session(id)?;
        session["payment_status"] = json!("paid");
        self.store(session.clone());
        let invoice = session["invoice"].as_str().map(str::to_owned);
        let of = session["payment_intent"].as_str().or(invoice.as_deref()).unwrap_or_default();
        self.charge_session(&session, of);
        self.emit("checkout.session.async_payment_succeeded", &session);
        if let Some(invoice) = invoice {
            self.pay_invoice(&invoice);
        }
        Ok(session)
    }

    pub(super) fn fail_async(&mut self, id: &str) -> Result<Value> {
        let session = self.pending_session(id)?;
        self.emit("checkout.session.async_payment_failed", &session);
        if let Some(invoice) = session["invoice"].as_str() {
            self.fail_payment(invoice, Card::Declines);
        }
        Ok(session)
    }
}
