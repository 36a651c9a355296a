//! Builders for the objects that a sale creates, and their changes: subscriptions, invoices,
//! charges and disputes. No state and no clock.

use serde_json::Value;
use serde_json::json;

use super::objects::Line;
use super::objects::Stamp;
use super::objects::list;
use super::objects::next_period_end;
use super::objects::text;

/// Builds the legacy plan of a recurring price, which subscription items still carry.
fn plan(price: &Value) -> Value {
    json!({
        "id": price["id"], "object": "plan", "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"], "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"], "livemode": price["livemode"],
        "metadata": price["metadata"], "meter": null, "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": null, "transform_usage": null, "trial_period_days": null,
        "usage_type": "licensed",
    })
}

/// Builds a subscription item: one price of a subscription.
pub(super) fn item(
    stamp: Stamp,
    subscription: &str,
    line: &Line,
    (start, end): (i64, i64),
) -> Value {
    json!({
        "id": line.item, "object": "subscription_item", "billing_thresholds": null,
        "created": stamp.created(),
        "current_period_start": start, "current_period_end": end, "discounts": [], "metadata": {},
        "plan": plan(&line.price), "price": line.price, "quantity": line.quantity,
        "subscription": subscription,
        "tax_rates": [],
    })
}

/// Changes the price of an item.
pub(super) fn set_price(item: &mut Value, price: &Value) {
    item["plan"] = plan(price);
    item["price"] = price.clone();
}

/// Returns the current period of a subscription, which all its items share.
pub(super) fn period(subscription: &Value) -> (i64, i64) {
    let item = &subscription["items"]["data"][0];
    let field = |key: &str| item[key].as_i64().unwrap_or_default();
    (field("current_period_start"), field("current_period_end"))
}

/// Returns the interval that all items of a subscription share.
pub(super) fn recurring(subscription: &Value) -> &Value {
    &subscription["items"]["data"][0]["price"]["recurring"]
}

/// Builds a subscription that starts now. A trial is the first period, and its end anchors the
/// later periods.
pub(super) fn subscription(
    id: &str,
    stamp: Stamp,
    customer: &str,
    lines: &[Line],
    metadata: &Value,
    trial_days: Option<i64>,
) -> Value {
    let now = stamp.created();
    let trial_end = trial_days.map(|days| now + days * 86_400);
    let recurring =
        lines.iter().map(|line| &line.price["recurring"]).find(|recurring| recurring.is_object());
    let end =
        trial_end.unwrap_or_else(|| next_period_end(now, recurring.unwrap_or(&Value::Null), now));
    let items: Vec<Value> = lines
        .iter()
        .filter(|line| line.recurs())
        .map(|line| item(stamp, id, line, (now, end)))
        .collect();
    json!({
        "id": id, "object": "subscription", "application": null, "application_fee_percent": null,
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
        "billing_cycle_anchor": trial_end.unwrap_or(now), "billing_cycle_anchor_config": null,
        "billing_mode": {
            "type": "flexible", "flexible": { "proration_discounts": "included" },
            "updated_at": stamp.created(),
        },
        "billing_schedules": [], "billing_thresholds": null, "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": { "comment": null, "feedback": null, "reason": null },
        "collection_method": "charge_automatically", "created": stamp.created(),
        "currency": lines.first().map(|line| &line.price["currency"]), "customer": customer,
        "customer_account": null, "days_until_due": null, "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [], "description": null, "discounts": [], "ended_at": null,
        "invoice_settings": { "account_tax_ids": null, "issuer": { "type": "self" } },
        "items": list(&format!("/v1/subscription_items?subscription={id}"), &items, false),
        "latest_invoice": null, "livemode": stamp.livemode, "metadata": metadata,
        "next_pending_invoice_item_invoice": null, "on_behalf_of": null, "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null, "payment_method_types": null,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": null, "pending_setup_intent": null, "pending_update": null,
        "schedule": null,
        "start_date": stamp.created(),
        "status": if trial_days.is_some() { "trialing" } else { "active" }, "test_clock": null,
        "transfer_data": null,
        "trial_end": trial_end,
        "trial_settings": { "end_behavior": { "missing_payment_method": "create_invoice" } },
        "trial_start": trial_end.map(|_| now),
    })
}

/// What an invoice is for.
pub(super) struct InvoiceParams<'p> {
    pub id: &'p str,
    pub customer: &'p Value,
    pub lines: &'p [Line],
    pub subscription: Option<&'p Value>,
    /// The invoice's own metadata; empty if it has a subscription.
    pub metadata: &'p Value,
    pub reason: &'static str,
    /// The period that ends now. An invoice's own period is the past one, and its lines cover the
    /// coming one.
    pub past_period: (i64, i64),
}

