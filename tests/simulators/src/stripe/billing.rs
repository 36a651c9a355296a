//! What time does: trials end, periods renew, invoices are collected, retried and given up,
//! sessions expire.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::Card;
use super::GivenUp;
use super::ledger;
use super::ledger::Bill;
use super::objects::Line;
use super::objects::next_period_end;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Statuses from which a subscription goes on.
pub(super) const GOING: [&str; 6] =
    ["trialing", "active", "past_due", "unpaid", "paused", "incomplete"];

impl State {
    /// When time changes an object next, in seconds; nothing where it does not.
    pub fn due(&self, object: &Value) -> Option<i64> {
        let at = |key: &str| object[key].as_i64();
        match (text(object, "object"), text(object, "status")) {
            ("checkout.session", "open") => at("expires_at"),
            ("invoice", "draft") => at("automatically_finalizes_at"),
            ("invoice", "open") => at("next_payment_attempt")
                .or(at("due_date").filter(|_| !self.told.contains(text(object, "id")))),
            ("subscription", "incomplete") => at("created").map(|created| created + 23 * HOUR),
            ("subscription", status) if GOING.contains(&status) => {
                let renewal =
                    Some(ledger::period(object).1).filter(|end| *end > 0 && status != "paused");
                [self.warning(object), at("cancel_at"), renewal].into_iter().flatten().min()
            }
            _ => None,
        }
    }

    /// When `trial_will_end` is to be told.
    fn warning(&self, subscription: &Value) -> Option<i64> {
        let end = subscription["trial_end"]
            .as_i64()
            .filter(|_| text(subscription, "status") == "trialing")?;
        (!self.told.contains(&warned(subscription))).then_some(end - 3 * DAY)
    }

    /// Lets time pass, through everything that is due on the way, in its order. Time never goes
    /// back.
    pub fn advance_to(&mut self, to: Timestamp) {
        while let Some((due, _, id)) =
            self.schedule.first().filter(|(due, ..)| *due <= to.as_second()).cloned()
        {
            self.schedule.pop_first();
            let object = self.object(&id).cloned().unwrap_or_default();
            if self.due(&object) != Some(due) {
                continue;
            }
            if let Ok(due) = Timestamp::from_second(due) {
                self.now = Some(self.stamp().now.max(due));
            }
            self.pass(object);
        }
        self.now = Some(self.stamp().now.max(to));
    }

    /// Does what is due for an object.
    fn pass(&mut self, object: Value) {
        let id = text(&object, "id").to_owned();
        match (text(&object, "object"), text(&object, "status")) {
            ("checkout.session", _) => drop(self.close_expired(object)),
            ("invoice", "draft") => self.issue(&id),
            ("invoice", _) if object["next_payment_attempt"].is_i64() => self.collect(&id),
            ("invoice", _) => {
                self.told.insert(id);
                self.fall_due(&object);
            }
            ("subscription", "incomplete") => self.give_up_first(&object),
            _ => self.pass_subscription(object),
        }
    }

    fn pass_subscription(&mut self, subscription: Value) {
        let now = self.stamp().created();
        let end = ledger::period(&subscription).1;
        let cancel_at = subscription["cancel_at"]
            .as_i64()
            .or(Some(end).filter(|_| subscription["cancel_at_period_end"] == true));
        let warning = self.warning(&subscription);
        if cancel_at.is_some_and(|at| at <= now) {
            self.end(subscription, None);
        } else if warning.is_some_and(|at| at <= now) {
            self.told.insert(warned(&subscription));
            self.emit("customer.subscription.trial_will_end", &subscription);
            self.store(subscription);
        } else {
            let mut renewed = subscription.clone();
            if text(&renewed, "status") == "trialing" {
                renewed["status"] = json!("active");
            }
            self.bill(&subscription, renewed, end, "subscription_cycle");
        }
    }

