//! Refunds and disputes; also changes and deletion of customers.

use serde_json::Value;
use serde_json::json;

use super::billing::ONGOING;
use super::http;
use super::ledger;
use super::objects;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State;
use super::subscriptions::merge_metadata;

impl State {
    /// Returns the charge with this id, or the charge of the session or invoice with this id.
    fn charge_of(&self, id: &str) -> Result<Value> {
        let of = self
            .find("checkout.session", id)
            .and_then(|session| session["payment_intent"].as_str().or(session["invoice"].as_str()));
        self.existing("charge", &ledger::payment_ids(of.unwrap_or(id)).1)
    }

    /// Refunds `amount` cents of a charge, or everything that is left.
    pub(super) fn refund(&mut self, id: &str, amount: Option<i64>) -> Result<Value> {
        let before = self.charge_of(id)?;
        let field = |key: &str| before[key].as_i64().unwrap_or_default();
        let left = field("amount") - field("amount_refunded");
        let amount = amount.unwrap_or(left);
        if !(1..=left).contains(&amount) {
            let error = ApiError::invalid(format!(
                "Charge {} has only {left} cents left to refund.",
                text(&before, "id")
            ));
            return Err(ApiError { code: Some("charge_already_refunded"), ..error });
        }
        let mut after = before.clone();
        after["amount_refunded"] = json!(field("amount_refunded") + amount);
        after["refunded"] = json!(amount == left);
        Ok(self.save("charge.refunded", &before, after))
    }

    /// Opens a dispute of a charge, as the payer's bank does.
    pub(super) fn dispute(&mut self, id: &str) -> Result<Value> {
        let mut charge = self.charge_of(id)?;
        charge["disputed"] = json!(true);
        let id = self.id("dp_1", 23);
        let dispute = ledger::dispute(&id, self.stamp(), &charge);
        self.store(charge);
        self.store(dispute.clone());
        self.emit("charge.dispute.created", &dispute);
        Ok(dispute)
    }

    pub(super) fn close_dispute(&mut self, id: &str, won: bool) -> Result<Value> {
        let before = self.existing("dispute", id)?;
        let mut after = before.clone();
        after["status"] = json!(if won { "won" } else { "lost" });
        Ok(self.save("charge.dispute.closed", &before, after))
    }

    pub(super) fn update_customer(&mut self, id: &str, changes: &Value) -> Result<Value> {
        http::check_customer(changes)?;
        let before = self.customer(id)?.clone();
        let mut after = before.clone();
        for (key, value) in changes.as_object().into_iter().flatten() {
            match key.as_str() {
                "metadata" => merge_metadata(&mut after, value)?,
                "address" => after["address"] = objects::address(value),
                "expand" => {}
                // An empty text clears.
                key if value == "" => after[key] = Value::Null,
                key => after[key] = value.clone(),
            }
        }
        Ok(self.save("customer.updated", &before, after))
    }

    /// Deletes a customer and ends its subscriptions. An object with `deleted` remains.
    pub(super) fn delete_customer(&mut self, id: &str) -> Result<Value> {
        let customer = self.customer(id)?.clone();
        let theirs =
            |found: &&Value| found["customer"] == id && ONGOING.contains(&text(found, "status"));
        for subscription in self.all("subscription").filter(theirs).cloned().collect::<Vec<_>>() {
            self.end(subscription, Some("cancellation_requested"));
        }
        self.emit("customer.deleted", &customer);
        let deleted = json!({ "id": id, "object": "customer", "deleted": true });
        self.store(deleted.clone());
        Ok(deleted)
    }
}
