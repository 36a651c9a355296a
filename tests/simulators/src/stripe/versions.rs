//! Events in the shapes of older API versions.

use serde_json::Value;
use serde_json::json;

use super::ledger;
use super::objects::text;

/// The first version with periods on the items, and an invoice's subscription in its `parent`.
const BASIL: &str = "2025-03-31";

/// Converts an event to the shape that an endpoint of another API version receives: `2023-10-16`,
/// `2024-06-20`, `2025-03-31`, or the newest. Rewrites only the billing fields that moved: the
/// periods of subscriptions, and the subscription and payment of invoices.
#[must_use]
pub fn shape_event(event: &Value, version: &str) -> Value {
    let mut event = event.clone();
    event["api_version"] = json!(if version == BASIL { "2025-03-31.basil" } else { version });
    if version >= BASIL {
        return event;
    }
    match text(&event["data"]["object"], "object") {
        "subscription" => {
            let data = &mut event["data"];
            lift_period(&mut data["object"]);
            if data["previous_attributes"]["items"].is_object() {
                lift_period(&mut data["previous_attributes"]);
            }
        }
        "invoice" => flatten_invoice(&mut event["data"]["object"]),
        _ => {}
    }
    event
}

/// Moves the period from the items to their subscription.
fn lift_period(subscription: &mut Value) {
    let (start, end) = ledger::period(subscription);
    subscription["current_period_start"] = json!(start);
    subscription["current_period_end"] = json!(end);
    for item in subscription["items"]["data"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        item.remove("current_period_start");
        item.remove("current_period_end");
    }
}

fn flatten_invoice(invoice: &mut Value) {
    let details = invoice["parent"]["subscription_details"].clone();
    let paid = text(invoice, "status") == "paid";
    let moves_money = invoice["amount_due"].as_i64().is_some_and(|due| due > 0);
    let (intent, charge) = ledger::payment_ids(text(invoice, "id"));
    invoice["subscription"] = details["subscription"].clone();
    invoice["subscription_details"] = json!({ "metadata": details["metadata"] });
    invoice["paid"] = json!(paid);
    invoice["charge"] = json!(Some(charge).filter(|_| paid && moves_money));
    invoice["payment_intent"] =
        json!(Some(intent).filter(|_| text(invoice, "status") != "draft" && moves_money));
    if let Some(invoice) = invoice.as_object_mut() {
        invoice.remove("parent");
    }
}
