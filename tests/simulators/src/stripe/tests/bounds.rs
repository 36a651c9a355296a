use super::*;

const SUBSCRIBE: [(&str, &str); 4] = [
    ("mode", "subscription"),
    ("success_url", "https://example.com/done"),
    ("line_items[0][price]", "price_pro"),
    ("line_items[0][quantity]", "1"),
];

const PAY: [(&str, &str); 5] = [
    ("mode", "payment"),
    ("success_url", "https://example.com/done"),
    ("line_items[0][price_data][currency]", "usd"),
    ("line_items[0][price_data][product_data][name]", "Slots"),
    ("line_items[0][quantity]", "1"),
];

/// Posts a form, and returns the status and what the error says apart from its message.
async fn ask(simulator: &Simulator, path: &str, form: &[(&str, &str)]) -> (u16, String, String) {
    let key = simulator.requests().len().to_string();
    let (status, answer) = post(simulator, path, &key, form).await;
    let error = &answer["error"];
    if status != 200 {
        assert_eq!(error["type"], "invalid_request_error", "{answer}");
        assert!(error["message"].is_string(), "{answer}");
    }
    let field = |key| objects::text(error, key).to_owned();
    (status.as_u16(), field("code"), field("param"))
}

fn taken() -> (u16, String, String) {
    (200, String::new(), String::new())
}

fn refused(code: &str, param: &str) -> (u16, String, String) {
    (400, code.to_owned(), param.to_owned())
}

/// Adds so many prices of a dollar by the month, `price_0` and on.
fn add_prices(simulator: &Simulator, count: usize) {
    for n in 0..count {
        simulator.add_price(Price {
            currency: "usd".to_owned(),
            id: format!("price_{n}"),
            product: "prod_1".to_owned(),
            unit_amount: 100,
            interval: Interval::Month,
            nickname: format!("{n}"),
        });
    }
}

#[tokio::test]
async fn a_text_or_amount_at_its_bound_is_taken_and_one_more_is_refused() {
    let simulator = simulator().await;
    simulator.save_portal_settings();
    let metadata = |length| ("metadata[key]", "v".repeat(length));
    let price = [("currency", "usd"), ("product", "prod_1")];
    for (path, others, (name, last), (_, beyond), code) in [
        ("customers", &[][..], metadata(500), metadata(501), ""),
        ("customers", &[], ("name", "n".repeat(256)), ("name", "n".repeat(257)), ""),
        ("customers", &[], ("phone", "1".repeat(20)), ("phone", "1".repeat(21)), ""),
        ("customers", &[], ("email", "e".repeat(512)), ("email", "e".repeat(513)), ""),
        ("customers", &[], ("description", "ä".repeat(5_000)), ("", "ä".repeat(5_001)), ""),
        ("customers", &[], ("address[city]", "c".repeat(5_000)), ("", "c".repeat(5_001)), ""),
        ("checkout/sessions", &SUBSCRIBE, metadata(500), metadata(501), ""),
        (
            "checkout/sessions",
            &SUBSCRIBE,
            ("subscription_data[metadata][key]", "v".repeat(500)),
            ("", "v".repeat(501)),
            "",
        ),
        (
            "checkout/sessions",
            &SUBSCRIBE,
            ("client_reference_id", "r".repeat(200)),
            ("", "r".repeat(201)),
            "",
        ),
        (
            "checkout/sessions",
            &PAY,
            ("line_items[0][price_data][unit_amount]", "99999999".to_owned()),
            ("", "100000000".to_owned()),
            "amount_too_large",
        ),
        (
            "prices",
            &price,
            ("unit_amount", "99999999".to_owned()),
            ("", "100000000".to_owned()),
            "amount_too_large",
        ),
    ] {
        let form = |value| [others, &[(name, value)]].concat();
        assert_eq!(ask(&simulator, path, &form(&last)).await, taken(), "{path} {name}");
        let param = name.strip_suffix("[key]").unwrap_or(name);
        assert_eq!(
            ask(&simulator, path, &form(&beyond)).await,
            refused(code, param),
            "{path} {name}"
        );
    }
}

