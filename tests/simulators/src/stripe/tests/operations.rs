use super::*;

const START: &str = "2027-01-31T10:00:00Z";

#[tokio::test]
async fn a_paused_subscription_does_not_renew_and_resumes_with_a_new_paid_period() {
    let simulator = simulator().await;
    let (customer, id) = subscribed(&simulator, START);
    assert!(simulator.resume(&id).is_err(), "not paused");
    assert_eq!(
        emits(&simulator, || drop(simulator.pause(&id).expect("paused"))),
        ["customer.subscription.paused"]
    );
    assert!(emits(&simulator, || simulator.advance_to(at("2027-04-10T00:00:00Z"))).is_empty());
    simulator.set_card(&customer, Card::Declines);
    assert_eq!(simulator.resume(&id).expect("tried")["status"], "paused", "until it is paid");
    simulator.set_card(&customer, Card::Works);
    let emitted = emits(&simulator, || simulator.pay_open_invoices(&id).expect("paid"));
    assert_eq!(emitted, ["invoice.paid", "customer.subscription.resumed"]);
    let resumed: stripe_shared::Subscription =
        typed(&simulator.object(&id).expect("a subscription"));
    assert_eq!(
        (resumed.status.as_str(), resumed.items.data[0].current_period_end),
        ("active", second("2027-05-10T00:00:00Z"))
    );
}

#[tokio::test]
async fn a_charge_can_be_refunded_and_disputed() {
    let simulator = simulator().await;
    let checkout =
        simulator.create_checkout(CheckoutParams::subscription("price_pro")).expect("a session");
    let session = simulator.pay(&checkout, payer()).expect("paid");
    let mut charge = Value::Null;
    assert_eq!(
        emits(&simulator, || charge = simulator.refund(&checkout, Some(900)).expect("refunded")),
        ["charge.refunded"]
    );
    assert_eq!(
        simulator.events().pop().expect("an event")["data"]["previous_attributes"],
        json!({"amount_refunded": 0})
    );
    assert_eq!(
        (&charge["refunded"], &charge["amount_refunded"], &charge["customer"]),
        (&json!(false), &json!(900), &session["customer"])
    );
    let id = objects::text(&charge, "id");
    let all: stripe_shared::Charge = typed(
        &simulator.refund(objects::text(&session, "invoice"), None).expect("the same charge"),
    );
    assert_eq!((all.id.as_str(), all.refunded, all.amount_refunded), (id, true, 4_900));
    assert!(simulator.refund(id, None).is_err(), "nothing is left");

    for (won, status) in [(true, "won"), (false, "lost")] {
        let mut dispute = Value::Null;
        assert_eq!(
            emits(&simulator, || dispute = simulator.dispute(id).expect("disputed")),
            ["charge.dispute.created"]
        );
        let read: stripe_shared::Dispute = typed(&dispute);
        assert_eq!((read.charge.id().as_str(), read.amount), (id, 4_900));
        assert!(dispute.get("customer").is_none());
        assert_eq!(get(&simulator, &format!("charges/{id}")).await.1["disputed"], true);
        let closed = simulator.close_dispute(read.id.as_str(), won).expect("closed");
        assert_eq!(
            (&closed["status"], &simulator.events().pop().expect("an event")["type"]),
            (&json!(status), &json!("charge.dispute.closed"))
        );
    }
}

#[tokio::test]
async fn a_customer_is_updated_and_deleted_with_its_subscriptions() {
    let simulator = simulator().await;
    let (customer, id) = subscribed(&simulator, START);
    let changes = json!({"email": "eve@example.com", "address": {"country": "DE"},
        "metadata": {"tenant_id": "t1"}});
    assert_eq!(
        emits(&simulator, || drop(
            simulator.update_customer(&customer, &changes).expect("changed")
        )),
        ["customer.updated"]
    );
    let event = simulator.events().pop().expect("an event");
    assert_eq!(event["data"]["previous_attributes"]["email"], "ada@example.com");
    let read: stripe_shared::Customer =
        typed(&get(&simulator, &format!("customers/{customer}")).await.1);
    assert_eq!(
        (read.email.as_deref(), read.address.expect("an address").country.as_deref()),
        (Some("eve@example.com"), Some("DE"))
    );
    assert!(simulator.update_customer(&customer, &json!({"tax": 1})).is_err());

    let emitted =
        emits(&simulator, || drop(simulator.delete_customer(&customer).expect("deleted")));
    assert_eq!(emitted, ["customer.subscription.deleted", "customer.deleted"]);
    assert_eq!(status(&simulator, &id), "canceled");
    assert_eq!(
        simulator.events().pop().expect("an event")["data"]["object"]["email"],
        "eve@example.com"
    );
    let (found, deleted) = get(&simulator, &format!("customers/{customer}")).await;
    assert_eq!(
        (found.as_u16(), &deleted),
        (200, &json!({"id": customer, "object": "customer", "deleted": true}))
    );
    typed::<stripe_shared::DeletedCustomer>(&deleted);
    assert_eq!(get(&simulator, "customers").await.1["data"], json!([]));
    let (refused, _) =
        post(&simulator, "billing_portal/sessions", "p", &[("customer", &customer)]).await;
    assert_eq!(refused, 400);
}

