use super::*;

const START: &str = "2027-01-31T10:00:00Z";

async fn update(simulator: &Simulator, id: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let key = format!("{id} {form:?} {}", simulator.events().len());
    let (status, answer) = post(simulator, &format!("subscriptions/{id}"), &key, form).await;
    (status.as_u16(), answer)
}

#[tokio::test]
async fn every_change_of_a_subscription_emits_the_previous_attributes() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, START);
    let end = second("2027-02-28T10:00:00Z");
    let soon = (second(START) + 86_400).to_string();
    for (form, changed, after) in [
        (
            vec![("metadata[plan_id]", "pro")],
            json!({"metadata": {"plan_id": null}}),
            ("/metadata/plan_id", json!("pro")),
        ),
        (
            vec![("metadata[plan_id]", "")],
            json!({"metadata": {"plan_id": "pro"}}),
            ("/metadata", json!({})),
        ),
        (
            vec![("cancel_at_period_end", "true")],
            json!({"cancel_at_period_end": false, "cancel_at": null, "canceled_at": null,
            "cancellation_details": {"reason": null}}),
            ("/cancel_at", json!(end)),
        ),
        (
            vec![("cancel_at_period_end", "false")],
            json!({"cancel_at_period_end": true, "cancel_at": end, "canceled_at": second(START),
            "cancellation_details": {"reason": "cancellation_requested"}}),
            ("/canceled_at", Value::Null),
        ),
        (
            vec![("cancel_at", &*soon)],
            json!({"cancel_at": null, "canceled_at": null,
                "cancellation_details": {"reason": null}}),
            ("/cancel_at_period_end", json!(false)),
        ),
        (
            vec![("cancel_at", "")],
            json!({"cancel_at": second(START) + 86_400, "canceled_at": second(START),
            "cancellation_details": {"reason": "cancellation_requested"}}),
            ("/cancel_at", Value::Null),
        ),
        (
            vec![("pause_collection[behavior]", "void")],
            json!({"pause_collection": null}),
            ("/pause_collection/behavior", json!("void")),
        ),
        (
            vec![("pause_collection", "")],
            json!({"pause_collection": {"behavior": "void", "resumes_at": null}}),
            ("/pause_collection", Value::Null),
        ),
        (
            vec![("collection_method", "send_invoice"), ("days_until_due", "14")],
            json!({"collection_method": "charge_automatically", "days_until_due": null}),
            ("/days_until_due", json!(14)),
        ),
    ] {
        let (status, answer) = update(&simulator, &id, &form).await;
        assert_eq!((status, answer.pointer(after.0)), (200, Some(&after.1)), "{form:?}: {answer}");
        typed::<stripe_shared::Subscription>(&answer);
        let event = simulator.events().pop().expect("an event");
        assert_eq!(
            (&event["type"], &event["data"]["previous_attributes"]),
            (&json!("customer.subscription.updated"), &changed),
            "{form:?}"
        );
        assert_eq!(event["data"]["object"], answer);
    }
    let emitted = simulator.events().len();
    assert_eq!(
        update(&simulator, &id, &[("days_until_due", "14"), ("collection_method", "send_invoice")])
            .await
            .0,
        200
    );
    assert_eq!(simulator.events().len(), emitted, "nothing changed");
    simulator.cancel(&id).expect("canceled");
    let (status, answer) = update(&simulator, &id, &[("metadata[a]", "b")]).await;
    assert_eq!((status, &answer["metadata"]["a"]), (200, &json!("b")), "it has ended");
    let (status, answer) = update(&simulator, &id, &[("pause_collection", "")]).await;
    let message = "A canceled subscription can only update its cancellation_details and metadata.";
    assert_eq!((status, &answer["error"]["message"]), (400, &json!(message)));
}