#[tokio::test]
async fn metadata_has_50_keys_of_40_characters_after_each_change() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let path = format!("subscriptions/{id}");
    let names: Vec<String> = (0..51).map(|n| format!("metadata[key_{n}]")).collect();
    let form: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    assert_eq!(ask(&simulator, "customers", &form).await, refused("", "metadata"));
    assert_eq!(ask(&simulator, &path, &form[..50]).await, taken());
    assert_eq!(ask(&simulator, &path, &form[50..]).await, refused("", "metadata"), "one more");
    assert_eq!(ask(&simulator, &path, &[(form[0].0, ""), form[50]]).await, taken(), "for another");
    for (length, expected) in [(40, taken()), (41, refused("", "metadata"))] {
        let name = format!("metadata[{}]", "k".repeat(length));
        assert_eq!(ask(&simulator, "customers", &[(&name, "v")]).await, expected, "{length}");
    }
}

#[tokio::test]
async fn an_idempotency_key_has_255_characters() {
    let simulator = simulator().await;
    let (status, _) = post(&simulator, "customers", &"k".repeat(255), &[]).await;
    assert_eq!(status, 200);
    let (status, answer) = post(&simulator, "customers", &"k".repeat(256), &[]).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (400, &json!("invalid_request_error")));
}

#[tokio::test]
async fn a_subscription_has_20_items_and_a_payment_100_lines_and_a_million_dollars_less_a_cent() {
    let simulator = simulator().await;
    add_prices(&simulator, 21);
    let cart = |count: usize| CheckoutParams {
        also: (1..count).map(|n| (format!("price_{n}"), 1)).collect(),
        ..CheckoutParams::subscription("price_0")
    };
    assert!(simulator.create_checkout(cart(21)).is_err());
    let session = simulator.create_checkout(cart(20)).expect("a session");
    let session = simulator.pay(&session, payer()).expect("paid");
    let subscription = objects::text(&session, "subscription");
    let add =
        [("subscription", subscription), ("price", "price_20"), ("proration_behavior", "none")];
    assert_eq!(ask(&simulator, "subscription_items", &add).await, refused("", "items"));

    let line = |n: usize, cents: &str| {
        let name = |field: &str| format!("line_items[{n}]{field}");
        vec![
            (name("[price_data][currency]"), "usd".to_owned()),
            (name("[price_data][product_data][name]"), "Slot".to_owned()),
            (name("[price_data][unit_amount]"), cents.to_owned()),
            (name("[quantity]"), "1".to_owned()),
        ]
    };
    let pay = async |count: usize, cents: &str| {
        let lines: Vec<_> = (0..count).flat_map(|n| line(n, cents)).collect();
        let lines = lines.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let form: Vec<_> = PAY[..2].iter().copied().chain(lines).collect();
        ask(&simulator, "checkout/sessions", &form).await
    };
    assert_eq!(pay(100, "100").await, taken());
    assert_eq!(pay(101, "100").await, refused("", "line_items"));
    assert_eq!(pay(3, "33333333").await, taken());
    assert_eq!(pay(2, "50000000").await, refused("amount_too_large", ""), "their sum");
}

#[tokio::test]
async fn an_address_that_is_not_absolute_is_refused_with_its_parameter() {
    let simulator = simulator().await;
    simulator.save_portal_settings();
    let (_, customer) = post(&simulator, "customers", "c", &[]).await;
    let customer = ("customer", objects::text(&customer, "id"));
    for bad in ["example.com/done", "/done", "ftp://example.com/", "https://", "https:///done"] {
        let invalid = |param| refused("url_invalid", param);
        let form = [SUBSCRIBE[0], ("success_url", bad), SUBSCRIBE[2], SUBSCRIBE[3]];
        assert_eq!(ask(&simulator, "checkout/sessions", &form).await, invalid("success_url"));
        let form = [&SUBSCRIBE[..], &[("cancel_url", bad)]].concat();
        assert_eq!(ask(&simulator, "checkout/sessions", &form).await, invalid("cancel_url"));
        let form = [customer, ("return_url", bad)];
        assert_eq!(ask(&simulator, "billing_portal/sessions", &form).await, invalid("return_url"));
    }
}

