use super::*;

const CREATED_AND_UPDATED: [&str; 2] = ["invoice.created", "customer.subscription.updated"];
const RENEWED: [&str; 4] = ["invoice.created", "customer.subscription.updated", "invoice.finalized", "invoice.paid"];

fn field(simulator: &Simulator, id: &str, pointer: &str) -> Value {
    simulator.object(id).and_then(|object| object.pointer(pointer).cloned()).unwrap_or_default()
}

fn status(simulator: &Simulator, id: &str) -> String {
    field(simulator, id, "/status").as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_subscription_renews_from_its_anchor_with_one_invoice_for_all_items() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    let form = [("items[0][price]", "price_slot"), ("items[0][quantity]", "2"), ("proration_behavior", "none")];
    post(&simulator, &format!("subscriptions/{id}"), "k", &form).await;
    assert!(emits(&simulator, || simulator.advance_to(at("2027-02-28T09:59:59Z"))).is_empty());
    for (now, end) in
        [("2027-02-28T10:00:00Z", "2027-03-31T10:00:00Z"), ("2027-03-31T10:00:00Z", "2027-04-30T10:00:00Z"), ("2027-04-30T10:00:00Z", "2027-05-31T10:00:00Z")]
    {
        assert_eq!(emits(&simulator, || simulator.advance_to(at(now))), RENEWED, "{now}");
        let subscription: stripe_shared::Subscription = typed(&simulator.object(&id).expect("a subscription"));
        for item in &subscription.items.data {
            assert_eq!((item.current_period_start, item.current_period_end), (second(now), second(end)));
        }
        let invoice = field(&simulator, &id, "/latest_invoice");
        let invoice: stripe_shared::Invoice = typed(&simulator.object(invoice.as_str().expect("an id")).expect("an invoice"));
        assert_eq!((invoice.amount_paid, invoice.lines.data.len(), invoice.period_end), (4_900 + 2 * 500, 2, second(now)));
        assert_eq!((invoice.lines.data[0].period.start, invoice.lines.data[0].period.end), (second(now), second(end)));
        assert_eq!(invoice.billing_reason.expect("a reason").as_str(), "subscription_cycle");
    }
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-08-01T00:00:00Z"))).len(), 3 * RENEWED.len(), "every step on the way");
    assert_eq!(get(&simulator, "charges").await.1["data"].as_array().expect("charges").len(), 7);
    simulator.advance_to(at("2027-01-01T00:00:00Z"));
    assert_eq!(field(&simulator, &id, "/status"), "active", "time does not go back");
}

#[tokio::test]
async fn a_renewal_may_wait_for_an_hour_as_a_draft() {
    let simulator = simulator().await;
    simulator.set_drafts_wait(true);
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-28T10:59:59Z"))), CREATED_AND_UPDATED);
    let invoice = field(&simulator, &id, "/latest_invoice");
    assert_eq!(status(&simulator, invoice.as_str().expect("an id")), "draft");
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-28T11:00:00Z"))), RENEWED[2..]);
}

