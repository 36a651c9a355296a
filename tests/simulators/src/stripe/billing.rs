//! The effects of time: trials end, periods renew, invoices are collected and retried, and sessions
//! expire.

use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

use super::Card;
use super::GivenUp;
use super::ledger;
use super::ledger::InvoiceParams;
use super::objects::Line;
use super::objects::next_period_end;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Statuses of a subscription that has not ended.
pub(super) const ONGOING: [&str; 6] =
    ["trialing", "active", "past_due", "unpaid", "paused", "incomplete"];

impl State {
    /// Returns the Unix second at which time changes an object next; `None` if it never does.
    pub(super) fn next_change(&self, object: &Value) -> Option<i64> {
        let at = |key: &str| object[key].as_i64();
        match (text(object, "object"), text(object, "status")) {
            ("checkout.session", "open") => at("expires_at"),
            ("invoice", "draft") => at("automatically_finalizes_at"),
            ("invoice", "open") => self
                .debits
                .get(text(object, "id"))
                .map(|(outcome, _)| *outcome)
                .or(at("next_payment_attempt"))
                .or(at("due_date").filter(|_| !self.past_effects.contains(text(object, "id")))),
            ("subscription", "incomplete") => at("created").map(|created| created + 23 * HOUR),
            ("subscription", status) if ONGOING.contains(&status) => {
                let renewal =
                    Some(ledger::period(object).1).filter(|end| *end > 0 && status != "paused");
                [self.trial_warning(object), at("cancel_at"), renewal].into_iter().flatten().min()
            }
            _ => None,
        }
    }

    /// Returns when `trial_will_end` is due; `None` without a trial, or if it was emitted.
    fn trial_warning(&self, subscription: &Value) -> Option<i64> {
        let end = subscription["trial_end"]
            .as_i64()
            .filter(|_| text(subscription, "status") == "trialing")?;
        (!self.past_effects.contains(&trial_warning_key(subscription))).then_some(end - 3 * DAY)
    }

    /// Returns the Unix second of the next change that time alone makes.
    pub(super) fn next_due(&self) -> Option<i64> {
        let is_so = |due: i64, id: &str| {
            self.object(id).is_some_and(|object| self.next_change(object) == Some(due))
        };
        let mut schedule = self.schedule.iter();
        schedule.find(|(due, _, id)| is_so(*due, id)).map(|(due, ..)| *due)
    }

    /// Advances the clock and applies everything that falls due on the way, in order. The clock
    /// never goes back.
    pub(super) fn advance_to(&mut self, to: Timestamp) {
        while let Some((due, _, id)) =
            self.schedule.first().filter(|(due, ..)| *due <= to.as_second()).cloned()
        {
            self.schedule.pop_first();
            let object = self.object(&id).cloned().unwrap_or_default();
            if self.next_change(&object) != Some(due) {
                continue;
            }
            if let Ok(due) = Timestamp::from_second(due) {
                let late = self.now.is_none() && self.clock.is_some();
                self.now = Some(if late { due } else { self.stamp().now.max(due) });
            }
            self.apply_due_change(object);
        }
        self.now = if self.clock.is_some() { None } else { Some(self.stamp().now.max(to)) };
    }

    /// Applies the change of an object that is due now.
    fn apply_due_change(&mut self, object: Value) {
        let id = text(&object, "id").to_owned();
        match (text(&object, "object"), text(&object, "status")) {
            ("checkout.session", _) => drop(self.close_expired(object)),
            ("invoice", "draft") => self.issue(&id),
            ("invoice", "open") if self.debits.contains_key(&id) => self.finish_debit(&id),
            ("invoice", _) if object["next_payment_attempt"].is_i64() => self.collect(&id),
            ("invoice", _) => {
                self.past_effects.insert(id);
                self.mark_past_due(&object);
            }
            ("subscription", "incomplete") => self.expire_incomplete(&object),
            _ => self.apply_due_subscription_change(object),
        }
    }

