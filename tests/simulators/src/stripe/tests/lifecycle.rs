use super::*;

const CREATED_AND_UPDATED: [&str; 2] = ["invoice.created", "customer.subscription.updated"];
const RENEWED: [&str; 4] =
    ["invoice.created", "customer.subscription.updated", "invoice.finalized", "invoice.paid"];

#[tokio::test]
async fn a_subscription_renews_from_its_anchor_with_one_invoice_for_all_items() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let form = [
        ("items[0][price]", "price_slot"),
        ("items[0][quantity]", "2"),
        ("proration_behavior", "none"),
    ];
    post(&simulator, &format!("subscriptions/{id}"), "k", &form).await;
    assert!(emits(&simulator, || simulator.advance_to(at("2027-02-28T09:59:59Z"))).is_empty());
    for (now, end) in [
        ("2027-02-28T10:00:00Z", "2027-03-31T10:00:00Z"),
        ("2027-03-31T10:00:00Z", "2027-04-30T10:00:00Z"),
        ("2027-04-30T10:00:00Z", "2027-05-31T10:00:00Z"),
    ] {
        assert_eq!(emits(&simulator, || simulator.advance_to(at(now))), RENEWED, "{now}");
        let subscription: stripe_shared::Subscription =
            typed(&simulator.object(&id).expect("a subscription"));
        for item in &subscription.items.data {
            assert_eq!(
                (item.current_period_start, item.current_period_end),
                (second(now), second(end))
            );
        }
        let invoice: stripe_shared::Invoice =
            typed(&simulator.object(&latest(&simulator, &id)).expect("an invoice"));
        assert_eq!(
            (invoice.amount_paid, invoice.lines.data.len(), invoice.period_end),
            (4_900 + 2 * 500, 2, second(now))
        );
        assert_eq!(
            (invoice.lines.data[0].period.start, invoice.lines.data[0].period.end),
            (second(now), second(end))
        );
        assert_eq!(invoice.billing_reason.expect("a reason").as_str(), "subscription_cycle");
    }
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-08-01T00:00:00Z"))).len(),
        3 * RENEWED.len(),
        "every step on the way"
    );
    assert_eq!(get(&simulator, "charges").await.1["data"].as_array().expect("charges").len(), 7);
    simulator.advance_to(at("2027-01-01T00:00:00Z"));
    assert_eq!(field(&simulator, &id, "/status"), "active", "time does not go back");
}

#[tokio::test]
async fn a_renewal_may_wait_for_an_hour_as_a_draft() {
    let simulator = simulator().await;
    simulator.set_drafts_wait(true);
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-02-28T10:59:59Z"))),
        CREATED_AND_UPDATED
    );
    assert_eq!(status(&simulator, &latest(&simulator, &id)), "draft");
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-02-28T11:00:00Z"))),
        RENEWED[2..]
    );
}

#[tokio::test]
async fn a_failed_renewal_is_retried_until_the_card_works_or_the_retries_run_out() {
    let retry = ["invoice.payment_failed"].as_slice();
    let recovered = ["invoice.paid", "customer.subscription.updated"].as_slice();
    let last = |then| match then {
        GivenUp::Canceled => {
            ("canceled", ["invoice.payment_failed", "customer.subscription.deleted"].as_slice())
        }
        GivenUp::Unpaid => {
            ("unpaid", ["invoice.payment_failed", "customer.subscription.updated"].as_slice())
        }
        GivenUp::PastDue => ("past_due", retry),
    };
    for then in [GivenUp::Canceled, GivenUp::Unpaid, GivenUp::PastDue] {
        let simulator = simulator().await;
        simulator.set_dunning(Dunning { retry_days: vec![3, 5], then });
        let (customer, id) = subscribed(&simulator, "2027-01-01T00:00:00Z");
        simulator.set_card(&customer, Card::Declines);
        let emitted = emits(&simulator, || simulator.advance_to(at("2027-02-03T23:59:59Z")));
        assert_eq!(
            emitted,
            [&RENEWED[..3], &["invoice.payment_failed", "customer.subscription.updated"]].concat()
        );
        assert_eq!(status(&simulator, &id), "past_due");
        let invoice = &*latest(&simulator, &id);
        assert_eq!(
            field(&simulator, invoice, "/next_payment_attempt"),
            second("2027-02-04T00:00:00Z")
        );
        assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-04T00:00:00Z"))), retry);
        let (final_status, emitted) = last(then);
        assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-06T00:00:00Z"))), emitted);
        assert_eq!(
            (status(&simulator, &id), status(&simulator, invoice)),
            (final_status.to_owned(), "open".to_owned())
        );
        typed::<stripe_shared::Subscription>(&simulator.object(&id).expect("a subscription"));
        assert!(
            emits(&simulator, || simulator.advance_to(at("2027-02-28T00:00:00Z"))).is_empty(),
            "no more retries"
        );

        let next_period = emits(&simulator, || simulator.advance_to(at("2027-03-01T00:00:00Z")));
        assert!(simulator.pay_open_invoices(&id).is_err(), "the card does not work yet");
        simulator.set_card(&customer, Card::Works);
        match then {
            GivenUp::Canceled => assert!(next_period.is_empty()),
            GivenUp::Unpaid => {
                assert_eq!(next_period, CREATED_AND_UPDATED, "a draft");
                let expected = [
                    "invoice.paid",
                    "invoice.finalized",
                    "invoice.paid",
                    "customer.subscription.updated",
                ];
                assert_eq!(
                    emits(&simulator, || simulator.pay_open_invoices(&id).expect("paid")),
                    expected
                );
                assert_eq!(status(&simulator, &id), "active");
            }
            GivenUp::PastDue => {
                assert_eq!(next_period, [&RENEWED[..3], retry].concat());
                assert_eq!(
                    emits(&simulator, || simulator.advance_to(at("2027-03-04T00:00:00Z"))),
                    recovered,
                    "the next retry"
                );
                assert_eq!(
                    (status(&simulator, &id), status(&simulator, invoice)),
                    ("active".to_owned(), "open".to_owned())
                );
            }
        }
    }
}

