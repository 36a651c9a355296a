//! Builders of Stripe's objects, complete enough for the generated types to read them. No state, no clock.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};

/// What every object of one moment shares.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub now: Timestamp,
    pub livemode: bool,
}

impl Stamp {
    fn created(self) -> i64 {
        self.now.as_second()
    }
}

/// A text field, or the empty string.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The metadata of a request; an empty value unsets its key.
pub(super) fn metadata(params: &Value) -> Value {
    let entries = params["metadata"].as_object().into_iter().flatten();
    entries.filter(|(_, value)| value.as_str() != Some("")).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// An address with every field of Stripe's, or null.
pub(super) fn address(given: &Value) -> Value {
    let Some(given) = given.as_object() else {
        return Value::Null;
    };
    let field = |key| given.get(key).cloned().unwrap_or_default();
    json!({
        "city": field("city"), "country": field("country"), "line1": field("line1"), "line2": field("line2"),
        "postal_code": field("postal_code"), "state": field("state"),
    })
}

/// The end of the `n`th period: whole months or years from the anchor, so that the 31st does not drift.
pub(super) fn period_end(anchor: Timestamp, recurring: &Value, n: i64) -> Timestamp {
    let count = n * recurring["interval_count"].as_i64().unwrap_or(1);
    let span = match text(recurring, "interval") {
        "year" => Span::new().years(count),
        "week" => Span::new().weeks(count),
        "day" => Span::new().days(count),
        _ => Span::new().months(count),
    };
    anchor.to_zoned(TimeZone::UTC).saturating_add(span).timestamp()
}

pub(super) fn customer(id: &str, stamp: Stamp, params: &Value) -> Value {
    json!({
        "id": id, "object": "customer", "address": address(&params["address"]), "balance": 0,
        "created": stamp.created(), "currency": null, "default_source": null, "delinquent": false,
        "description": params["description"], "discount": null, "email": params["email"], "invoice_prefix": null,
        "invoice_settings": {
            "custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null,
        },
        "livemode": stamp.livemode, "metadata": metadata(params), "name": params["name"], "next_invoice_sequence": 1,
        "phone": params["phone"], "preferred_locales": [], "shipping": null, "tax_exempt": "none", "test_clock": null,
    })
}

pub(super) fn portal_session(id: &str, stamp: Stamp, url: &str, params: &Value) -> Value {
    json!({
        "id": id, "object": "billing_portal.session", "configuration": "bpc_1Simulator", "created": stamp.created(),
        "customer": params["customer"], "customer_account": null, "flow": null, "livemode": stamp.livemode, "locale": null,
        "on_behalf_of": null, "return_url": params["return_url"], "url": url,
    })
}

pub(super) fn price(id: &str, stamp: Stamp, params: &Value) -> Value {
    let amount = text(params, "unit_amount").parse::<i64>().unwrap_or_default();
    let recurring = params["recurring"].as_object().map(|given| {
        let count = given.get("interval_count").and_then(|count| count.as_str()?.parse::<u64>().ok()).unwrap_or(1);
        json!({
            "interval": given.get("interval"), "interval_count": count, "meter": null, "trial_period_days": null,
            "usage_type": "licensed",
        })
    });
    json!({
        "id": id, "object": "price", "active": text(params, "active") != "false", "billing_scheme": "per_unit",
        "created": stamp.created(), "currency": params["currency"], "custom_unit_amount": null,
        "livemode": stamp.livemode, "lookup_key": params["lookup_key"], "metadata": metadata(params),
        "nickname": params["nickname"], "product": params["product"],
        "type": if recurring.is_some() { "recurring" } else { "one_time" }, "recurring": recurring,
        "tax_behavior": "unspecified", "tiers_mode": null, "transform_quantity": null, "unit_amount": amount,
        "unit_amount_decimal": amount.to_string(),
    })
}

/// The legacy twin of a recurring price that subscription items still carry.
fn plan(price: &Value) -> Value {
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
        "currency": price["currency"], "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"], "livemode": price["livemode"],
        "metadata": price["metadata"], "meter": null, "nickname": price["nickname"], "product": price["product"],
        "tiers_mode": null, "transform_usage": null, "trial_period_days": null, "usage_type": "licensed",
    })
}

