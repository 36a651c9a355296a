//! What was paid, and when.

use serde_json::{Value, json};
use simulators::stripe::Card;
use tests::{World, payer, text};

/// Trap 17: an unpaid session waits; its payment may come, or fail, days later.
#[tokio::test]
async fn an_unpaid_checkout_gives_nothing_until_its_payment_succeeds() {
    let world = World::new().await;
    let session = world.checkout(
        "price_pro_month",
        &[("plan_id", "pro"), ("company_name", "Slow Debit"), ("admin_email", "a@slow.example")],
    );
    world.stripe.pay_async(&session, payer("a@slow.example")).expect("completed");
    let completed = world.event("checkout.session.completed");
    world.receive(&[&completed]).await;
    assert_eq!(world.recorded(&completed).await.0, "waiting");
    assert_eq!(
        (world.count("tenants WHERE name = 'Slow Debit'").await, world.count("outbox_steps").await),
        (0, 0)
    );

    world.stripe.settle(&session).expect("paid");
    let succeeded = world.event("checkout.session.async_payment_succeeded");
    world.receive(&[&succeeded]).await;
    assert_eq!(world.count("tenants WHERE name = 'Slow Debit'").await, 1);
    assert_eq!(world.recorded(&succeeded).await.0, "applied");
    assert_eq!(world.recorded(&completed).await.0, "applied", "what waited has ended with it");
}

/// A bank debit that failed: a company's events until then.
fn failed_debit(world: &World, company: &str, seen: &mut usize) -> (String, String, Vec<Value>) {
    let session = world.checkout(
        "price_pro_month",
        &[("plan_id", "pro"), ("company_name", company), ("admin_email", "a@broke.example")],
    );
    let open = world.stripe.pay_async(&session, payer("a@broke.example")).expect("completed");
    world.stripe.fail_async(&session).expect("failed");
    (session, text(&open["subscription"]), tests::new_events(&world.stripe, seen))
}

/// Whose debit fails has nothing, and Stripe tries again: what it reported waits. When Stripe gives
/// up, nothing waits any more, and nobody is asked to look.
#[tokio::test]
async fn an_unpaid_checkout_whose_payment_fails_gives_nothing_and_ends_with_its_subscription() {
    let world = World::new().await;
    let mut seen = 0;
    for in_order in [true, false] {
        let (_, subscription, mut events) = failed_debit(&world, "No Money", &mut seen);
        if !in_order {
            events.reverse();
        }
        world.receive(&events.iter().collect::<Vec<_>>()).await;
        let open = "stripe_events WHERE status IN ('waiting', 'failed')";
        assert_eq!(world.count(open).await, i64::try_from(events.len()).expect("few"));
        world.clock.pass(73 * 3600);
        world.outbox().await;
        assert_eq!(world.count("flags").await, 0, "its checkout is known");
        let checkouts = format!("{open} AND event_type LIKE 'checkout.session.%'");
        assert_eq!(world.count(&checkouts).await, 2, "in order: {in_order}");
        world.stripe.cancel(&subscription).expect("given up");
        let news = tests::new_events(&world.stripe, &mut seen);
        world.receive(&news.iter().collect::<Vec<_>>()).await;
        assert_eq!(world.count(open).await, 0, "in order: {in_order}");
        world.outbox().await;
    }
    assert_eq!(world.count("tenants WHERE name = 'No Money'").await, 0);
    assert_eq!(world.count("flags").await, 0);
}

/// Its invoice stays open when a subscription ends. Whoever pays it then is a customer who has paid
/// for nothing, whichever event comes first.
#[tokio::test]
async fn a_checkout_that_is_paid_after_its_subscription_ended_unpaid_is_flagged_in_any_order() {
    let world = World::new().await;
    let mut seen = 0;
    for (company, together) in [("At Once", true), ("Bit By Bit", false)] {
        let (session, subscription, mut events) = failed_debit(&world, company, &mut seen);
        let customer = text(&world.stripe.object(&session).expect("it")["customer"]);
        let mut end = async |events: &mut Vec<Value>| {
            events.extend(tests::new_events(&world.stripe, &mut seen));
            if !together {
                world.receive(&events.iter().collect::<Vec<_>>()).await;
                events.clear();
            }
        };
        world.stripe.cancel(&subscription).expect("given up");
        end(&mut events).await;
        world.stripe.set_card(&customer, Card::Works);
        world.stripe.pay_open_invoices(&subscription).expect("paid");
        end(&mut events).await;
        events.reverse();
        world.receive(&events.iter().collect::<Vec<_>>()).await;
        let made = format!(
            "SELECT s.status, f.kind FROM tenants t JOIN subscriptions s USING (tenant_id)
             JOIN flags f USING (subscription_id) WHERE t.name = '{company}'"
        );
        let whole = json!({"status": "EXPIRED", "kind": "paid_without_access"});
        assert_eq!(world.rows(&made).await, [whole], "{company}");
        let open = "stripe_events WHERE status IN ('waiting', 'failed')";
        assert_eq!(world.count(open).await, 0, "{company}");
    }
}