    /// Starts a period, with an invoice for all items together, and saves the subscription.
    pub fn bill(&mut self, before: &Value, mut after: Value, start: i64, reason: &'static str) {
        let end = next_period_end(
            after["billing_cycle_anchor"].as_i64().unwrap_or(start),
            ledger::recurring(&after),
            start,
        );
        for item in after["items"]["data"].as_array_mut().into_iter().flatten() {
            item["current_period_start"] = json!(start);
            item["current_period_end"] = json!(end);
        }
        if after["cancel_at_period_end"] == true {
            after["cancel_at"] = json!(end);
        }
        let mut invoice = self.draft(&after, reason, ledger::period(before));
        let id = text(&invoice, "id").to_owned();
        after["latest_invoice"] = json!(id);
        let collection = text(&after["pause_collection"], "behavior").to_owned();
        let kept = collection == "keep_as_draft" || text(&after, "status") == "unpaid";
        if kept {
            invoice["auto_advance"] = json!(false);
        } else if self.drafts_wait {
            invoice["automatically_finalizes_at"] = json!(self.stamp().created() + HOUR);
        }
        let waits = kept || self.drafts_wait;
        self.store(invoice.clone());
        self.emit("invoice.created", &invoice);
        self.save("customer.subscription.updated", before, after);
        if !waits {
            self.issue(&id);
        }
    }

    /// An invoice for the present period of a subscription, not stored yet.
    pub fn draft(
        &mut self,
        subscription: &Value,
        reason: &'static str,
        elapsed: (i64, i64),
    ) -> Value {
        let trial = text(subscription, "status") == "trialing";
        let items = subscription["items"]["data"].as_array().into_iter().flatten();
        let lines: Vec<Line> = items
            .map(|item| Line {
                id: self.id("li_1", 23),
                item: text(item, "id").to_owned(),
                price: item["price"].clone(),
                quantity: item["quantity"].as_i64().unwrap_or_default(),
                description: item["price"]["nickname"].clone(),
                trial,
            })
            .collect();
        let id = self.id("in_1", 23);
        let customer = self.object(text(subscription, "customer")).cloned().unwrap_or_default();
        let bill = Bill {
            id: &id,
            customer: &customer,
            lines: &lines,
            subscription: Some(subscription),
            metadata: &json!({}),
            reason,
            elapsed,
        };
        ledger::invoice(self.stamp(), &bill)
    }

    /// Finalizes a draft and collects it, unless its subscription's collection is paused.
    pub fn issue(&mut self, id: &str) {
        let Ok(mut invoice) = self.existing("invoice", id) else { return };
        if self.unfinalizable.contains(text(&invoice, "customer")) {
            let message = "The customer's location isn't recognized. Set a valid customer address \
                           in order to automatically calculate tax.";
            let error = json!({ "type": "invalid_request_error",
                "code": "customer_tax_location_invalid", "message": message });
            invoice["last_finalization_error"] = error;
            invoice["automatically_finalizes_at"] = Value::Null;
            self.store(invoice.clone());
            self.emit("invoice.finalization_failed", &invoice);
            return;
        }
        let subscription =
            self.object(ledger::subscription_of(&invoice)).cloned().unwrap_or_default();
        ledger::finalize(&mut invoice, self.stamp());
        if text(&invoice, "collection_method") == "send_invoice" {
            let days = subscription["days_until_due"].as_i64().unwrap_or(30);
            invoice["due_date"] = json!(self.stamp().created() + days * DAY);
        }
        self.store(invoice.clone());
        self.emit("invoice.finalized", &invoice);
        match text(&subscription["pause_collection"], "behavior") {
            "void" => drop(self.write_off(id, "void")),
            "mark_uncollectible" => drop(self.write_off(id, "uncollectible")),
            _ => self.collect(id),
        }
    }

    /// How a customer's card behaves.
    pub fn card(&self, customer: &str) -> Card {
        self.cards.get(customer).copied().unwrap_or_default()
    }

    /// Tries to be paid by the customer's card; an invoice that was sent waits for its customer.
    pub fn collect(&mut self, id: &str) {
        let Ok(invoice) = self.existing("invoice", id) else { return };
        let nothing_due = invoice["amount_remaining"] == 0;
        match self.card(text(&invoice, "customer")) {
            _ if nothing_due => self.paid(id),
            _ if text(&invoice, "collection_method") == "send_invoice" => {}
            Card::Works => self.paid(id),
            card => self.failed(id, card),
        }
    }