#[tokio::test]
async fn a_trial_announces_its_end_and_becomes_a_paid_subscription() {
    let simulator = simulator().await;
    simulator.set_now(at("2027-01-17T10:00:00Z"));
    let params =
        CheckoutParams { trial_period_days: Some(14), ..CheckoutParams::subscription("price_pro") };
    let checkout = simulator.create_checkout(params).expect("a session");
    let session = simulator.pay(&checkout, payer()).expect("completed");
    let id = objects::text(&session, "subscription");
    let change =
        |price| emits(&simulator, || drop(simulator.change_plan(id, price).expect("changed")));
    assert_eq!(
        [change("price_pro_year"), change("price_pro")],
        [["customer.subscription.updated"]; 2],
        "nothing to pay within the trial"
    );
    let events = emits(&simulator, || simulator.advance_to(at("2027-01-31T09:59:59Z")));
    assert_eq!(events, ["customer.subscription.trial_will_end"]);
    assert_eq!(
        simulator.events().pop().expect("an event")["created"],
        second("2027-01-28T10:00:00Z")
    );
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-01-31T10:00:00Z"))), RENEWED);
    assert_eq!(
        (status(&simulator, id), field(&simulator, id, "/items/data/0/current_period_end")),
        ("active".to_owned(), json!(second("2027-02-28T10:00:00Z")))
    );
    let update = simulator
        .events()
        .into_iter()
        .rev()
        .find(|event| event["type"] == "customer.subscription.updated")
        .expect("an update");
    assert_eq!(update["data"]["previous_attributes"]["status"], "trialing");
}

#[tokio::test]
async fn a_cancelled_subscription_ends_with_its_period_unless_resumed() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    simulator.cancel_at_period_end(&id, true).expect("cancelled");
    simulator.cancel_at_period_end(&id, false).expect("resumed");
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-28T10:00:00Z"))), RENEWED);
    let canceled_at =
        simulator.cancel_at_period_end(&id, true).expect("cancelled")["canceled_at"].clone();
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-06-01T00:00:00Z"))),
        ["customer.subscription.deleted"]
    );
    let ended: stripe_shared::Subscription = typed(&simulator.object(&id).expect("a subscription"));
    assert_eq!(
        (ended.status.as_str(), ended.ended_at, json!(ended.canceled_at)),
        ("canceled", Some(second("2027-03-31T10:00:00Z")), canceled_at)
    );

    let (_, id) = subscribed(&simulator, "2027-06-01T00:00:00Z");
    simulator
        .edit_subscription(&id, |subscription| subscription["cancel_at_period_end"] = json!(true));
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-07-01T00:00:00Z"))),
        ["customer.subscription.deleted"],
        "edited in place"
    );

    let (_, id) = subscribed(&simulator, "2027-07-02T00:00:00Z");
    simulator.cancel_at_period_end(&id, true).expect("cancelled");
    let yearly = simulator.change_plan(&id, "price_pro_year").expect("changed");
    assert_eq!(
        yearly["cancel_at"], yearly["items"]["data"][0]["current_period_end"],
        "it ends with the new period"
    );

    let (customer, id) = subscribed(&simulator, "2027-08-01T00:00:00Z");
    let cancel_at = second("2027-08-10T00:00:00Z").to_string();
    post(&simulator, &format!("subscriptions/{id}"), "k", &[("cancel_at", &cancel_at)]).await;
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-09-01T00:00:00Z"))),
        ["customer.subscription.deleted"]
    );
    assert_eq!(field(&simulator, &id, "/ended_at").to_string(), cancel_at);

    let id = simulator.subscribe(&customer, "price_pro").expect("subscribed")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    simulator.set_card(&customer, Card::Declines);
    simulator.advance_to(at("2027-10-01T00:00:00Z"));
    assert!(field(&simulator, &latest(&simulator, &id), "/next_payment_attempt").is_i64());
    simulator.cancel(&id).expect("canceled");
    assert!(
        emits(&simulator, || simulator.advance_to(at("2028-01-01T00:00:00Z"))).is_empty(),
        "unpaid invoices are no longer collected"
    );
}

