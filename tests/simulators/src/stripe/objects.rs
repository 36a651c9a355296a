//! Builders for Stripe's objects, complete enough for the generated types to read them. No state
//! and no clock.

use jiff::Span;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The creation time and mode of a new object.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub now: Timestamp,
    pub livemode: bool,
}

impl Stamp {
    pub(super) fn created(self) -> i64 {
        self.now.as_second()
    }
}

/// Returns a text field, or the empty string.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// Returns the metadata of a request. An empty value unsets its key.
pub(super) fn metadata(params: &Value) -> Value {
    let entries = params["metadata"].as_object().into_iter().flatten();
    entries
        .filter(|(_, value)| value.as_str() != Some(""))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Returns an address with all of Stripe's fields, or null.
pub(super) fn address(input: &Value) -> Value {
    let Some(input) = input.as_object() else {
        return Value::Null;
    };
    // An empty text clears.
    let field = |key| input.get(key).filter(|value| **value != "").cloned().unwrap_or_default();
    json!({
        "city": field("city"), "country": field("country"), "line1": field("line1"),
        "line2": field("line2"),
        "postal_code": field("postal_code"), "state": field("state"),
    })
}

/// Returns the end of the `n`th period. It is whole intervals from the anchor, so that the 31st
/// does not drift.
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

/// Returns the first end of a period after an instant. All times are Unix seconds, as at Stripe.
pub(super) fn next_period_end(anchor: i64, recurring: &Value, after: i64) -> i64 {
    let anchor = Timestamp::from_second(anchor).unwrap_or_default();
    (0..10_000)
        .map(|n| period_end(anchor, recurring, n).as_second())
        .find(|end| *end > after)
        .unwrap_or(i64::MAX)
}

/// Returns the previous values of the fields that changed, as events report them. A changed list is
/// reported whole.
pub(super) fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else {
        return (before != after).then(|| before.clone());
    };
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let changed: Map<_, _> = keys
        .filter_map(|key| Some((key.clone(), difference(&before[key], &after[key])?)))
        .collect();
    (!changed.is_empty()).then_some(Value::Object(changed))
}

/// Returns the entries of a list in order. A form's list is parsed as an object keyed by index.
pub(super) fn ordered(list: &Value) -> Vec<(&String, &Value)> {
    let mut list: Vec<_> = list.as_object().into_iter().flatten().collect();
    list.sort_by_key(|(index, _)| index.parse::<u32>().unwrap_or(u32::MAX));
    list
}

pub(super) fn customer(id: &str, stamp: Stamp, params: &Value) -> Value {
    json!({
        "id": id, "object": "customer", "address": address(&params["address"]), "balance": 0,
        "created": stamp.created(), "currency": null, "default_source": null, "delinquent": false,
        "description": params["description"], "discount": null, "email": params["email"],
        "invoice_prefix": null,
        "invoice_settings": {
            "custom_fields": null, "default_payment_method": null, "footer": null,
            "rendering_options": null,
        },
        "livemode": stamp.livemode, "metadata": metadata(params), "name": params["name"],
        "next_invoice_sequence": 1,
        "phone": params["phone"], "preferred_locales": [], "shipping": null, "tax_exempt": "none",
        "test_clock": null,
    })
}

pub(super) fn price(id: &str, stamp: Stamp, params: &Value) -> Value {
    let amount = text(params, "unit_amount").parse::<i64>().unwrap_or_default();
    let recurring = params["recurring"].as_object().map(|input| {
        let count = input
            .get("interval_count")
            .and_then(|count| count.as_str()?.parse::<u64>().ok())
            .unwrap_or(1);
        json!({
            "interval": input.get("interval"), "interval_count": count, "meter": null,
            "usage_type": "licensed",
        })
    });
    json!({
        "id": id, "object": "price", "active": text(params, "active") != "false",
        "billing_scheme": "per_unit",
        "created": stamp.created(), "currency": params["currency"], "custom_unit_amount": null,
        "livemode": stamp.livemode, "lookup_key": params["lookup_key"],
        "metadata": metadata(params),
        "nickname": params["nickname"], "product": params["product"],
        "type": if recurring.is_some() { "recurring" } else { "one_time" }, "recurring": recurring,
        "tax_behavior": params["tax_behavior"].as_str().unwrap_or("unspecified"),
        "tiers_mode": null, "transform_quantity": null, "unit_amount": amount,
        "unit_amount_decimal": amount.to_string(),
    })
}

/// A price in a session's cart or on an invoice.
#[derive(Clone)]
pub(super) struct Line {
    pub id: String,
    /// The id of the subscription item that the line is or becomes; that of the invoice item, if
    /// the line is of one.
    pub item: String,
    pub price: Value,
    pub quantity: i64,
    pub description: Value,
    /// Whether the line is in a trial, in which a recurring price is free.
    pub trial: bool,
}

impl Line {
    pub(super) fn is_invoice_item(&self) -> bool {
        self.item.starts_with("ii_")
    }

    pub(super) fn recurs(&self) -> bool {
        self.price["recurring"].is_object()
    }

