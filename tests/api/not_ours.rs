//! Events that are nobody's here: Stripe's official nulls, and other accounts.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shared::domain::events::kind::endpoint_types;
use simulators::stripe::CheckoutParams;
use tests::{World, payer};

/// An event of this type about this object.
fn event(event_type: &str, object: &Value) -> Value {
    json!({
        "id": format!("evt_{}", event_type.replace('.', "_")), "object": "event",
        "api_version": "2026-09-30.endive", "created": shared::base::clock::Clock::system().now().as_second(),
        "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null}, "type": event_type,
    })
}

/// A session of another shop in mode `payment`, with all that may be null.
fn session(world: &World, status: &str, payment_status: &str) -> Value {
    let made = world
        .stripe
        .create_checkout(CheckoutParams::subscription("price_unmapped"))
        .expect("a checkout");
    world.stripe.pay(&made, payer("x@shop.example")).expect("paid");
    world.stripe.edit_session(&made, |session| {
        for field in [
            "amount_subtotal",
            "amount_total",
            "currency",
            "customer",
            "customer_details",
            "invoice",
            "metadata",
            "payment_intent",
            "subscription",
        ] {
            session[field] = Value::Null;
        }
        session["mode"] = json!("payment");
        session["status"] = json!(status);
        session["payment_status"] = json!(payment_status);
    });
    world.stripe.object(&made).expect("the session")
}

/// Trap 81: each type of the endpoint, with all that Stripe's reference lets be null.
#[tokio::test]
async fn every_type_of_the_endpoint_with_its_official_nulls_is_ignored_or_waits_and_never_fails() {
    let world = World::new().await;
    let (paid, unpaid) =
        (session(&world, "complete", "paid"), session(&world, "complete", "unpaid"));
    let late = session(&world, "complete", "paid");
    let expired = session(&world, "expired", "unpaid");
    let other = world.event("customer.subscription.created")["data"]["object"]["customer"].clone();
    // Of both payload generations.
    let invoice = json!({"id": "in_1", "object": "invoice", "customer": null, "subscription": null,
        "parent": null, "status": null, "charge": null, "payment_intent": null});
    // These two never lack their customer, which is another shop's.
    let subscription = json!({"id": "sub_other", "object": "subscription", "customer": other,
        "cancel_at": null, "canceled_at": null, "default_payment_method": null,
        "latest_invoice": null, "pause_collection": null, "schedule": null, "trial_end": null,
        "items": {"object": "list", "data": [], "has_more": false}});
    let customer = json!({"id": other, "object": "customer", "address": null, "email": null,
        "name": null, "phone": null, "shipping": null, "default_source": null});
    let charge = json!({"id": "ch_1", "object": "charge", "customer": null, "invoice": null,
        "payment_intent": null, "billing_details": {"email": null, "name": null}});
    let dispute =
        json!({"id": "dp_1", "object": "dispute", "charge": null, "payment_intent": null});
    let table = [
        ("checkout.session.completed", &paid, "ignored"),
        ("checkout.session.async_payment_succeeded", &late, "ignored"),
        ("checkout.session.async_payment_failed", &unpaid, "ignored"),
        ("checkout.session.expired", &expired, "ignored"),
        ("customer.subscription.created", &subscription, "waiting"),
        ("customer.subscription.updated", &subscription, "waiting"),
        ("customer.subscription.deleted", &subscription, "waiting"),
        ("customer.subscription.paused", &subscription, "waiting"),
        ("customer.subscription.resumed", &subscription, "waiting"),
        ("customer.updated", &customer, "waiting"),
        ("customer.deleted", &customer, "waiting"),
        ("invoice.paid", &invoice, "ignored"),
        ("invoice.payment_failed", &invoice, "ignored"),
        ("invoice.payment_action_required", &invoice, "ignored"),
        ("invoice.finalization_failed", &invoice, "ignored"),
        ("invoice.voided", &invoice, "ignored"),
        ("invoice.marked_uncollectible", &invoice, "ignored"),
        ("charge.refunded", &charge, "ignored"),
        ("charge.dispute.created", &dispute, "ignored"),
        ("charge.dispute.closed", &dispute, "ignored"),
    ];
    let covered: BTreeSet<&str> = table.iter().map(|(event_type, ..)| *event_type).collect();
    assert_eq!(covered, BTreeSet::from(endpoint_types()), "every type, and no other");
    for (event_type, object, status) in table {
        let event = event(event_type, object);
        world.receive(&[&event]).await;
        let (recorded, reason) = world.recorded(&event).await;
        assert_eq!(recorded, status, "{event_type}: {reason}");
        assert!(!reason.is_empty(), "{event_type}");
    }
    assert_eq!(world.count("flags").await, 0);
    assert_eq!(world.count("tenants WHERE stripe_customer_id IS NOT NULL").await, 0);
}

/// Trap 81: a Connect endpoint brings them, and our key reads nothing of theirs.
#[tokio::test]
async fn an_event_of_a_connected_account_is_ignored_before_anything_is_read() {
    let world = World::new().await;
    let (_, mut paid) = world.paid_checkout("Acme", "jane@acme.example");
    paid["account"] = json!("acct_1Connected");
    let reads = world.stripe.requests().len();
    world.receive(&[&paid]).await;
    assert_eq!(
        world.recorded(&paid).await,
        ("ignored".to_owned(), "of the connected account acct_1Connected".to_owned())
    );
    // Also one that is queued without its object.
    paid["id"] = json!("evt_large");
    paid["data"]["object"]["padding"] = json!("x".repeat(300 * 1024));
    world.receive(&[&paid]).await;
    assert_eq!(world.recorded(&paid).await.0, "ignored");
    assert_eq!(world.stripe.requests().len(), reads);
    assert_eq!(world.count("tenants WHERE name = 'Acme'").await, 0);
    // Our own events say nothing of an account, or null.
    let (_, mut own) = world.paid_checkout("Bolt", "joe@bolt.example");
    own["account"] = Value::Null;
    world.receive(&[&own]).await;
    assert_eq!(world.recorded(&own).await.0, "applied");
}