/// A price in a session's cart.
#[derive(Clone)]
pub(super) struct Line {
    pub id: String,
    pub price: Value,
    pub quantity: i64,
}

impl Line {
    pub fn amount(&self) -> i64 {
        self.price["unit_amount"].as_i64().unwrap_or_default() * self.quantity
    }
}

pub(super) fn list(url: &str, data: &[Value], has_more: bool) -> Value {
    json!({ "object": "list", "data": data, "has_more": has_more, "url": url })
}

pub(super) fn line_items(session: &str, lines: &[Line]) -> Value {
    let items: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "id": line.id, "object": "item", "adjustable_quantity": null, "amount_discount": 0,
                "amount_subtotal": line.amount(), "amount_tax": 0, "amount_total": line.amount(),
                "currency": line.price["currency"], "description": line.price["nickname"], "metadata": {},
                "price": line.price, "quantity": line.quantity,
            })
        })
        .collect();
    list(&format!("/v1/checkout/sessions/{session}/line_items"), &items, false)
}

pub(super) fn customer_details(email: &str, name: &Value, phone: &Value, address: &Value) -> Value {
    json!({
        "address": address, "business_name": null, "email": email, "individual_name": null, "name": name,
        "phone": phone, "tax_exempt": "none", "tax_ids": [],
    })
}

pub(super) fn session(id: &str, stamp: Stamp, url: &str, params: &Value, lines: &[Line]) -> Value {
    let total: i64 = lines.iter().map(Line::amount).sum();
    let expires_at = text(params, "expires_at").parse().unwrap_or(stamp.created() + 86_400);
    let subscription = text(params, "mode") == "subscription";
    let creation = match (params["customer"].is_string(), subscription) {
        (true, _) => Value::Null,
        (false, true) => json!("always"),
        (false, false) => json!(params["customer_creation"].as_str().unwrap_or("if_required")),
    };
    let invoice_creation = json!({
        "enabled": text(&params["invoice_creation"], "enabled") == "true",
        "invoice_data": {
            "account_tax_ids": null, "custom_fields": null, "description": null, "footer": null, "issuer": null,
            "metadata": metadata(&params["invoice_creation"]["invoice_data"]), "rendering_options": null,
        },
    });
    json!({
        "id": id, "object": "checkout.session", "adaptive_pricing": null, "after_expiration": null,
        "allow_promotion_codes": null, "amount_subtotal": total, "amount_total": total,
        "automatic_tax": { "enabled": false, "liability": null, "provider": null, "status": null },
        "billing_address_collection": params["billing_address_collection"], "cancel_url": params["cancel_url"],
        "client_reference_id": params["client_reference_id"], "client_secret": null, "collected_information": null,
        "consent": null, "consent_collection": null, "created": stamp.created(),
        "currency": lines.first().map(|line| &line.price["currency"]), "currency_conversion": null,
        "custom_fields": [],
        "custom_text": {
            "after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null,
        },
        "customer": params["customer"], "customer_account": null, "customer_creation": creation,
        "customer_details": null, "customer_email": params["customer_email"], "discounts": [],
        "expires_at": expires_at, "invoice": null,
        "invoice_creation": if subscription { Value::Null } else { invoice_creation },
        "livemode": stamp.livemode, "locale": params["locale"], "metadata": metadata(params), "mode": params["mode"],
        "origin_context": null, "payment_intent": null, "payment_link": null,
        "payment_method_collection": if subscription { "always" } else { "if_required" },
        "payment_method_configuration_details": null, "payment_method_options": {},
        "payment_method_types": ["card", "us_bank_account"], "payment_status": "unpaid", "permissions": null,
        "phone_number_collection": { "enabled": text(&params["phone_number_collection"], "enabled") == "true" },
        "recovered_from": null, "saved_payment_method_options": null, "setup_intent": null,
        "shipping_address_collection": null, "shipping_cost": null, "shipping_options": [], "status": "open",
        "submit_type": null, "subscription": null, "success_url": params["success_url"],
        "total_details": { "amount_discount": 0, "amount_shipping": 0, "amount_tax": 0 }, "ui_mode": "hosted_page",
        "url": url, "wallet_options": null,
    })
}