#[tokio::test]
async fn a_card_that_needs_action_leaves_a_first_payment_incomplete_and_a_renewal_past_due() {
    let simulator = simulator().await;
    let (customer, renewing) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    simulator.set_card(&customer, Card::NeedsAction);
    let refused = ["invoice.payment_failed", "invoice.payment_action_required"];
    let emitted = emits(&simulator, || simulator.advance_to(at("2027-02-28T10:00:00Z")));
    assert_eq!(emitted, [&RENEWED[..3], &refused, &["customer.subscription.updated"]].concat());
    assert_eq!(status(&simulator, &renewing), "past_due");

    let subscribe = || simulator.subscribe(&customer, "price_team").expect("subscribed");
    let mut first = Value::Null;
    let emitted = emits(&simulator, || first = subscribe());
    assert_eq!(
        emitted,
        [&["customer.subscription.created", "invoice.finalized"][..], &refused].concat()
    );
    assert_eq!(first["status"], "incomplete");
    let id = objects::text(&first, "id");
    assert_eq!(
        emits(&simulator, || simulator.pay_open_invoices(id).expect("confirmed")),
        ["invoice.paid", "customer.subscription.updated"]
    );
    assert_eq!(status(&simulator, id), "active");

    let abandoned = subscribe();
    let id = objects::text(&abandoned, "id");
    assert!(emits(&simulator, || simulator.advance_to(at("2027-03-01T08:59:59Z"))).is_empty());
    let emitted = emits(&simulator, || simulator.advance_to(at("2027-03-01T09:00:00Z")));
    assert_eq!(emitted, ["customer.subscription.updated", "invoice.voided"]);
    assert_eq!(status(&simulator, id), "incomplete_expired");
    typed::<stripe_shared::Subscription>(&simulator.object(id).expect("a subscription"));
}

#[tokio::test]
async fn a_subscription_with_paused_collection_renews_without_payment() {
    for (behavior, invoice_status, events) in [
        ("keep_as_draft", "draft", [].as_slice()),
        ("void", "void", &["invoice.finalized", "invoice.voided"]),
        (
            "mark_uncollectible",
            "uncollectible",
            &["invoice.finalized", "invoice.marked_uncollectible"],
        ),
    ] {
        let simulator = simulator().await;
        let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
        simulator.pause_collection(&id, Some(behavior)).expect("paused");
        let emitted = emits(&simulator, || simulator.advance_to(at("2027-02-28T10:00:00Z")));
        assert_eq!(emitted, [&CREATED_AND_UPDATED, events].concat());
        assert_eq!(
            (status(&simulator, &id), status(&simulator, &latest(&simulator, &id))),
            ("active".to_owned(), invoice_status.to_owned())
        );
        simulator.pause_collection(&id, None).expect("resumed");
        assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-03-31T10:00:00Z"))), RENEWED);
    }
}

#[tokio::test]
async fn an_invoice_that_was_sent_waits_until_it_is_overdue() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    post(
        &simulator,
        &format!("subscriptions/{id}"),
        "k",
        &[("collection_method", "send_invoice"), ("days_until_due", "14")],
    )
    .await;
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-03-14T09:59:59Z"))),
        RENEWED[..3]
    );
    let invoice: stripe_shared::Invoice =
        typed(&simulator.object(&latest(&simulator, &id)).expect("an invoice"));
    assert_eq!(
        (invoice.collection_method.as_str(), invoice.due_date),
        ("send_invoice", Some(second("2027-03-14T10:00:00Z")))
    );
    assert_eq!(
        emits(&simulator, || simulator.advance_to(at("2027-03-15T00:00:00Z"))),
        ["customer.subscription.updated"]
    );
    assert_eq!(status(&simulator, &id), "past_due");
    simulator.pay_open_invoices(&id).expect("paid");
    assert_eq!(status(&simulator, &id), "active");
}

#[tokio::test]
async fn a_trial_is_started_and_ended_through_the_api() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let trial_end = second("2027-03-10T00:00:00Z");
    let path = format!("subscriptions/{id}");
    let (_, trial) = post(&simulator, &path, "a", &[("trial_end", &trial_end.to_string())]).await;
    assert_eq!(
        (&trial["status"], &trial["items"]["data"][0]["current_period_end"]),
        (&json!("trialing"), &json!(trial_end))
    );
    simulator.advance_to(at("2027-03-01T00:00:00Z"));
    assert_eq!(status(&simulator, &id), "trialing", "no renewal within the trial");
    let (_, ended) = post(&simulator, &path, "b", &[("trial_end", "now")]).await;
    assert_eq!(
        (&ended["status"], &ended["trial_end"]),
        (&json!("active"), &json!(second("2027-03-01T00:00:00Z")))
    );
    assert_eq!(ended["items"]["data"][0]["current_period_end"], second("2027-04-01T00:00:00Z"));
    assert_eq!(field(&simulator, &latest(&simulator, &id), "/amount_paid"), 4_900);
}
