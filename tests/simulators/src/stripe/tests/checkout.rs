use super::*;

const NOW: &str = "2027-01-31T10:00:00Z";

/// Returns the form of a payment for two slots at $12.34 each, with `extra` parameters.
fn payment<'f>(extra: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let mut form = vec![
        ("mode", "payment"),
        ("success_url", "https://app.example/done"),
        ("line_items[0][price_data][currency]", "usd"),
        ("line_items[0][price_data][unit_amount]", "1234"),
        ("line_items[0][price_data][product_data][name]", "2 slots"),
        ("line_items[0][price_data][tax_behavior]", "exclusive"),
        ("line_items[0][quantity]", "2"),
    ];
    for (key, value) in extra {
        form.retain(|(known, _)| known != key);
        form.push((key, value));
    }
    form
}

#[tokio::test]
async fn a_payment_of_inline_prices_leaves_an_invoice_and_a_charge() {
    let simulator = simulator().await;
    simulator.set_now(at(NOW));
    let (_, customer) = post(&simulator, "customers", "c", &[("email", "ada@example.com")]).await;
    let form = payment(&[
        ("customer", objects::text(&customer, "id")),
        ("client_reference_id", "order-1"),
        ("allowed_payment_method_types[0]", "card"),
        ("invoice_creation[enabled]", "true"),
        ("invoice_creation[invoice_data][metadata][order]", "1"),
        ("payment_intent_data[metadata][order]", "2"),
        ("payment_intent_data[description]", "Slots"),
    ]);
    let (status, session) = post(&simulator, "checkout/sessions", "s", &form).await;
    assert_eq!(
        (status.as_u16(), &session["amount_total"], &session["payment_method_types"]),
        (200, &json!(2_468), &json!(["card"])),
        "{session}"
    );
    let id = objects::text(&session, "id");
    let page = reqwest::get(objects::text(&session, "url"))
        .await
        .expect("a page")
        .text()
        .await
        .expect("text");
    assert!(page.contains("2 slots") && !page.contains("bank debit"), "{page}");
    assert!(simulator.pay_async(id, payer()).is_err(), "only by card");

    simulator.set_card(objects::text(&customer, "id"), Card::Declines);
    assert!(simulator.pay(id, payer()).is_err());
    assert_eq!(
        simulator.object(id).expect("a session")["status"],
        "open",
        "a decline leaves it open"
    );
    simulator.set_card(objects::text(&customer, "id"), Card::Works);

    let paid = simulator.pay(id, payer()).expect("paid");
    assert_eq!(types(&simulator), ["checkout.session.completed", "invoice.paid"]);
    let (_, read) =
        get(&simulator, &format!("checkout/sessions/{id}?expand[]=line_items&expand[]=invoice"))
            .await;
    let session: stripe_shared::CheckoutSession = typed(&read);
    assert_eq!(session.client_reference_id.as_deref(), Some("order-1"));
    let line = &session.line_items.expect("expanded").data[0];
    assert_eq!((line.description.as_deref(), line.amount_total), (Some("2 slots"), 2_468));
    assert_eq!(read["invoice"]["metadata"], json!({"order": "1"}));
    let (_, found) = get(
        &simulator,
        &format!("charges?payment_intent={}", objects::text(&paid, "payment_intent")),
    )
    .await;
    let (_, charge) =
        get(&simulator, &format!("charges/{}", objects::text(&found["data"][0], "id"))).await;
    let charge: stripe_shared::Charge = typed(&charge);
    assert_eq!(
        (charge.amount, charge.description.as_deref(), charge.metadata["order"].as_str()),
        (2_468, Some("Slots"), "2")
    );
    assert_eq!(charge.customer.expect("a customer").id().as_str(), objects::text(&customer, "id"));
}