    pub(super) fn amount(&self) -> i64 {
        if self.trial && self.recurs() {
            0
        } else {
            self.price["unit_amount"].as_i64().unwrap_or_default() * self.quantity
        }
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
                "currency": line.price["currency"], "description": line.description, "metadata": {},
                "price": line.price, "quantity": line.quantity,
            })
        })
        .collect();
    list(&format!("/v1/checkout/sessions/{session}/line_items"), &items, false)
}

pub(super) fn customer_details(email: &str, name: &Value, phone: &Value, address: &Value) -> Value {
    json!({
        "address": address, "business_name": null, "email": email, "individual_name": null,
        "name": name,
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
    let methods: Vec<&Value> = ordered(&params["allowed_payment_method_types"])
        .into_iter()
        .map(|(_, method)| method)
        .collect();
    let invoice_creation = json!({
        "enabled": text(&params["invoice_creation"], "enabled") == "true",
        "invoice_data": {
            "account_tax_ids": null, "custom_fields": null, "description": null, "footer": null,
            "issuer": null,
            "metadata": metadata(&params["invoice_creation"]["invoice_data"]),
            "rendering_options": null,
        },
    });
    json!({
        "id": id, "object": "checkout.session", "adaptive_pricing": null, "after_expiration": null,
        "allow_promotion_codes": null, "amount_subtotal": total, "amount_total": total,
        "automatic_tax": { "enabled": false, "liability": null, "provider": null, "status": null },
        "billing_address_collection": params["billing_address_collection"],
        "cancel_url": params["cancel_url"],
        "client_reference_id": params["client_reference_id"], "client_secret": null,
        "collected_information": null,
        "consent": null, "consent_collection": null, "created": stamp.created(),
        "currency": lines.first().map(|line| &line.price["currency"]), "currency_conversion": null,
        "custom_fields": [],
        "custom_text": {
            "after_submit": null, "shipping_address": null, "submit": null,
            "terms_of_service_acceptance": null,
        },
        "customer": params["customer"], "customer_account": null, "customer_creation": creation,
        "customer_details": null, "customer_email": params["customer_email"], "discounts": [],
        "expires_at": expires_at, "invoice": null,
        "invoice_creation": if subscription { Value::Null } else { invoice_creation },
        "livemode": stamp.livemode, "locale": params["locale"], "metadata": metadata(params),
        "mode": params["mode"],
        "origin_context": null, "payment_intent": null, "payment_link": null,
        "payment_method_collection": if subscription { "always" } else { "if_required" },
        "payment_method_configuration_details": null, "payment_method_options": {},
        "payment_method_types": if methods.is_empty() { json!(["card",
            "us_bank_account"]) } else { json!(methods) }, "payment_status": "unpaid",
            "permissions": null,
        "phone_number_collection": { "enabled": text(&params["phone_number_collection"],
            "enabled") == "true" },
        "recovered_from": null, "saved_payment_method_options": null, "setup_intent": null,
        "shipping_address_collection": null, "shipping_cost": null, "shipping_options": [],
        "status": "open",
        "submit_type": null, "subscription": null, "success_url": params["success_url"],
        "total_details": { "amount_discount": 0, "amount_shipping": 0, "amount_tax": 0 },
        "ui_mode": "hosted_page",
        "url": url, "wallet_options": null,
    })
}

#[cfg(test)]
mod tests {
    use jiff::civil;
    use proptest::prelude::*;

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

    proptest! {
        /// Renewals rely on this: for a day that a month lacks, its last day counts, and the next
        /// month that has the day uses it again.
        #[test]
        fn a_hundred_and_twenty_periods_follow_each_other_from_any_start(
            second in 0_i64..4_000_000_000, yearly: bool, zone in -12_i8..14,
        ) {
            let anchor = Timestamp::from_second(second).expect("in range");
            let recurring = json!({"interval": if yearly { "year" } else { "month" },
            "interval_count": 1});
            let first = anchor.to_zoned(TimeZone::UTC);
            // The server's own time zone has no effect.
            let elsewhere = anchor.to_zoned(TimeZone::fixed(jiff::tz::offset(zone)));
            let mut start = second;
            for n in 1..=120_i64 {
                let end = period_end(anchor, &recurring, n);
                prop_assert_eq!(next_period_end(second, &recurring, start), end.as_second(),
                "the next begins where this one ends");
                prop_assert_eq!(period_end(elsewhere.timestamp(), &recurring, n), end);
                let end = end.to_zoned(TimeZone::UTC);
                let months = if yearly { n * 12 } else { n };
                let month = i64::from(first.month()) - 1 + months;
                let year = i16::try_from(i64::from(first.year()) + month / 12).expect("a year");
                let wanted = civil::date(year, i8::try_from(month % 12 + 1).expect("a month"), 1);
                prop_assert_eq!((end.year(), end.month(), end.time()),
                    (wanted.year(), wanted.month(), first.time()));
                prop_assert_eq!(end.day(), first.day().min(wanted.days_in_month()));
                start = end.timestamp().as_second();
            }
        }
    }
}