/// What a paid cart makes: the ids are given, so that subscription and invoice can name each other.
pub(super) struct Sale<'s> {
    pub subscription: Option<&'s str>,
    pub invoice: &'s str,
    pub customer: &'s str,
    pub lines: &'s [Line],
    /// Of the subscription, else of the invoice.
    pub metadata: &'s Value,
    pub paid: bool,
}

pub(super) fn subscription(id: &str, stamp: Stamp, sale: &Sale) -> Value {
    let items: Vec<Value> = sale
        .lines
        .iter()
        .map(|line| {
            json!({
                "id": line.id.replacen("li_", "si_", 1), "object": "subscription_item", "billing_thresholds": null,
                "created": stamp.created(), "current_period_start": stamp.created(),
                "current_period_end": period_end(stamp.now, &line.price["recurring"], 1).as_second(),
                "discounts": [], "metadata": {}, "plan": plan(&line.price), "price": line.price,
                "quantity": line.quantity, "subscription": id, "tax_rates": [],
            })
        })
        .collect();
    json!({
        "id": id, "object": "subscription", "application": null, "application_fee_percent": null,
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
        "billing_cycle_anchor": stamp.created(), "billing_cycle_anchor_config": null,
        "billing_mode": {
            "type": "flexible", "flexible": { "proration_discounts": "included" }, "updated_at": stamp.created(),
        },
        "billing_schedules": [], "billing_thresholds": null, "cancel_at": null, "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": { "comment": null, "feedback": null, "reason": null },
        "collection_method": "charge_automatically", "created": stamp.created(),
        "currency": sale.lines.first().map(|line| &line.price["currency"]), "customer": sale.customer,
        "customer_account": null, "days_until_due": null, "default_payment_method": null, "default_source": null,
        "default_tax_rates": [], "description": null, "discounts": [], "ended_at": null,
        "invoice_settings": { "account_tax_ids": null, "issuer": { "type": "self" } },
        "items": list(&format!("/v1/subscription_items?subscription={id}"), &items, false),
        "latest_invoice": sale.invoice, "livemode": stamp.livemode, "metadata": sale.metadata,
        "next_pending_invoice_item_invoice": null, "on_behalf_of": null, "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": null, "pending_setup_intent": null, "pending_update": null, "schedule": null,
        "start_date": stamp.created(), "status": "active", "test_clock": null, "transfer_data": null,
        "trial_end": null, "trial_settings": { "end_behavior": { "missing_payment_method": "create_invoice" } },
        "trial_start": null,
    })
}

pub(super) fn invoice(stamp: Stamp, sale: &Sale, customer: &Value) -> Value {
    let total: i64 = sale.lines.iter().map(Line::amount).sum();
    let created = stamp.created();
    let lines: Vec<Value> = sale.lines.iter().map(|line| invoice_line(stamp, sale, line)).collect();
    let mut invoice = json!({
        "id": sale.invoice, "object": "invoice", "account_country": "US", "account_name": "Simulator",
        "account_tax_ids": null, "amount_due": total, "amount_overpaid": 0, "amount_paid": 0,
        "amount_remaining": total, "amount_shipping": 0, "application": null, "attempt_count": 1, "attempted": true,
        "auto_advance": false,
        "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null },
        "automatically_finalizes_at": null,
        "billing_reason": if sale.subscription.is_some() { "subscription_create" } else { "manual" },
        "collection_method": "charge_automatically", "created": created,
        "currency": sale.lines.first().map(|line| &line.price["currency"]), "custom_fields": null,
        "customer": sale.customer, "customer_account": null, "customer_address": customer["address"],
        "customer_email": customer["email"], "customer_name": customer["name"], "customer_phone": customer["phone"],
        "customer_shipping": null, "customer_tax_exempt": "none", "customer_tax_ids": [],
        "default_payment_method": null, "default_source": null, "default_tax_rates": [], "description": null,
        "discounts": [], "due_date": null, "effective_at": created, "ending_balance": 0, "footer": null,
        "from_invoice": null, "hosted_invoice_url": null, "invoice_pdf": null, "issuer": { "type": "self" },
        "last_finalization_error": null, "latest_revision": null,
        "lines": list(&format!("/v1/invoices/{}/lines", sale.invoice), &lines, false),
        "livemode": stamp.livemode, "metadata": {}, "next_payment_attempt": null, "number": null,
        "on_behalf_of": null, "parent": null,
        "payment_settings": { "default_mandate": null, "payment_method_options": null, "payment_method_types": null },
        "period_end": created, "period_start": created, "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": null, "rendering": null, "shipping_cost": null,
        "shipping_details": null, "starting_balance": 0, "statement_descriptor": null, "status": "open",
        "status_transitions": {
            "finalized_at": created, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null,
        },
        "subtotal": total, "subtotal_excluding_tax": total, "test_clock": null, "threshold_reason": null,
        "total": total, "total_discount_amounts": [], "total_excluding_tax": total, "total_pretax_credit_amounts": [],
        "total_taxes": [], "webhooks_delivered_at": created,
    });
    match sale.subscription {
        Some(subscription) => {
            invoice["parent"] = json!({
                "type": "subscription_details", "quote_details": null,
                "subscription_details": { "metadata": sale.metadata, "subscription": subscription },
            });
        }
        None => invoice["metadata"] = sale.metadata.clone(),
    }
    if sale.paid {
        mark_paid(&mut invoice, stamp);
    }
    invoice
}