#[tokio::test]
async fn an_invoice_is_written_off_or_never_finalized() {
    let simulator = simulator().await;
    let (customer, id) = subscribed(&simulator, START);
    simulator.set_card(&customer, Card::Declines);
    for (now, write_off, event, invoice_status) in [
        (
            "2027-02-28T10:00:00Z",
            Simulator::void_invoice as fn(&Simulator, &str) -> anyhow::Result<Value>,
            "invoice.voided",
            "void",
        ),
        (
            "2027-03-31T10:00:00Z",
            Simulator::mark_uncollectible,
            "invoice.marked_uncollectible",
            "uncollectible",
        ),
    ] {
        simulator.advance_to(at(now));
        assert_eq!(status(&simulator, &id), "past_due");
        let invoice = latest(&simulator, &id);
        let emitted =
            emits(&simulator, || drop(write_off(&simulator, &invoice).expect("written off")));
        assert_eq!(emitted, [event, "customer.subscription.updated"]);
        assert_eq!(
            (status(&simulator, &invoice), status(&simulator, &id)),
            (invoice_status.to_owned(), "active".to_owned())
        );
        typed::<stripe_shared::Invoice>(&simulator.object(&invoice).expect("an invoice"));
        assert!(write_off(&simulator, &invoice).is_err(), "no longer open");
    }
    simulator.set_card(&customer, Card::Works);
    simulator.fail_finalization(&customer, true);
    let emitted = emits(&simulator, || simulator.advance_to(at("2027-04-30T10:00:00Z")));
    assert_eq!(
        emitted,
        ["invoice.created", "customer.subscription.updated", "invoice.finalization_failed"]
    );
    let invoice: stripe_shared::Invoice =
        typed(&simulator.object(&latest(&simulator, &id)).expect("an invoice"));
    assert!(invoice.last_finalization_error.is_some());
    simulator.fail_finalization(&customer, false);
    assert_eq!(
        emits(&simulator, || simulator.pay_open_invoices(&id).expect("paid")),
        ["invoice.finalized", "invoice.paid"]
    );
    assert!(field(&simulator, &latest(&simulator, &id), "/last_finalization_error").is_null());
}

#[tokio::test]
async fn customers_change_their_plan_cancellation_and_card_in_the_portal() {
    let simulator = simulator().await;
    simulator.save_portal_settings();
    let (customer, id) = subscribed(&simulator, START);
    let (_, other) = subscribed(&simulator, START);
    let (_, session) =
        post(&simulator, "billing_portal/sessions", "p", &[("customer", &*customer)]).await;
    let url = objects::text(&session, "url");
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let submit = async |form: &[(&str, &str)]| {
        client.post(url).form(form).send().await.expect("an answer").status().as_u16()
    };
    let page = async || client.get(url).send().await.expect("a page").text().await.expect("text");
    let shown = page().await;
    assert!(
        shown.contains(&id)
            && !shown.contains(&other)
            && shown.contains("Pro &lt;monthly&gt;")
            && shown.contains("Cancel at period end")
    );

    assert_eq!(
        submit(&[("subscription", &id), ("action", "plan"), ("price", "price_team")]).await,
        303
    );
    assert_eq!(field(&simulator, &id, "/items/data/0/price/id"), "price_team");
    assert_eq!(submit(&[("subscription", &id), ("action", "cancel")]).await, 303);
    let end = json!(second("2027-02-28T10:00:00Z"));
    assert_eq!(
        (field(&simulator, &id, "/cancel_at"), field(&simulator, &id, "/cancel_at_period_end")),
        (end, json!(false)),
        "as under flexible billing"
    );
    assert!(page().await.contains("Don't cancel"));
    assert_eq!(submit(&[("subscription", &id), ("action", "resume")]).await, 303);
    assert_eq!(field(&simulator, &id, "/cancel_at"), Value::Null);
    assert_eq!(
        submit(&[("subscription", &other), ("action", "cancel")]).await,
        400,
        "another customer's"
    );
    let form = [("items[0][price]", "price_slot"), ("proration_behavior", "none")];
    post(&simulator, &format!("subscriptions/{id}"), "k", &form).await;
    assert!(!page().await.contains("Change plan"), "not with several items");
    assert_eq!(
        submit(&[("subscription", &id), ("action", "plan"), ("price", "price_pro")]).await,
        400
    );
    assert_eq!(submit(&[("action", "card"), ("card", "declines")]).await, 303);
    simulator.advance_to(at("2027-02-28T10:00:00Z"));
    assert_eq!(status(&simulator, &id), "past_due");
    assert_eq!(status(&simulator, &other), "active");
}
