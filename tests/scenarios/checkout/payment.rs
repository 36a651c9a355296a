//! What was paid, and when.

use serde_json::json;
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

#[tokio::test]
async fn an_unpaid_checkout_whose_payment_fails_gives_nothing_in_either_order() {
    let world = World::new().await;
    for in_order in [true, false] {
        let session =
            world.checkout("price_pro_month", &[("plan_id", "pro"), ("company_name", "No Money")]);
        world.stripe.pay_async(&session, payer("a@broke.example")).expect("completed");
        let completed = world.event("checkout.session.completed");
        world.stripe.fail_async(&session).expect("failed");
        let failed = world.event("checkout.session.async_payment_failed");
        if in_order {
            world.receive(&[&completed, &failed]).await;
        } else {
            world.receive(&[&failed, &completed]).await;
        }
        assert_eq!(world.recorded(&completed).await.0, "ignored", "in order: {in_order}");
        assert_eq!(world.recorded(&failed).await.0, "applied");
    }
    assert_eq!(world.count("tenants WHERE name = 'No Money'").await, 0);
}

#[tokio::test]
async fn stripe_that_still_reads_unpaid_after_its_payment_succeeded_is_read_again() {
    let world = World::new().await;
    let session =
        world.checkout("price_pro_month", &[("plan_id", "pro"), ("company_name", "Slow Debit")]);
    world.stripe.pay_async(&session, payer("a@slow.example")).expect("completed");
    world.stripe.settle(&session).expect("paid");
    let succeeded = world.event("checkout.session.async_payment_succeeded");
    world.stripe.edit_session(&session, |session| session["payment_status"] = json!("unpaid"));
    assert!(!world.apply(&succeeded).await, "its message stays");
    world.stripe.edit_session(&session, |session| session["payment_status"] = json!("paid"));
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