/// The next attempt is none of the session's, which stays unpaid: its invoice says that it is paid.
#[tokio::test]
async fn a_debit_that_succeeds_at_the_next_attempt_makes_a_customer_in_any_order() {
    let world = World::new().await;
    let mut seen = 0;
    for (company, in_order, together) in
        [("First", true, false), ("Second", true, true), ("Third", false, true)]
    {
        let (session, subscription, mut events) = failed_debit(&world, company, &mut seen);
        if !together {
            world.receive(&events.iter().collect::<Vec<_>>()).await;
            events.clear();
        }
        let customer = text(&world.stripe.object(&session).expect("it")["customer"]);
        world.stripe.set_card(&customer, Card::Works);
        world.stripe.pay_open_invoices(&subscription).expect("paid");
        events.extend(tests::new_events(&world.stripe, &mut seen));
        if !in_order {
            events.reverse();
        }
        world.receive(&events.iter().collect::<Vec<_>>()).await;
        let made = format!(
            "SELECT s.status, s.plan_id, s.stripe_checkout_session_id AS session
             FROM subscriptions s JOIN tenants t USING (tenant_id) WHERE t.name = '{company}'"
        );
        let whole = json!({"status": "ACTIVE", "plan_id": "pro", "session": session});
        assert_eq!(world.rows(&made).await, [whole], "{company}");
        let open = "stripe_events WHERE status IN ('waiting', 'failed')";
        assert_eq!(world.count(open).await, 0, "{company}");
    }
    assert_eq!(world.count("outbox_steps WHERE kind = 'welcome_mail'").await, 3);
    assert_eq!(world.count("flags").await, 0);
}

#[tokio::test]
async fn stripe_that_still_reads_unpaid_after_its_payment_succeeded_is_read_again() {
    let world = World::new().await;
    let session =
        world.checkout("price_pro_month", &[("plan_id", "pro"), ("company_name", "Slow Debit")]);
    let open = world.stripe.pay_async(&session, payer("a@slow.example")).expect("completed");
    let invoice = text(&open["invoice"]);
    world.stripe.settle(&session).expect("paid");
    let succeeded = world.event("checkout.session.async_payment_succeeded");
    world.stripe.edit_session(&session, |session| session["payment_status"] = json!("unpaid"));
    world.stripe.edit_invoice(&invoice, |invoice| invoice["status"] = json!("open"));
    assert!(!world.apply(&succeeded).await, "its message stays");
    world.stripe.edit_session(&session, |session| session["payment_status"] = json!("paid"));
    world.stripe.edit_invoice(&invoice, |invoice| invoice["status"] = json!("paid"));
    assert!(world.apply(&succeeded).await);
    assert_eq!(world.count("tenants WHERE name = 'Slow Debit'").await, 1);
}

#[tokio::test]
async fn stripes_status_decides_the_first_status() {
    let world = World::new().await;
    for (stripe, ours) in [
        ("trialing", "TRIAL"),
        ("past_due", "GRACE"),
        ("unpaid", "SUSPENDED"),
        ("paused", "SUSPENDED"),
        ("canceled", "EXPIRED"),
    ] {
        let (session, event) = world.paid_checkout(stripe, "jane@acme.example");
        let subscription =
            text(&world.stripe.object(&session).expect("the session")["subscription"]);
        world.stripe.edit_subscription(&subscription, |subscription| {
            subscription["status"] = json!(stripe);
        });
        world.receive(&[&event]).await;
        let made = world
            .row(&format!(
                "SELECT s.status, s.grace_end = s.term_start + interval '14 days' AS grace
             FROM subscriptions s JOIN tenants t USING (tenant_id) WHERE t.name = '{stripe}'"
            ))
            .await;
        assert_eq!(
            made,
            json!({"status": ours, "grace": (ours == "GRACE").then_some(true)}),
            "{stripe}"
        );
    }
    let (session, event) = world.paid_checkout("incomplete", "jane@acme.example");
    let subscription = text(&world.stripe.object(&session).expect("the session")["subscription"]);
    world.stripe.edit_subscription(&subscription, |subscription| {
        subscription["status"] = json!("incomplete");
    });
    world.receive(&[&event]).await;
    assert_eq!(world.recorded(&event).await.0, "waiting");
    assert_eq!(world.count("tenants WHERE name = 'incomplete'").await, 0);
}
