//! Changes of subscriptions through the API, the portal and the Dashboard.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Card;
use super::billing::ONGOING;
use super::bounds;
use super::ledger;
use super::objects::Line;
use super::objects::ordered;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State;

/// Returns the error for an item id in the parameters that the subscription does not have.
fn no_item(id: &str) -> ApiError {
    ApiError::missing("subscription_item", id, "items")
}

impl State {
    /// Returns a subscription that has not ended.
    fn ongoing(&self, id: &str) -> Result<Value> {
        let subscription = self.existing("subscription", id)?;
        if ONGOING.contains(&text(&subscription, "status")) {
            return Ok(subscription);
        }
        Err(ApiError::invalid(
            "A canceled subscription can only update its cancellation_details and metadata.",
        ))
    }

    /// Changes a subscription as `POST /v1/subscriptions/{id}` does.
    pub(super) fn update_subscription(&mut self, id: &str, params: &Value) -> Result<Value> {
        let mut changes = params.as_object().into_iter().flatten();
        let before = if changes.all(|(name, _)| ["expand", "metadata"].contains(&name.as_str())) {
            // One that has ended keeps its metadata changeable.
            self.existing("subscription", id)?
        } else {
            self.ongoing(id)?
        };
        let mut after = before.clone();
        self.change_items(&mut after, params)?;
        merge_metadata(&mut after, &params["metadata"])?;
        self.change_end(&mut after, params)?;
        match &params["pause_collection"] {
            Value::Null => {}
            Value::String(cleared) if cleared.is_empty() => after["pause_collection"] = Value::Null,
            pause
                if ["keep_as_draft", "mark_uncollectible", "void"]
                    .contains(&text(pause, "behavior")) =>
            {
                after["pause_collection"] =
                    json!({ "behavior": pause["behavior"], "resumes_at": null });
            }
            _ => {
                return Err(ApiError::invalid("Invalid pause_collection[behavior]")
                    .param("pause_collection[behavior]"));
            }
        }
        match text(params, "collection_method") {
            "" => {}
            "send_invoice" => {
                let days = text(params, "days_until_due").parse::<u32>();
                let days = days.map_err(|_| {
                    ApiError::invalid("Invoices that are sent need `days_until_due`.")
                        .param("days_until_due")
                })?;
                after["days_until_due"] = json!(days);
                after["collection_method"] = json!("send_invoice");
            }
            "charge_automatically" => {
                after["days_until_due"] = Value::Null;
                after["collection_method"] = json!("charge_automatically");
            }
            _ => {
                return Err(
                    ApiError::invalid("Invalid collection_method").param("collection_method")
                );
            }
        }
        let now = self.stamp().created();
        let trialing = text(&before, "status") == "trialing";
        let mut new_period = !trialing && ledger::recurring(&before) != ledger::recurring(&after);
        match text(params, "trial_end") {
            "" => {}
            "now" => {
                new_period |= trialing;
                after["trial_end"] = json!(now);
            }
            end => {
                let end = end.parse::<i64>().ok().filter(|end| *end > now);
                let end = end.ok_or_else(|| {
                    ApiError::invalid("Invalid timestamp: can be no earlier than now")
                        .param("trial_end")
                })?;
                // A trial replaces the current period, and its end anchors the later ones.
                after["status"] = json!("trialing");
                after["trial_start"] = json!(before["trial_start"].as_i64().unwrap_or(now));
                after["trial_end"] = json!(end);
                after["billing_cycle_anchor"] = json!(end);
                for item in after["items"]["data"].as_array_mut().into_iter().flatten() {
                    item["current_period_end"] = json!(end);
                }
            }
        }
        if new_period {
            self.start_period_now(&before, after, "subscription_update");
        } else {
            self.save("customer.subscription.updated", &before, after);
        }
        self.existing("subscription", id)
    }