    /// Keeps a charge, once.
    pub fn charge(&mut self, payment: &ledger::Payment) {
        let (_, id) = ledger::payment_ids(payment.of);
        if payment.amount > 0 && self.object(&id).is_none() {
            self.store(ledger::charge(self.stamp(), payment));
        }
    }

    /// Settles an invoice, and with the latest one its subscription.
    pub fn paid(&mut self, id: &str) {
        let Ok(mut invoice) = self.existing("invoice", id) else { return };
        let payer = json!({
            "address": invoice["customer_address"], "email": invoice["customer_email"],
            "name": invoice["customer_name"],
            "phone": invoice["customer_phone"],
        });
        self.charge(&ledger::Payment {
            of: id,
            amount: invoice["amount_remaining"].as_i64().unwrap_or_default(),
            currency: &invoice["currency"],
            customer: &invoice["customer"],
            payer: &payer,
            description: &json!("Subscription update"),
            metadata: &json!({}),
        });
        ledger::mark_paid(&mut invoice, self.stamp());
        self.store(invoice.clone());
        self.emit("invoice.paid", &invoice);
        self.settled(&invoice);
    }

    /// A subscription whose latest invoice needs no payment any more is in order again.
    fn settled(&mut self, invoice: &Value) {
        let Ok(before) = self.existing("subscription", ledger::subscription_of(invoice)) else {
            return;
        };
        if before["latest_invoice"] != invoice["id"] {
            return;
        }
        let mut after = before.clone();
        let never = text(&before, "status") == "incomplete" && text(invoice, "status") != "paid";
        after["status"] = json!(if never { "incomplete_expired" } else { "active" });
        match text(&before, "status") {
            "past_due" | "unpaid" | "incomplete" => {
                drop(self.save("customer.subscription.updated", &before, after));
            }
            "paused" => drop(self.save("customer.subscription.resumed", &before, after)),
            _ => {}
        }
    }

    /// An attempt that failed: the next one is planned, or the last consequence drawn.
    pub fn failed(&mut self, id: &str, card: Card) {
        let Ok(mut invoice) = self.existing("invoice", id) else { return };
        let attempts = invoice["attempt_count"].as_u64().unwrap_or_default() + 1;
        let subscription =
            self.object(ledger::subscription_of(&invoice)).cloned().unwrap_or_default();
        let retried = ["trialing", "active", "past_due"].contains(&text(&subscription, "status"));
        let days = usize::try_from(attempts - 1)
            .ok()
            .and_then(|attempt| self.dunning.retry_days.get(attempt))
            .filter(|_| retried);
        let finalized_at =
            invoice["status_transitions"]["finalized_at"].as_i64().unwrap_or_default();
        let next = days.map(|days| finalized_at + i64::from(*days) * DAY);
        invoice["attempted"] = json!(true);
        invoice["attempt_count"] = json!(attempts);
        invoice["next_payment_attempt"] = json!(next);
        invoice["auto_advance"] = json!(next.is_some());
        self.store(invoice.clone());
        self.emit("invoice.payment_failed", &invoice);
        if card == Card::NeedsAction {
            self.emit("invoice.payment_action_required", &invoice);
        }
        if !retried {
            return;
        }
        self.fall_due(&invoice);
        if next.is_some() {
            return;
        }
        let Ok(before) = self.existing("subscription", text(&subscription, "id")) else { return };
        match self.dunning.then {
            GivenUp::Canceled => drop(self.end(before, Some("payment_failed"))),
            GivenUp::Unpaid => {
                let mut after = before.clone();
                after["status"] = json!("unpaid");
                self.save("customer.subscription.updated", &before, after);
            }
            GivenUp::PastDue => {}
        }
    }