/// Builds a draft invoice.
pub(super) fn invoice(stamp: Stamp, params: &InvoiceParams) -> Value {
    let InvoiceParams { customer, subscription, .. } = params;
    let total: i64 = params.lines.iter().map(Line::amount).sum();
    let lines: Vec<Value> =
        params.lines.iter().map(|line| invoice_line(stamp, params, line)).collect();
    let field =
        |key: &str| subscription.map(|subscription| subscription[key].clone()).unwrap_or_default();
    let parent = subscription.map(|subscription| {
        json!({
            "type": "subscription_details", "quote_details": null,
            "subscription_details": { "metadata": subscription["metadata"],
                "subscription": subscription["id"] },
        })
    });
    json!({
        "id": params.id, "object": "invoice", "account_country": "US", "account_name": "Simulator",
        "account_tax_ids": null, "amount_due": total, "amount_overpaid": 0, "amount_paid": 0, "amount_paid_off_stripe": 0,
        "amount_remaining": total, "amount_shipping": 0, "application": null, "attempt_count": 0,
        "attempted": false,
        "auto_advance": subscription.is_some(),
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null,
            "provider": null, "status": null },
        "automatically_finalizes_at": null, "billing_reason": params.reason,
        "collection_method": field("collection_method").as_str().unwrap_or("charge_automatically"),
        "created": stamp.created(),
        "currency": params.lines.first().map(|line| &line.price["currency"]), "custom_fields": null,
        "customer": customer["id"], "customer_account": null,
        "customer_address": customer["address"],
        "customer_email": customer["email"], "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": null, "customer_tax_exempt": "none", "customer_tax_ids": [],
        "default_payment_method": null, "default_source": null, "default_tax_rates": [],
        "description": null,
        "discounts": [], "due_date": null, "effective_at": null, "ending_balance": null,
        "footer": null,
        "from_invoice": null, "hosted_invoice_url": null, "invoice_pdf": null,
        "issuer": { "type": "self" },
        "last_finalization_error": null, "latest_revision": null,
        "lines": list(&format!("/v1/invoices/{}/lines", params.id), &lines, false),
        "livemode": stamp.livemode, "metadata": params.metadata, "next_payment_attempt": null,
        "number": null,
        "on_behalf_of": null, "parent": parent,
        "payment_settings": { "default_mandate": null, "payment_method_options": null,
        "payment_method_types": null },
        "period_end": params.past_period.1, "period_start": params.past_period.0,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": null, "rendering": null,
        "shipping_cost": null,
        "shipping_details": null, "starting_balance": 0, "statement_descriptor": null,
        "status": "draft",
        "status_transitions": {
            "finalized_at": null, "marked_uncollectible_at": null, "paid_at": null,
            "voided_at": null,
        },
        "subtotal": total, "subtotal_excluding_tax": total, "test_clock": null,
        "total": total, "total_discount_amounts": [], "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [], "webhooks_delivered_at": stamp.created(),
    })
}

fn invoice_line(stamp: Stamp, params: &InvoiceParams, line: &Line) -> Value {
    let (start, end) = params
        .subscription
        .filter(|_| line.recurs())
        .map_or((stamp.created(), stamp.created()), period);
    let of_item = || {
        json!({
            "type": "invoice_item_details", "subscription_item_details": null,
            "invoice_item_details": {
                "invoice_item": line.item, "proration": false, "proration_details": null,
                "subscription": params.subscription.map(|subscription| &subscription["id"]),
            },
        })
    };
    let parent = params.subscription.map(|subscription| {
        if line.is_invoice_item() {
            return of_item();
        }
        json!({
            "type": "subscription_item_details", "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": false, "proration_details": null,
                "subscription": subscription["id"],
                "subscription_item": line.item,
            },
        })
    });
    json!({
        "id": line.id.replacen("li_", "il_", 1), "object": "line_item", "amount": line.amount(),
        "currency": line.price["currency"], "description": line.description, "discount_amounts": [],
        "discountable": true, "discounts": [], "invoice": params.id, "livemode": stamp.livemode,
        "metadata": {},
        "parent": parent, "period": { "start": start, "end": end }, "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details", "price_details": { "price": line.price["id"],
                "product": line.price["product"] },
            "unit_amount_decimal": line.price["unit_amount_decimal"],
        },
        "quantity": line.quantity,
        "subscription": params.subscription.map(|subscription| &subscription["id"]),
        "subtotal": line.amount(), "taxes": [],
    })
}

