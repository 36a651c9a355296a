//! Invoice items: what a customer owes besides the items of a subscription. The next invoice
//! collects them.

use serde_json::Value;
use serde_json::json;

use super::objects::Line;
use super::objects::metadata;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State;

impl State {
    pub(super) fn create_invoice_item(&mut self, params: &Value) -> Result<Value> {
        let mut required = ["customer", "amount", "currency"].into_iter();
        if let Some(missing) = required.find(|name| params.get(*name).is_none()) {
            return Err(ApiError::required(missing));
        }
        self.customer(text(params, "customer"))?;
        let amount = text(params, "amount");
        let amount = amount.parse::<u32>().map_err(|_| {
            ApiError::invalid(format!("Invalid integer: {amount} (a credit is not simulated)"))
                .code("parameter_invalid_integer", "amount")
        })?;
        if let Some(id) = params["subscription"].as_str() {
            self.find("subscription", id)
                .filter(|found| found["customer"] == params["customer"])
                .ok_or_else(|| ApiError::missing("subscription", id, "subscription"))?;
        }
        // As at Stripe, an amount makes a price and a product of its own, which are inactive.
        let product = self.id("prod_", 14);
        let price = self.create_price(&json!({
            "currency": params["currency"], "unit_amount": amount.to_string(), "active": "false",
            "product": product,
        }));
        let id = self.id("ii_1", 23);
        let stamp = self.stamp();
        let now = stamp.created();
        let parent = params["subscription"].as_str().map(|subscription| {
            json!({
                "type": "subscription_details",
                "subscription_details": { "subscription": subscription },
            })
        });
        let item = json!({
            "id": id, "object": "invoiceitem", "amount": amount, "currency": params["currency"],
            "customer": params["customer"], "customer_account": null, "date": now,
            "description": params["description"], "discountable": true, "discounts": [],
            "invoice": null, "livemode": stamp.livemode, "metadata": metadata(params),
            "net_amount": amount, "parent": parent, "period": { "start": now, "end": now },
            "pricing": {
                "type": "price_details", "unit_amount_decimal": amount.to_string(),
                "price_details": { "price": price["id"], "product": price["product"] },
            },
            "proration": false, "quantity": 1, "quantity_decimal": "1", "tax_rates": [],
            "test_clock": null,
        });
        self.store(item.clone());
        Ok(item)
    }

    /// Takes back an item that no invoice has.
    pub(super) fn delete_invoice_item(&mut self, id: &str) -> Result<Value> {
        let item = self.existing("invoiceitem", id)?;
        if item["deleted"] == true {
            return Err(ApiError::missing("invoiceitem", id, "id").status(404));
        }
        if !item["invoice"].is_null() {
            return Err(ApiError::invalid(
                "You can only delete invoice items that are not attached to a finalized invoice.",
            ));
        }
        let deleted = json!({ "id": id, "object": "invoiceitem", "deleted": true });
        self.store(deleted.clone());
        Ok(deleted)
    }

    /// Attaches the pending items of a subscription and its customer to an invoice, and returns
    /// their lines.
    pub(super) fn collect_items(&mut self, subscription: &Value, invoice: &str) -> Vec<Line> {
        let is_due = |item: &&Value| {
            let of = &item["parent"]["subscription_details"]["subscription"];
            item["customer"] == subscription["customer"]
                && item["invoice"].is_null()
                && (of.is_null() || *of == subscription["id"])
        };
        let due: Vec<Value> = self.all("invoiceitem").filter(is_due).cloned().collect();
        due.into_iter()
            .map(|mut item| {
                item["invoice"] = json!(invoice);
                self.store(item.clone());
                let price = text(&item["pricing"]["price_details"], "price");
                Line {
                    id: self.id("li_1", 23),
                    item: text(&item, "id").to_owned(),
                    price: self.object(price).cloned().unwrap_or_default(),
                    quantity: 1,
                    description: item["description"].clone(),
                    trial: false,
                }
            })
            .collect()
    }
}