#[tokio::test]
async fn a_customer_is_not_asked_for_where_a_subscription_makes_one() {
    let simulator = simulator().await;
    let form = [&SUBSCRIBE[..], &[("customer_creation", "always")]].concat();
    let (status, answer) = post(&simulator, "checkout/sessions", "k", &form).await;
    assert_eq!(status, 400);
    assert_eq!(
        answer["error"]["message"],
        "`customer_creation` can only be used in `payment` mode."
    );
}

#[tokio::test]
async fn every_route_that_writes_refuses_a_parameter_that_it_does_not_know() {
    let simulator = simulator().await;
    simulator.save_portal_settings();
    let (customer, subscription) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let item = field(&simulator, &subscription, "/items/data/0/id");
    let item = item.as_str().expect("an item");
    let session =
        simulator.create_checkout(CheckoutParams::subscription("price_pro")).expect("a session");
    for path in [
        "billing_portal/configurations",
        "billing_portal/sessions",
        "checkout/sessions",
        &format!("checkout/sessions/{session}/expire"),
        "customers",
        &format!("customers/{customer}"),
        "invoiceitems",
        "prices",
        "subscription_items",
        &format!("subscription_items/{item}"),
        &format!("subscriptions/{subscription}"),
    ] {
        assert_eq!(
            ask(&simulator, path, &[("colour", "blue")]).await,
            refused("parameter_unknown", "colour"),
            "{path}"
        );
    }
    for (path, name) in [
        ("customers", "address[street]"),
        ("prices", "recurring[every]"),
        ("checkout/sessions", "subscription_data[colour]"),
        ("checkout/sessions", "phone_number_collection[colour]"),
        ("checkout/sessions", "line_items[0][colour]"),
        ("billing_portal/configurations", "features[colour]"),
        ("billing_portal/configurations", "features[invoice_history][colour]"),
    ] {
        assert_eq!(
            ask(&simulator, path, &[(name, "blue")]).await,
            refused("parameter_unknown", name),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_portal_opens_only_with_a_configuration_or_saved_settings() {
    let simulator = simulator().await;
    let (customer, _) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let open = [("customer", &*customer), ("return_url", "https://example.com/")];
    let (status, answer) = post(&simulator, "billing_portal/sessions", "a", &open).await;
    let message = objects::text(&answer["error"], "message");
    assert!(
        status == 400 && message.starts_with("No configuration provided and your test mode"),
        "{answer}"
    );
    let form = [("features[invoice_history][enabled]", "true")];
    let (_, made) = post(&simulator, "billing_portal/configurations", "b", &form).await;
    assert_eq!(made["is_default"], false, "{made}");
    let with = [open[0], open[1], ("configuration", objects::text(&made, "id"))];
    let (_, session) = post(&simulator, "billing_portal/sessions", "c", &with).await;
    assert_eq!(session["configuration"], made["id"], "{session}");
    let unknown = [open[0], ("configuration", "bpc_none")];
    assert_eq!(
        ask(&simulator, "billing_portal/sessions", &unknown).await,
        refused("resource_missing", "configuration")
    );
    assert_eq!(post(&simulator, "billing_portal/sessions", "d", &open).await.0, 400, "no default");
    simulator.save_portal_settings();
    assert_eq!(post(&simulator, "billing_portal/sessions", "e", &open).await.0, 200);
}

#[tokio::test]
async fn pending_items_are_collected_by_the_next_invoice_alone() {
    let simulator = simulator().await;
    let (customer, subscription) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let (stranger, _) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let item = [("customer", &*customer), ("currency", "usd"), ("amount", "300")];
    let (_, item) = post(&simulator, "invoiceitems", "a", &item).await;
    let foreign = [
        ("customer", &*stranger),
        ("currency", "usd"),
        ("amount", "1"),
        ("subscription", &*subscription),
    ];
    assert_eq!(
        ask(&simulator, "invoiceitems", &foreign).await,
        refused("resource_missing", "subscription")
    );
    let totals = async || {
        let path = format!("invoices?subscription={subscription}");
        let (_, list) = get(&simulator, &path).await;
        let invoices = list["data"].as_array().expect("a list").clone();
        invoices.iter().map(|invoice| invoice["amount_paid"].clone()).collect::<Vec<_>>()
    };
    simulator.advance_to(at("2027-03-31T10:00:00Z"));
    assert_eq!(totals().await, [json!(4_900), json!(5_200), json!(4_900)], "newest first");
    let (_, after) = get(&simulator, &format!("invoiceitems/{}", objects::text(&item, "id"))).await;
    let (_, lines) =
        get(&simulator, &format!("invoices/{}/lines", objects::text(&after, "invoice"))).await;
    let line = &lines["data"][1];
    assert_eq!(line["parent"]["invoice_item_details"]["invoice_item"], item["id"], "{lines}");
    assert_eq!(line["amount"], 300);
}

#[tokio::test]
async fn an_object_shows_ten_of_a_list_and_the_lists_own_route_has_the_others() {
    let simulator = simulator().await;
    simulator.set_now(at("2027-01-31T10:00:00Z"));
    add_prices(&simulator, 12);
    let cart = CheckoutParams {
        also: (1..12).map(|n| (format!("price_{n}"), 1)).collect(),
        ..CheckoutParams::subscription("price_0")
    };
    let id = simulator.create_checkout(cart).expect("a session");
    let session = simulator.pay(&id, payer()).expect("paid");
    let (invoice, subscription) =
        (objects::text(&session, "invoice"), objects::text(&session, "subscription"));
    let shown =
        |list: &Value| (list["data"].as_array().map_or(0, Vec::len), list["has_more"] == true);
    let path = format!("subscriptions/{subscription}?expand[]=latest_invoice");
    let (_, found) = get(&simulator, &path).await;
    assert_eq!(shown(&found["items"]), (10, true));
    assert_eq!(shown(&found["latest_invoice"]["lines"]), (10, true));
    let event = simulator.events().remove(0);
    assert_eq!(shown(&event["data"]["object"]["items"]), (10, true), "{event}");
    for path in [format!("invoices/{invoice}/lines"), format!("checkout/sessions/{id}/line_items")]
    {
        let (_, first) = get(&simulator, &path).await;
        assert_eq!(shown(&first), (10, true), "{path}");
        assert_eq!(first["url"], format!("/v1/{path}"));
        let last = objects::text(&first["data"][9], "id");
        let (_, second) = get(&simulator, &format!("{path}?starting_after={last}&limit=5")).await;
        assert_eq!(shown(&second), (2, false), "{path}");
        assert_eq!(get(&simulator, &format!("{path}?starting_after=il_none")).await.0, 400);
    }
}

#[tokio::test]
async fn events_are_filtered_by_a_group_or_by_at_most_twenty_types() {
    let simulator = simulator().await;
    subscribed(&simulator, "2027-01-31T10:00:00Z");
    simulator.advance_to(at("2027-02-28T10:00:00Z"));
    let listed = async |query: &str| {
        let (status, list) = get(&simulator, &format!("events?{query}")).await;
        let events = list["data"].as_array().cloned().unwrap_or_default();
        let types = events.iter().map(|event| objects::text(event, "type").to_owned());
        (status.as_u16(), types.collect::<Vec<_>>())
    };
    let mut invoices = types(&simulator);
    invoices.retain(|kind| kind.starts_with("invoice."));
    invoices.reverse();
    assert!(invoices.len() > 2, "{invoices:?}");
    assert_eq!(listed("type=invoice.*").await, (200, invoices));
    assert_eq!(listed("types[]=invoice.*").await, (200, Vec::new()), "a group is of type alone");
    let types = |count| ["types[]=invoice.paid"].repeat(count).join("&");
    assert_eq!(listed(&types(20)).await.0, 200);
    assert_eq!(listed(&types(21)).await.0, 400);
    assert_eq!(listed("type=invoice.paid&types[]=invoice.paid").await.0, 400);
}