#[tokio::test]
async fn invalid_parameters_of_a_session_get_stripes_errors() {
    let simulator = simulator().await;
    simulator.set_now(at(NOW));
    let in_seconds = |seconds: i64| (second(NOW) + seconds).to_string();
    let (soon, half, day, late) =
        (in_seconds(1_799), in_seconds(1_800), in_seconds(86_400), in_seconds(86_401));
    for (n, (key, value, error)) in [
        ("line_items[0][price_data][unit_amount]", "24", json!("amount_too_small")),
        ("line_items[0][price_data][unit_amount]", "25", Value::Null),
        ("line_items[0][price_data][unit_amount]", "-1", json!("parameter_invalid_integer")),
        ("line_items[0][price_data][currency]", "", json!("parameter_missing")),
        ("line_items[0][price_data][recurring][interval]", "month", json!("parameter_unknown")),
        ("line_items[0][price]", "price_pro", Value::Null),
        ("subscription_data[trial_period_days]", "7", json!("parameter_unknown")),
        ("payment_intent_data[setup_future_usage]", "off_session", json!("parameter_unknown")),
        ("invoice_creation[invoice_data][footer]", "x", json!("parameter_unknown")),
        ("expires_at", &half, Value::Null),
        ("expires_at", &day, Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, answer) =
            post(&simulator, "checkout/sessions", &n.to_string(), &payment(&[(key, value)])).await;
        assert_eq!(
            (status == 200, &answer["error"]["code"]),
            (error.is_null(), &error),
            "{key}={value}: {answer}"
        );
    }
    post(
        &simulator,
        "prices",
        "old",
        &[
            ("currency", "usd"),
            ("product", "prod_old"),
            ("unit_amount", "900"),
            ("active", "false"),
            ("lookup_key", "old"),
        ],
    )
    .await;
    let (_, old) = get(&simulator, "prices?active=false").await;
    let old = objects::text(&old["data"][0], "id");
    let mut form = payment(&[("line_items[0][price]", old)]);
    form.retain(|(key, _)| !key.contains("price_data"));
    assert_eq!(
        post(&simulator, "checkout/sessions", "inactive", &form).await.1["error"]["param"],
        "line_items[0][price]"
    );
    for (key, value) in [
        ("expires_at", &*soon),
        ("expires_at", &late),
        ("expires_at", "tomorrow"),
        ("allowed_payment_method_types[0]", "cash"),
    ] {
        let (status, answer) =
            post(&simulator, "checkout/sessions", value, &payment(&[(key, value)])).await;
        assert_eq!((status.as_u16(), &answer["error"]["param"]), (400, &json!(key)), "{answer}");
    }
}

#[tokio::test]
async fn a_session_expires_when_its_time_comes_and_then_cannot_be_paid() {
    let simulator = simulator().await;
    simulator.set_now(at(NOW));
    let expires_at = (second(NOW) + 1_800).to_string();
    let (_, session) =
        post(&simulator, "checkout/sessions", "s", &payment(&[("expires_at", &expires_at)])).await;
    let id = objects::text(&session, "id");
    assert!(emits(&simulator, || simulator.advance_to(at("2027-01-31T10:29:59Z"))).is_empty());
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-01-31T11:00:00Z"))),
        ["checkout.session.expired"]
    );
    assert_eq!(simulator.events()[0]["created"], second(NOW) + 1_800);
    assert!(simulator.pay(id, payer()).is_err());
    assert_eq!(simulator.events().len(), 1);
}

#[tokio::test]
async fn a_bank_debit_is_charged_once_it_settles() {
    let simulator = simulator().await;
    let (_, session) = post(&simulator, "checkout/sessions", "s", &payment(&[])).await;
    let id = objects::text(&session, "id");
    simulator.pay_async(id, payer()).expect("paid later");
    assert!(simulator.refund(id, None).is_err(), "not charged yet");
    assert_eq!(
        emits(&simulator, || drop(simulator.settle(id).expect("settled"))),
        ["checkout.session.async_payment_succeeded"]
    );
    assert_eq!(simulator.refund(id, None).expect("refunded")["amount_refunded"], 2_468);
}

#[tokio::test]
async fn a_trial_starts_without_a_payment() {
    let simulator = simulator().await;
    simulator.set_now(at(NOW));
    let params =
        CheckoutParams { trial_period_days: Some(14), ..CheckoutParams::subscription("price_pro") };
    let id = simulator.create_checkout(params).expect("a session");
    let session = simulator.pay(&id, payer()).expect("completed");
    assert_eq!(
        (&session["payment_status"], &session["amount_total"]),
        (&json!("no_payment_required"), &json!(0))
    );
    assert_eq!(
        types(&simulator),
        ["customer.subscription.created", "checkout.session.completed", "invoice.paid"]
    );
    let subscription: stripe_shared::Subscription =
        typed(&simulator.object(objects::text(&session, "subscription")).expect("a subscription"));
    let trial_end = second("2027-02-14T10:00:00Z");
    assert_eq!(
        (subscription.status.as_str(), subscription.trial_start, subscription.trial_end),
        ("trialing", Some(second(NOW)), Some(trial_end))
    );
    assert_eq!(
        (subscription.items.data[0].current_period_end, subscription.billing_cycle_anchor),
        (trial_end, trial_end)
    );
    let invoice: stripe_shared::Invoice =
        typed(&simulator.object(objects::text(&session, "invoice")).expect("an invoice"));
    assert_eq!(
        (
            invoice.total,
            invoice.status.expect("a status").as_str(),
            invoice.lines.data[0].period.end
        ),
        (0, "paid", trial_end)
    );
    assert!(get(&simulator, "charges").await.1["data"].as_array().expect("a list").is_empty());
}