    fn apply_due_subscription_change(&mut self, subscription: Value) {
        let now = self.stamp().created();
        let end = ledger::period(&subscription).1;
        let cancel_at = subscription["cancel_at"]
            .as_i64()
            .or(Some(end).filter(|_| subscription["cancel_at_period_end"] == true));
        let warning = self.trial_warning(&subscription);
        if cancel_at.is_some_and(|at| at <= now) {
            self.end(subscription, None);
        } else if warning.is_some_and(|at| at <= now) {
            self.past_effects.insert(trial_warning_key(&subscription));
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

    /// Starts a period with one invoice for all items, and saves the subscription. The invoice is
    /// issued at once unless it stays a draft.
    pub(super) fn bill(
        &mut self,
        before: &Value,
        mut after: Value,
        start: i64,
        reason: &'static str,
    ) {
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
        let stays_draft = collection == "keep_as_draft" || text(&after, "status") == "unpaid";
        if stays_draft {
            invoice["auto_advance"] = json!(false);
        } else if self.drafts_wait {
            invoice["automatically_finalizes_at"] = json!(self.stamp().created() + HOUR);
        }
        self.store(invoice.clone());
        self.emit("invoice.created", &invoice);
        self.save("customer.subscription.updated", before, after);
        if !stays_draft && !self.drafts_wait {
            self.issue(&id);
        }
    }

    /// Builds a draft invoice for the current period of a subscription, without storing it.
    /// `past_period` is the period that ends now.
    pub(super) fn draft(
        &mut self,
        subscription: &Value,
        reason: &'static str,
        past_period: (i64, i64),
    ) -> Value {
        let id = self.id("in_1", 23);
        let trial = text(subscription, "status") == "trialing";
        let items = subscription["items"]["data"].as_array().into_iter().flatten();
        let mut lines: Vec<Line> = items
            .map(|item| Line {
                id: self.id("li_1", 23),
                item: text(item, "id").to_owned(),
                price: item["price"].clone(),
                quantity: item["quantity"].as_i64().unwrap_or_default(),
                description: item["price"]["nickname"].clone(),
                trial,
            })
            .collect();
        lines.extend(self.collect_items(subscription, &id));
        let customer = self.object(text(subscription, "customer")).cloned().unwrap_or_default();
        let params = InvoiceParams {
            id: &id,
            customer: &customer,
            lines: &lines,
            subscription: Some(subscription),
            metadata: &json!({}),
            reason,
            past_period,
        };
        ledger::invoice(self.stamp(), &params)
    }

    /// Finalizes a draft and collects it, unless its subscription's collection is paused.
    pub(super) fn issue(&mut self, id: &str) {
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

    /// Returns how a customer's card behaves.
    pub(super) fn card(&self, customer: &str) -> Card {
        self.cards.get(customer).copied().unwrap_or_default()
    }

    /// Charges the customer's card. An invoice with `send_invoice` waits until the customer pays
    /// it.
    pub(super) fn collect(&mut self, id: &str) {
        let Ok(invoice) = self.existing("invoice", id) else { return };
        let nothing_due = invoice["amount_remaining"] == 0;
        match self.card(text(&invoice, "customer")) {
            _ if nothing_due => self.pay_invoice(id),
            _ if text(&invoice, "collection_method") == "send_invoice" => {}
            Card::Works => self.pay_invoice(id),
            Card::Debit { days, succeeds } => self.begin_debit(invoice, days, succeeds),
            card => self.fail_payment(id, card),
        }
    }

    /// Sends an invoice to the customer's bank. It stays open, and nothing is emitted until the
    /// bank answers.
    fn begin_debit(&mut self, mut invoice: Value, days: u16, succeeds: bool) {
        let outcome = self.stamp().created() + i64::from(days) * DAY;
        self.debits.insert(text(&invoice, "id").to_owned(), (outcome, succeeds));
        invoice["attempted"] = json!(true);
        invoice["next_payment_attempt"] = Value::Null;
        self.store(invoice);
    }

    fn finish_debit(&mut self, id: &str) {
        match self.debits.remove(id) {
            Some((_, true)) => self.pay_invoice(id),
            Some((_, false)) => self.fail_payment(id, Card::Declines),
            None => {}
        }
    }

    /// Stores a charge unless it exists already or its amount is 0.
    pub(super) fn charge(&mut self, payment: &ledger::ChargeParams) {
        let (_, id) = ledger::payment_ids(payment.of);
        if payment.amount > 0 && self.object(&id).is_none() {
            self.store(ledger::charge(self.stamp(), payment));
        }
    }

    /// Pays an invoice in full. If it is the latest one of its subscription, settles that too.
    pub(super) fn pay_invoice(&mut self, id: &str) {
        let Ok(mut invoice) = self.existing("invoice", id) else { return };
        let payer = json!({
            "address": invoice["customer_address"], "email": invoice["customer_email"],
            "name": invoice["customer_name"],
            "phone": invoice["customer_phone"],
        });
        self.charge(&ledger::ChargeParams {
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
        self.settle_subscription(&invoice);
    }

    /// Updates the status of a subscription whose latest invoice no longer needs a payment.
    fn settle_subscription(&mut self, invoice: &Value) {
        let Ok(before) = self.existing("subscription", ledger::subscription_of(invoice)) else {
            return;
        };
        if before["latest_invoice"] != invoice["id"] {
            return;
        }
        let mut after = before.clone();
        let never_paid =
            text(&before, "status") == "incomplete" && text(invoice, "status") != "paid";
        after["status"] = json!(if never_paid { "incomplete_expired" } else { "active" });
        match text(&before, "status") {
            "past_due" | "unpaid" | "incomplete" => {
                drop(self.save("customer.subscription.updated", &before, after));
            }
            "paused" => drop(self.save("customer.subscription.resumed", &before, after)),
            _ => {}
        }
    }

    /// Records a failed payment attempt. Schedules the next attempt, or applies `Dunning::then`
    /// after the last one.
    pub(super) fn fail_payment(&mut self, id: &str, card: Card) {
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
        // A debit's failure is known late: its retries count from there.
        let first = if attempts == 1 { self.stamp().created() } else { finalized_at };
        let next = days
            .map(|days| first + i64::from(*days) * DAY)
            .map(|at| at.max(self.stamp().created() + DAY));
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
        self.mark_past_due(&invoice);
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

    /// Marks the subscription of an unpaid invoice as `past_due`.
    fn mark_past_due(&mut self, invoice: &Value) {
        let Ok(before) = self.existing("subscription", ledger::subscription_of(invoice)) else {
            return;
        };
        if ["trialing", "active"].contains(&text(&before, "status")) {
            let mut after = before.clone();
            after["status"] = json!("past_due");
            self.save("customer.subscription.updated", &before, after);
        }
    }

    /// Expires a subscription whose first payment was not made within 23 hours.
    fn expire_incomplete(&mut self, before: &Value) {
        let mut after = before.clone();
        after["status"] = json!("incomplete_expired");
        after["ended_at"] = json!(self.stamp().created());
        let after = self.save("customer.subscription.updated", before, after);
        drop(self.write_off(text(&after, "latest_invoice"), "void"));
    }

    /// Voids an open invoice or marks it as uncollectible. For its subscription, it counts as
    /// settled.
    pub(super) fn write_off(&mut self, id: &str, status: &str) -> Result<Value> {
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
        self.settle_subscription(&invoice);
        Ok(invoice)
    }

    /// Pays every open or draft invoice of a subscription, oldest first.
    pub(super) fn pay_open(&mut self, subscription: &str) -> Result<()> {
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
                self.pay_invoice(id);
            }
        }
        Ok(())
    }

    /// Returns the open and draft invoices of a subscription, oldest first.
    fn unsettled(&self, subscription: &str) -> Vec<Value> {
        let is_unsettled = |invoice: &&Value| {
            ledger::subscription_of(invoice) == subscription
                && ["open", "draft"].contains(&text(invoice, "status"))
        };
        self.all("invoice").filter(is_unsettled).cloned().collect()
    }

    /// Ends a subscription now. Its unpaid invoices keep their status and are no longer collected.
    pub(super) fn end(&mut self, mut subscription: Value, reason: Option<&str>) -> Value {
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

    /// Cancels a subscription immediately. One that has ended is an unknown subscription for this
    /// call, as at Stripe, although it can still be read.
    pub(super) fn cancel(&mut self, id: &str) -> Result<Value> {
        let subscription = self
            .find("subscription", id)
            .filter(|subscription| text(subscription, "status") != "canceled")
            .cloned();
        let subscription =
            subscription.ok_or_else(|| ApiError::missing("subscription", id, "id").status(404))?;
        Ok(self.end(subscription, Some("cancellation_requested")))
    }
}

/// Returns the key of a trial warning in [`State::past_effects`].
fn trial_warning_key(subscription: &Value) -> String {
    format!("{} {}", text(subscription, "id"), subscription["trial_end"])
}