#[tokio::test]
async fn a_failed_renewal_is_retried_until_the_card_works_or_the_last_consequence_comes() {
    let retry = ["invoice.payment_failed"].as_slice();
    let recovered = ["invoice.paid", "customer.subscription.updated"].as_slice();
    let last = |then| match then {
        GivenUp::Canceled => ("canceled", ["invoice.payment_failed", "customer.subscription.deleted"].as_slice()),
        GivenUp::Unpaid => ("unpaid", ["invoice.payment_failed", "customer.subscription.updated"].as_slice()),
        GivenUp::PastDue => ("past_due", retry),
    };
    for then in [GivenUp::Canceled, GivenUp::Unpaid, GivenUp::PastDue] {
        let simulator = simulator().await;
        simulator.set_dunning(Dunning { retry_days: vec![3, 5], then });
        let (customer, id) = subscribed(&simulator, "2027-01-01T00:00:00Z");
        simulator.set_card(&customer, Card::Declines);
        let emitted = emits(&simulator, || simulator.advance_to(at("2027-02-03T23:59:59Z")));
        assert_eq!(emitted, [&RENEWED[..3], &["invoice.payment_failed", "customer.subscription.updated"]].concat());
        assert_eq!(status(&simulator, &id), "past_due");
        let invoice = field(&simulator, &id, "/latest_invoice");
        let invoice = invoice.as_str().expect("an id");
        assert_eq!(field(&simulator, invoice, "/next_payment_attempt"), second("2027-02-04T00:00:00Z"));
        assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-04T00:00:00Z"))), retry);
        let (final_status, emitted) = last(then);
        assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-06T00:00:00Z"))), emitted);
        assert_eq!((status(&simulator, &id), status(&simulator, invoice)), (final_status.to_owned(), "open".to_owned()));
        typed::<stripe_shared::Subscription>(&simulator.object(&id).expect("a subscription"));
        assert!(emits(&simulator, || simulator.advance_to(at("2027-02-28T00:00:00Z"))).is_empty(), "no more retries");

        let next_period = emits(&simulator, || simulator.advance_to(at("2027-03-01T00:00:00Z")));
        assert!(simulator.pay_open_invoices(&id).is_err(), "the card does not work yet");
        simulator.set_card(&customer, Card::Works);
        match then {
            GivenUp::Canceled => assert!(next_period.is_empty()),
            GivenUp::Unpaid => {
                assert_eq!(next_period, CREATED_AND_UPDATED, "a draft");
                let expected = ["invoice.paid", "invoice.finalized", "invoice.paid", "customer.subscription.updated"];
                assert_eq!(emits(&simulator, || simulator.pay_open_invoices(&id).expect("paid")), expected);
                assert_eq!(status(&simulator, &id), "active");
            }
            GivenUp::PastDue => {
                assert_eq!(next_period, [&RENEWED[..3], retry].concat());
                assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-03-04T00:00:00Z"))), recovered, "the next retry");
                assert_eq!((status(&simulator, &id), status(&simulator, invoice)), ("active".to_owned(), "open".to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn a_trial_announces_its_end_and_becomes_a_paid_subscription() {
    let simulator = simulator().await;
    simulator.set_now(at("2027-01-17T10:00:00Z"));
    let params = CheckoutParams { trial_period_days: Some(14), ..CheckoutParams::subscription("price_pro") };
    let checkout = simulator.create_checkout(params).expect("a session");
    let session = simulator.pay(&checkout, payer()).expect("completed");
    let id = objects::text(&session, "subscription");
    let events = emits(&simulator, || simulator.advance_to(at("2027-01-31T09:59:59Z")));
    assert_eq!(events, ["customer.subscription.trial_will_end"]);
    assert_eq!(simulator.events().pop().expect("an event")["created"], second("2027-01-28T10:00:00Z"));
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-01-31T10:00:00Z"))), RENEWED);
    assert_eq!(
        (status(&simulator, id), field(&simulator, id, "/items/data/0/current_period_end")),
        ("active".to_owned(), json!(second("2027-02-28T10:00:00Z")))
    );
    let update = simulator.events().into_iter().rev().find(|event| event["type"] == "customer.subscription.updated").expect("an update");
    assert_eq!(update["data"]["previous_attributes"]["status"], "trialing");
}

#[tokio::test]
async fn a_cancelled_subscription_ends_with_its_period_unless_resumed() {
    let simulator = simulator().await;
    let (_, id) = subscribed(&simulator, "2027-01-31T10:00:00Z");
    simulator.cancel_at_period_end(&id, true).expect("cancelled");
    simulator.cancel_at_period_end(&id, false).expect("resumed");
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-02-28T10:00:00Z"))), RENEWED);
    let asked = simulator.cancel_at_period_end(&id, true).expect("cancelled")["canceled_at"].clone();
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-06-01T00:00:00Z"))), ["customer.subscription.deleted"]);
    let ended: stripe_shared::Subscription = typed(&simulator.object(&id).expect("a subscription"));
    assert_eq!((ended.status.as_str(), ended.ended_at, json!(ended.canceled_at)), ("canceled", Some(second("2027-03-31T10:00:00Z")), asked));

    let (_, id) = subscribed(&simulator, "2027-06-01T00:00:00Z");
    let cancel_at = second("2027-06-10T00:00:00Z").to_string();
    post(&simulator, &format!("subscriptions/{id}"), "k", &[("cancel_at", &cancel_at)]).await;
    assert_eq!(emits(&simulator, || simulator.advance_to(at("2027-08-01T00:00:00Z"))), ["customer.subscription.deleted"]);
    assert_eq!(field(&simulator, &id, "/ended_at").to_string(), cancel_at);
}