fn invoice_line(stamp: Stamp, sale: &Sale, line: &Line) -> Value {
    let recurring = &line.price["recurring"];
    let end = if recurring.is_null() { stamp.now } else { period_end(stamp.now, recurring, 1) };
    let parent = match sale.subscription {
        Some(subscription) => json!({
            "type": "subscription_item_details", "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": false, "proration_details": null, "subscription": subscription,
                "subscription_item": line.id.replacen("li_", "si_", 1),
            },
        }),
        None => Value::Null,
    };
    json!({
        "id": line.id.replacen("li_", "il_", 1), "object": "line_item", "amount": line.amount(),
        "currency": line.price["currency"], "description": line.price["nickname"], "discount_amounts": [],
        "discountable": true, "discounts": [], "invoice": sale.invoice, "livemode": stamp.livemode, "metadata": {},
        "parent": parent, "period": { "start": stamp.created(), "end": end.as_second() },
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details", "price_details": { "price": line.price["id"], "product": line.price["product"] },
            "unit_amount_decimal": line.price["unit_amount_decimal"],
        },
        "quantity": line.quantity, "subscription": sale.subscription, "subtotal": line.amount(), "taxes": [],
    })
}

/// Ends a subscription at once, as a call of the API does.
pub(super) fn mark_canceled(subscription: &mut Value, stamp: Stamp) {
    subscription["status"] = json!("canceled");
    subscription["canceled_at"] = json!(stamp.created());
    subscription["ended_at"] = json!(stamp.created());
    subscription["cancellation_details"]["reason"] = json!("cancellation_requested");
}

/// Settles an invoice in full.
pub(super) fn mark_paid(invoice: &mut Value, stamp: Stamp) {
    invoice["status"] = json!("paid");
    invoice["amount_paid"] = invoice["amount_due"].clone();
    invoice["amount_remaining"] = json!(0);
    invoice["status_transitions"]["paid_at"] = json!(stamp.created());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_from_the_31st_ends_on_the_last_day_and_comes_back_to_the_31st() {
        let anchor: Timestamp = "2027-01-31T10:00:00Z".parse().expect("a timestamp");
        let month = json!({ "interval": "month", "interval_count": 1 });
        assert_eq!(period_end(anchor, &month, 1).to_string(), "2027-02-28T10:00:00Z");
        assert_eq!(period_end(anchor, &month, 2).to_string(), "2027-03-31T10:00:00Z");
        let leap: Timestamp = "2028-02-29T00:00:00Z".parse().expect("a timestamp");
        let year = json!({ "interval": "year", "interval_count": 1 });
        assert_eq!(period_end(leap, &year, 1).to_string(), "2029-02-28T00:00:00Z");
    }
}