    /// The subscription of an invoice that is overdue.
    fn fall_due(&mut self, invoice: &Value) {
        let Ok(before) = self.existing("subscription", ledger::subscription_of(invoice)) else {
            return;
        };
        if ["trialing", "active"].contains(&text(&before, "status")) {
            let mut after = before.clone();
            after["status"] = json!("past_due");
            self.save("customer.subscription.updated", &before, after);
        }
    }

    /// A first payment that nobody made for 23 hours.
    fn give_up_first(&mut self, before: &Value) {
        let mut after = before.clone();
        after["status"] = json!("incomplete_expired");
        after["ended_at"] = json!(self.stamp().created());
        let after = self.save("customer.subscription.updated", before, after);
        drop(self.write_off(text(&after, "latest_invoice"), "void"));
    }

    /// Voids an open invoice or marks it uncollectible; for its subscription it counts as settled.
    pub fn write_off(&mut self, id: &str, status: &str) -> Result<Value> {
        let mut invoice = self.existing("invoice", id)?;
        if text(&invoice, "status") != "open" {
            return Err(ApiError::invalid(format!(
                "You can only pass in open invoices. This invoice is {}.",
                text(&invoice, "status")
            )));
        }
        let (event, moment) = if status == "void" {
            ("invoice.voided", "voided_at")
        } else {
            ("invoice.marked_uncollectible", "marked_uncollectible_at")
        };
        invoice["status"] = json!(status);
        invoice["auto_advance"] = json!(false);
        invoice["next_payment_attempt"] = Value::Null;
        invoice["status_transitions"][moment] = json!(self.stamp().created());
        self.store(invoice.clone());
        self.emit(event, &invoice);
        self.settled(&invoice);
        Ok(invoice)
    }

    /// Pays every invoice of a subscription that is open or was left a draft, oldest first.
    pub fn pay_open(&mut self, subscription: &str) -> Result<()> {
        let customer = text(&self.existing("subscription", subscription)?, "customer").to_owned();
        if self.card(&customer) == Card::Declines {
            return Err(ApiError::declined());
        }
        for invoice in self.unsettled(subscription) {
            let id = text(&invoice, "id");
            if text(&invoice, "status") == "draft" {
                self.issue(id);
            }
            if self.find("invoice", id).is_some_and(|invoice| text(invoice, "status") == "open") {
                self.paid(id);
            }
        }
        Ok(())
    }

    fn unsettled(&self, subscription: &str) -> Vec<Value> {
        let waits = |invoice: &&Value| {
            ledger::subscription_of(invoice) == subscription
                && ["open", "draft"].contains(&text(invoice, "status"))
        };
        self.all("invoice").filter(waits).cloned().collect()
    }

    /// Ends a subscription now. Its unpaid invoices stay as they are and are collected no more.
    pub fn end(&mut self, mut subscription: Value, reason: Option<&str>) -> Value {
        for mut invoice in self.unsettled(text(&subscription, "id")) {
            invoice["auto_advance"] = json!(false);
            invoice["automatically_finalizes_at"] = Value::Null;
            invoice["next_payment_attempt"] = Value::Null;
            self.store(invoice);
        }
        let now = self.stamp().created();
        subscription["status"] = json!("canceled");
        subscription["ended_at"] = json!(now);
        if let Some(reason) = reason {
            subscription["canceled_at"] = json!(now);
            subscription["cancellation_details"]["reason"] = json!(reason);
        }
        self.store(subscription.clone());
        self.emit("customer.subscription.deleted", &subscription);
        subscription
    }

    /// Ends a subscription at once. One that has ended is none any more for Stripe, though it can
    /// still be read.
    pub fn cancel(&mut self, id: &str) -> Result<Value> {
        let subscription = self
            .find("subscription", id)
            .filter(|subscription| text(subscription, "status") != "canceled")
            .cloned();
        let subscription =
            subscription.ok_or_else(|| ApiError::missing("subscription", id, "id").status(404))?;
        Ok(self.end(subscription, Some("cancellation_requested")))
    }
}

fn warned(subscription: &Value) -> String {
    format!("{} {}", text(subscription, "id"), subscription["trial_end"])
}