/// Returns the id of the invoice's subscription, or the empty string.
pub(super) fn subscription_of(invoice: &Value) -> &str {
    text(&invoice["parent"]["subscription_details"], "subscription")
}

/// Finalizes a draft, so that it can be paid.
pub(super) fn finalize(invoice: &mut Value, stamp: Stamp) {
    invoice["status"] = json!("open");
    invoice["automatically_finalizes_at"] = Value::Null;
    invoice["last_finalization_error"] = Value::Null;
    invoice["effective_at"] = json!(stamp.created());
    invoice["ending_balance"] = json!(0);
    invoice["status_transitions"]["finalized_at"] = json!(stamp.created());
}

/// Marks an invoice as paid in full.
pub(super) fn mark_paid(invoice: &mut Value, stamp: Stamp) {
    invoice["status"] = json!("paid");
    invoice["attempted"] = json!(true);
    invoice["attempt_count"] = json!(invoice["attempt_count"].as_i64().unwrap_or_default().max(1));
    invoice["amount_paid"] = invoice["amount_due"].clone();
    invoice["amount_remaining"] = json!(0);
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["status_transitions"]["paid_at"] = json!(stamp.created());
}

/// Returns the ids of an invoice's payment intent and charge. They differ only in the prefix, as
/// those of an intent and its charge do at Stripe.
pub(super) fn payment_ids(invoice: &str) -> (String, String) {
    let rest = invoice.split_once('_').map_or("", |(_, rest)| rest.get(1..).unwrap_or_default());
    (format!("pi_3{rest}"), format!("ch_3{rest}"))
}

/// A successful card payment.
pub(super) struct ChargeParams<'p> {
    /// The id of the invoice or the payment intent.
    pub of: &'p str,
    pub amount: i64,
    pub currency: &'p Value,
    pub customer: &'p Value,
    /// An object with `email`, `name`, `phone` and `address`.
    pub payer: &'p Value,
    pub description: &'p Value,
    pub metadata: &'p Value,
}

pub(super) fn charge(stamp: Stamp, payment: &ChargeParams) -> Value {
    let ChargeParams { amount, payer, .. } = payment;
    let (intent, id) = payment_ids(payment.of);
    json!({
        "id": id, "object": "charge", "amount": amount, "amount_captured": amount,
        "amount_refunded": 0, "application": null,
        "application_fee": null, "application_fee_amount": null, "balance_transaction": null,
        "billing_details": {
            "address": payer["address"], "email": payer["email"], "name": payer["name"],
            "phone": payer["phone"], "tax_id": null,
        },
        "calculated_statement_descriptor": "SIMULATOR", "captured": true,
        "created": stamp.created(), "currency": payment.currency,
        "customer": payment.customer, "description": payment.description, "disputed": false,
        "failure_balance_transaction": null,
        "failure_code": null, "failure_message": null, "fraud_details": {},
        "livemode": stamp.livemode,
        "metadata": payment.metadata, "on_behalf_of": null, "outcome": null, "paid": true,
        "payment_intent": intent,
        "payment_method": null, "payment_method_details": null, "radar_options": {},
        "receipt_email": null, "receipt_number": null,
        "receipt_url": null, "refunded": false, "review": null, "shipping": null,
        "source_transfer": null,
        "statement_descriptor": null, "statement_descriptor_suffix": null, "status": "succeeded",
        "transfer_data": null,
        "transfer_group": null,
    })
}

/// Builds a dispute. As at Stripe, it names its charge but no customer.
pub(super) fn dispute(id: &str, stamp: Stamp, charge: &Value) -> Value {
    json!({
        "id": id, "object": "dispute", "amount": charge["amount"], "balance_transactions": [],
        "charge": charge["id"],
        "created": stamp.created(), "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": { "enhanced_evidence": {} },
        "evidence_details": {
            "due_by": stamp.created() + 7 * 86_400, "enhanced_eligibility": {},
            "has_evidence": false, "past_due": false,
            "submission_count": 0,
        },
        "is_charge_refundable": false, "livemode": stamp.livemode, "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "type": "card",
            "card": {
                "brand": "visa", "case_type": "chargeback", "network": "visa",
                "network_reason_code": null,
            },
        },
        "reason": "fraudulent",
        "status": "needs_response",
    })
}