    /// Bills a period that starts now and anchors the later ones. The rest of the current period is
    /// lost.
    fn start_period_now(&mut self, before: &Value, mut after: Value, reason: &'static str) {
        let now = self.stamp().created();
        after["billing_cycle_anchor"] = json!(now);
        if text(&after, "status") == "trialing" {
            after["status"] = json!("active");
        }
        self.bill(before, after, now, reason);
    }

    /// Applies `cancel_at_period_end` and `cancel_at`.
    fn change_end(&self, after: &mut Value, params: &Value) -> Result<()> {
        let now = self.stamp().created();
        let at = match (params["cancel_at_period_end"].as_str(), params["cancel_at"].as_str()) {
            (None, None) => return Ok(()),
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid(
                    "You may only specify one of these parameters: cancel_at, \
                     cancel_at_period_end.",
                ));
            }
            (Some("true"), None) => Some(ledger::period(after).1),
            (Some("false"), None) | (None, Some("")) => None,
            (None, Some(at)) => {
                let at = at.parse::<i64>().ok().filter(|at| *at > now);
                Some(at.ok_or_else(|| {
                    ApiError::invalid(
                        "Invalid timestamp: must be an integer Unix timestamp in the future.",
                    )
                    .param("cancel_at")
                })?)
            }
            (Some(_), None) => {
                return Err(ApiError::invalid("Invalid boolean: cancel_at_period_end")
                    .param("cancel_at_period_end"));
            }
        };
        after["cancel_at_period_end"] = json!(params["cancel_at_period_end"] == "true");
        after["cancel_at"] = json!(at);
        after["canceled_at"] = json!(at.map(|_| now));
        after["cancellation_details"]["reason"] = json!(at.map(|_| "cancellation_requested"));
        Ok(())
    }

    fn change_items(&mut self, after: &mut Value, params: &Value) -> Result<()> {
        let before = after["items"]["data"].clone();
        let id = text(after, "id").to_owned();
        let period = ledger::period(after);
        let mut items = before.as_array().cloned().unwrap_or_default();
        for (index, change) in ordered(&params["items"]) {
            let price = match change["price"].as_str() {
                Some(price) => {
                    Some(self.recurring_price(price, &format!("items[{index}][price]"))?)
                }
                None => None,
            };
            let quantity = match change["quantity"].as_str() {
                Some(quantity) => Some(quantity.parse::<u32>().map_err(|_| {
                    let param = format!("items[{index}][quantity]");
                    ApiError::invalid(format!("Invalid integer: {quantity}"))
                        .code("parameter_invalid_integer", param)
                })?),
                None => None,
            };
            let Some(named) = change["id"].as_str() else {
                let Some(price) = price else {
                    return Err(ApiError::invalid("Each item needs a price.")
                        .code("parameter_missing", format!("items[{index}][price]")));
                };
                let item = self.id("si_1", 23);
                let description = Value::Null;
                let line = Line {
                    id: String::new(),
                    item,
                    price,
                    quantity: quantity.unwrap_or(1).into(),
                    description,
                    trial: false,
                };
                items.push(ledger::item(self.stamp(), &id, &line, period));
                continue;
            };
            let found =
                items.iter().position(|item| item["id"] == named).ok_or_else(|| no_item(named))?;
            if change["deleted"] == "true" {
                items.remove(found);
                continue;
            }
            if let Some(price) = price {
                ledger::set_price(&mut items[found], &price);
            }
            if let Some(quantity) = quantity {
                items[found]["quantity"] = json!(quantity);
            }
        }
        check_items(&items, &after["currency"])?;
        let items = json!(items);
        let proration = params["proration_behavior"].as_str().unwrap_or("create_prorations");
        if items != before && proration != "none" {
            let message = format!(
                "proration_behavior={proration} is not simulated for items that change: pass none."
            );
            return Err(ApiError::invalid(message).param("proration_behavior"));
        }
        after["items"]["data"] = items;
        Ok(())
    }

    fn recurring_price(&self, id: &str, param: &str) -> Result<Value> {
        let price = self.price(id, param)?;
        if price["recurring"].is_object() {
            return Ok(price);
        }
        let message = "The price specified is set to `type=one_time` but this field only accepts \
                       prices with `type=recurring`.";
        Err(ApiError::invalid(message).param(param))
    }

    /// Returns the subscription that has the item.
    fn owner(&self, item: &str) -> Result<&Value> {
        let has = |subscription: &&Value| items(subscription).any(|found| found["id"] == item);
        self.all("subscription")
            .find(has)
            .ok_or_else(|| ApiError::missing("subscription_item", item, "id").status(404))
    }

    pub(super) fn item(&self, id: &str) -> Result<Value> {
        let owner = self.owner(id)?;
        Ok(items(owner).find(|item| item["id"] == id).cloned().unwrap_or_default())
    }

    pub(super) fn items(&self, subscription: &str) -> Result<Vec<Value>> {
        let subscription = self
            .find("subscription", subscription)
            .ok_or_else(|| ApiError::missing("subscription", subscription, "subscription"))?;
        Ok(items(subscription).cloned().collect())
    }

    pub(super) fn create_item(&mut self, params: &Value) -> Result<Value> {
        let owner = text(params, "subscription");
        self.items(owner)?;
        let changed = self.change_item(
            owner,
            params,
            &json!({ "price": params["price"], "quantity": params["quantity"] }),
        )?;
        Ok(items(&changed).last().cloned().unwrap_or_default())
    }

    pub(super) fn update_item(&mut self, id: &str, params: &Value) -> Result<Value> {
        let owner = text(self.owner(id)?, "id").to_owned();
        self.change_item(
            &owner,
            params,
            &json!({ "id": id, "price": params["price"], "quantity": params["quantity"] }),
        )?;
        self.item(id)
    }

    pub(super) fn delete_item(&mut self, id: &str, params: &Value) -> Result<Value> {
        let owner = text(self.owner(id)?, "id").to_owned();
        self.change_item(&owner, params, &json!({ "id": id, "deleted": "true" }))?;
        Ok(json!({ "id": id, "object": "subscription_item", "deleted": true }))
    }

    fn change_item(&mut self, owner: &str, params: &Value, item: &Value) -> Result<Value> {
        self.update_subscription(
            owner,
            &json!({ "items": { "0": item }, "proration_behavior": params["proration_behavior"] }),
        )
    }

    /// Changes the price of the first item, without proration.
    pub(super) fn change_plan(&mut self, id: &str, price: &str) -> Result<Value> {
        let subscription = self.ongoing(id)?;
        let item = &subscription["items"]["data"][0]["id"];
        self.update_subscription(
            id,
            &json!({ "items": { "0": { "id": item, "price": price } },
        "proration_behavior": "none" }),
        )
    }

    /// Adds, changes or removes the item of a price, without proration.
    pub(super) fn set_quantity(
        &mut self,
        id: &str,
        price: &str,
        quantity: Option<u64>,
    ) -> Result<Value> {
        let subscription = self.ongoing(id)?;
        let item = items(&subscription).find(|item| item["price"]["id"] == price);
        let count = quantity.map(|quantity| quantity.to_string());
        let change = match (item, count) {
            (Some(item), Some(count)) => json!({ "id": item["id"], "quantity": count }),
            (Some(item), None) => json!({ "id": item["id"], "deleted": "true" }),
            (None, Some(count)) => json!({ "price": price, "quantity": count }),
            (None, None) => return Ok(subscription),
        };
        let params = json!({ "items": { "0": change }, "proration_behavior": "none" });
        self.update_subscription(id, &params)
    }

    /// Sets or clears `cancel_at`, as the portal does under flexible billing.
    pub(super) fn cancel_in_portal(&mut self, id: &str, cancel: bool) -> Result<Value> {
        let end = ledger::period(&self.ongoing(id)?).1.to_string();
        self.update_subscription(id, &json!({ "cancel_at": if cancel { &end } else { "" } }))
    }

    /// Subscribes a customer without Checkout. The subscription is `incomplete` until the first
    /// payment.
    pub(super) fn subscribe(&mut self, customer: &str, price: &str) -> Result<Value> {
        self.customer(customer)?;
        let price = self.recurring_price(price, "items[0][price]")?;
        self.check_currency(customer, &price["currency"])?;
        let (id, item) = (self.id("sub_1", 23), self.id("si_1", 23));
        let line = Line {
            id: String::new(),
            item,
            price,
            quantity: 1,
            description: Value::Null,
            trial: false,
        };
        let mut subscription =
            ledger::subscription(&id, self.stamp(), customer, &[line], &json!({}), None);
        let now = self.stamp().created();
        let invoice = self.draft(&subscription, "subscription_create", (now, now));
        let invoice_id = text(&invoice, "id").to_owned();
        subscription["latest_invoice"] = invoice["id"].clone();
        subscription["status"] =
            json!(if self.card(customer) == Card::Works { "active" } else { "incomplete" });
        self.store(invoice);
        self.store(subscription.clone());
        self.emit("customer.subscription.created", &subscription);
        self.issue(&invoice_id);
        self.existing("subscription", &id)
    }

    /// Pauses a subscription, as the end of a trial without a card does.
    pub(super) fn pause(&mut self, id: &str) -> Result<Value> {
        let before = self.ongoing(id)?;
        let mut after = before.clone();
        after["status"] = json!("paused");
        Ok(self.save("customer.subscription.paused", &before, after))
    }

    /// Resumes a paused subscription with a new period that starts now. It stays paused until that
    /// period is paid.
    pub(super) fn resume(&mut self, id: &str) -> Result<Value> {
        let before = self.ongoing(id)?;
        if text(&before, "status") != "paused" {
            return Err(ApiError::invalid("Only paused subscriptions can be resumed."));
        }
        self.start_period_now(&before, before.clone(), "subscription_update");
        self.existing("subscription", id)
    }
}