#[tokio::test]
async fn items_join_the_running_period_and_are_changed_without_proration() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, START);
    simulator.advance_to(at("2027-02-10T00:00:00Z"));
    let none = ("proration_behavior", "none");
    let form = [("subscription", &*id), ("price", "price_slot"), ("quantity", "3"), none];
    let (_, slot) = post(&simulator, "subscription_items", "a", &form).await;
    let item: stripe_shared::SubscriptionItem = typed(&slot);
    assert_eq!(
        (item.quantity, item.current_period_start, item.current_period_end),
        (Some(3), second(START), second("2027-02-28T10:00:00Z"))
    );
    let event = simulator.events().pop().expect("an event");
    assert_eq!(event["type"], "customer.subscription.updated");
    let before =
        event["data"]["previous_attributes"]["items"]["data"].as_array().expect("the items before");
    assert_eq!((before.len(), &before[0]["price"]["id"]), (1, &json!("price_pro")));

    let path = format!("subscription_items/{}", objects::text(&slot, "id"));
    assert_eq!(post(&simulator, &path, "b", &[("quantity", "5"), none]).await.1["quantity"], 5);
    let (_, list) = get(&simulator, &format!("subscription_items?subscription={id}")).await;
    assert_eq!(
        (&list["data"][0]["price"]["id"], &list["data"][1]),
        (&json!("price_pro"), &get(&simulator, &path).await.1)
    );
    let emitted = simulator.events().len();
    for (form, message) in [
        (vec![("items[0][price]", "price_team")], "create_prorations is not simulated"),
        (
            vec![("items[0][price]", "price_team"), ("proration_behavior", "always_invoice")],
            "always_invoice is not simulated",
        ),
        (
            vec![("items[0][price]", "price_pro"), none],
            "multiple subscription items with the same plan",
        ),
        (vec![("items[0][price]", "price_pro_year"), none], "Found mismatch in interval field"),
        (vec![("items[0][id]", "si_none"), none], "No such subscription_item"),
        (
            vec![
                ("items[0][id]", objects::text(&list["data"][0], "id")),
                ("items[0][deleted]", "true"),
                ("items[1][id]", objects::text(&slot, "id")),
                ("items[1][deleted]", "true"),
                none,
            ],
            "at least one active plan",
        ),
        (
            vec![("items[0][id]", objects::text(&slot, "id")), ("items[0][quantity]", "-1"), none],
            "Invalid integer",
        ),
        (vec![("items[0][clear_usage]", "true"), none], "unknown parameter"),
        (vec![("default_tax_rates", "")], "unknown parameter"),
    ] {
        let (status, answer) = update(&simulator, &id, &form).await;
        assert!(
            status == 400 && objects::text(&answer["error"], "message").contains(message),
            "{form:?}: {answer}"
        );
    }
    let url = format!("{}v1/{path}", simulator.base_url());
    let answer = reqwest::Client::new()
        .delete(url)
        .bearer_auth(KEY)
        .form(&[none])
        .send()
        .await
        .expect("an answer");
    typed::<stripe_shared::DeletedSubscriptionItem>(&answer.json().await.expect("JSON"));
    assert_eq!(get(&simulator, &path).await.0, 404);
    assert_eq!(types(&simulator).split_off(emitted), ["customer.subscription.updated"]);
}

#[tokio::test]
async fn the_plans_price_changes_in_place_and_another_interval_starts_a_new_period() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, START);
    let item = simulator.object(&id).expect("a subscription")["items"]["data"][0]["id"].clone();
    simulator.advance_to(at("2027-02-10T00:00:00Z"));
    let changed = simulator.change_plan(&id, "price_team").expect("changed");
    let first = &changed["items"]["data"][0];
    assert_eq!(
        (&first["id"], &first["price"]["id"], &first["plan"]["amount"]),
        (&item, &json!("price_team"), &json!(9_900))
    );
    assert_eq!(first["current_period_end"], second("2027-02-28T10:00:00Z"));
    let mut changed = Value::Null;
    let emitted = emits(&simulator, || {
        changed = simulator.change_plan(&id, "price_pro_year").expect("changed");
    });
    assert_eq!(
        emitted,
        ["invoice.created", "customer.subscription.updated", "invoice.finalized", "invoice.paid"]
    );
    assert_eq!(changed["items"]["data"][0]["current_period_end"], second("2028-02-10T00:00:00Z"));
    assert!(simulator.change_plan(&id, "price_none").is_err());
}