fn items(subscription: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    subscription["items"]["data"].as_array().map_or(&[][..], Vec::as_slice).iter()
}

fn check_items(items: &[Value], currency: &Value) -> Result<()> {
    bounds::check_count(items.len(), bounds::ITEMS, "items")?;
    let Some(first) = items.first() else {
        return Err(ApiError::invalid("A subscription must have at least one active plan."));
    };
    for (index, item) in items.iter().enumerate() {
        let recurs_alike = item["price"]["recurring"] == first["price"]["recurring"];
        let mismatch = match (recurs_alike, item["price"]["currency"] == *currency) {
            (false, _) => Some("interval"),
            (true, false) => Some("currency"),
            (true, true) => None,
        };
        if let Some(field) = mismatch {
            let message = format!(
                "Currency and interval fields must match across all plans on this subscription. \
                 Found mismatch in {field} field."
            );
            return Err(ApiError::invalid(message).param("items"));
        }
        if items[..index].iter().any(|other| other["price"]["id"] == item["price"]["id"]) {
            let message = format!(
                "Cannot add multiple subscription items with the same plan: {}",
                text(&item["price"], "id")
            );
            return Err(ApiError::invalid(message).param("items"));
        }
    }
    Ok(())
}

/// Merges metadata into an object's metadata. An empty value unsets its key, and an empty string
/// instead of the metadata unsets all keys.
pub(super) fn merge_metadata(object: &mut Value, changes: &Value) -> Result<()> {
    if changes.as_str() == Some("") {
        object["metadata"] = json!({});
    }
    for (key, value) in changes.as_object().into_iter().flatten() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            if value == "" {
                drop(metadata.remove(key));
            } else {
                drop(metadata.insert(key.clone(), value.clone()));
            }
        }
    }
    bounds::check_entries(object["metadata"].as_object().map_or(0, Map::len))
}