#[tokio::test]
async fn lists_filter_page_and_expand() {
    let simulator = simulator().await;
    let (customer, first) = subscribed(&simulator, START);
    let (_, second_one) = subscribed(&simulator, "2027-02-01T00:00:00Z");
    simulator.cancel(&first).expect("canceled");
    let ids = async |query: &str| {
        let (status, list) = get(&simulator, query).await;
        assert_eq!(status, 200, "{query}: {list}");
        let ids = list["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|object| objects::text(object, "id").to_owned());
        (ids.collect::<Vec<_>>(), list["has_more"] == true)
    };
    let both = vec![second_one.clone(), first.clone()];
    assert_eq!(ids("subscriptions").await.0, [&*second_one]);
    assert_eq!(ids("subscriptions?status=all").await, (both, false));
    assert_eq!(ids("subscriptions?status=all&limit=1").await, (vec![second_one.clone()], true));
    assert_eq!(
        ids(&format!("subscriptions?status=all&limit=1&starting_after={second_one}")).await,
        (vec![first.clone()], false)
    );
    let day = second("2027-02-01T00:00:00Z");
    assert_eq!(ids(&format!("subscriptions?status=all&created[lt]={day}")).await.0, [&*first]);
    assert_eq!(
        ids(&format!("subscriptions?status=all&created[gte]={day}&created[lte]={day}")).await.0,
        [&*second_one]
    );
    assert_eq!(ids(&format!("subscriptions?status=all&customer={customer}")).await.0, [&*first]);
    assert_eq!(ids(&format!("invoices?subscription={first}&status=paid")).await.0.len(), 1);
    assert!(ids(&format!("invoices?subscription={first}&status=open")).await.0.is_empty());
    let (_, list) = get(&simulator, "subscriptions?expand[]=data.latest_invoice").await;
    assert_eq!(list["data"][0]["latest_invoice"]["status"], "paid");
    let (_, one) = get(&simulator, &format!("subscriptions/{first}?expand[]=latest_invoice")).await;
    typed::<stripe_shared::Subscription>(&one);
    assert_eq!(one["latest_invoice"]["parent"]["subscription_details"]["subscription"], first);

    for event in simulator.events() {
        typed::<stripe_shared::Event>(&event);
    }
    let (all, _) = ids("events?limit=100").await;
    assert_eq!(
        ids("events?types[]=invoice.paid&types[]=customer.subscription.deleted").await.0.len(),
        3
    );
    assert_eq!(ids("events?type=customer.subscription.deleted").await.0, all[..1]);
    assert_eq!(ids(&format!("events?created[lt]={day}")).await.0, all[4..]);
    assert_eq!(
        ids(&format!("events?limit=2&starting_after={}", all[0])).await,
        (all[1..3].to_vec(), true)
    );
    for query in
        ["events?limit=101", "events?starting_after=evt_none", "events?delivery_success=false"]
    {
        assert_eq!(get(&simulator, query).await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn currencies_are_not_mixed_in_a_cart_a_subscription_or_a_customer() {
    let simulator = simulator().await;
    let (customer, id) = subscribed(&simulator, START);
    let mixed = CheckoutParams {
        also: vec![("price_slot".to_owned(), 1)],
        ..CheckoutParams::subscription("price_pro_eur")
    };
    let cart = simulator.create_checkout(mixed).expect_err("refused").to_string();
    assert!(cart.contains("only supports `usd`") && cart.contains("`eur`"), "{cart}");
    let other = CheckoutParams {
        customer: Some(customer.clone()),
        ..CheckoutParams::subscription("price_pro_eur")
    };
    let second = simulator.create_checkout(other.clone()).expect_err("refused").to_string();
    assert!(second.contains("You cannot combine currencies on a single customer"), "{second}");
    let (status, answer) = update(
        &simulator,
        &id,
        &[("items[0][price]", "price_pro_eur"), ("proration_behavior", "none")],
    )
    .await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error"]["message"].to_string().contains("mismatch in currency field"));
    simulator.cancel(&id).expect("cancelled");
    simulator.create_checkout(other).expect("none is left in another currency");
}
