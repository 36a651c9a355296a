//! What a checkout says, and what it leaves out.

use serde_json::{Value, json};
use simulators::stripe::CheckoutParams;
use tests::{World, payer, text};

/// Trap 14: `null` where an object is expected.
#[tokio::test]
async fn null_address_details_and_metadata_do_not_lose_the_customer() {
    let world = World::new().await;
    for (company, edit) in [
        (
            "No address",
            (|session: &mut Value| session["customer_details"]["address"] = json!(null))
                as fn(&mut Value),
        ),
        ("No details", |session: &mut Value| session["customer_details"] = json!(null)),
    ] {
        let (session, event) = world.paid_checkout(company, "jane@acme.example");
        world.stripe.edit_session(&session, edit);
        world.receive(&[&event]).await;
        assert_eq!(world.count(&format!("tenants WHERE name = '{company}'")).await, 1);
    }
    // Metadata null as well: known by the price alone.
    let (session, event) = world.paid_checkout("Dropped", "jane@acme.example");
    world.stripe.edit_session(&session, |session| session["metadata"] = json!(null));
    world.receive(&[&event]).await;
    assert_eq!(
        world.count("tenants WHERE name = 'Jane Doe' AND tenant_id LIKE 'tenant-%'").await,
        1
    );
}

/// `PostgreSQL` has no room for NUL, in text or in jsonb.
#[tokio::test]
async fn a_nul_character_does_not_lose_the_customer() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Nul\0 Corp", "jane@acme.example");
    world.receive(&[&event]).await;
    assert_eq!(
        world.row("SELECT tenant_id, name FROM tenants WHERE stripe_customer_id IS NOT NULL").await,
        json!({"tenant_id": "nul-corp", "name": "Nul Corp"})
    );
    assert_eq!(
        world.row("SELECT payload->'metadata'->>'company_name' AS name FROM stripe_events").await,
        json!({"name": "Nul Corp"})
    );
}

/// Trap 18: metadata only on the session, only on the subscription, or nowhere.
#[tokio::test]
async fn metadata_is_found_on_the_session_on_the_subscription_or_not_needed() {
    let world = World::new().await;
    let metadata = |company: &str| {
        [("company_name".to_owned(), company.to_owned()), ("plan_id".to_owned(), "pro".to_owned())]
            .into()
    };
    for (params, tenant) in [
        (
            CheckoutParams {
                metadata: metadata("On Session"),
                ..CheckoutParams::subscription("price_pro_month")
            },
            "on-session",
        ),
        (
            CheckoutParams {
                subscription_metadata: metadata("On Subscription"),
                ..CheckoutParams::subscription("price_pro_month")
            },
            "on-subscription",
        ),
        (
            CheckoutParams {
                metadata: metadata("Session Wins"),
                subscription_metadata: metadata("Loses"),
                ..CheckoutParams::subscription("price_pro_month")
            },
            "session-wins",
        ),
        (
            CheckoutParams {
                metadata: [("company_name".to_owned(), " ".to_owned())].into(),
                subscription_metadata: metadata("Not Hidden"),
                ..CheckoutParams::subscription("price_pro_month")
            },
            "not-hidden",
        ),
        (CheckoutParams::subscription("price_pro_month"), "tenant-%"),
    ] {
        let session = world.stripe.create_checkout(params).expect("a checkout");
        world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        world.receive(&[&world.event("checkout.session.completed")]).await;
        let made = format!(
            "SELECT plan_id, device_limit FROM subscriptions WHERE tenant_id LIKE '{tenant}'
             AND stripe_checkout_session_id = '{session}'"
        );
        assert_eq!(
            world.row(&made).await,
            json!({"plan_id": "pro", "device_limit": 260}),
            "{tenant}"
        );
    }
}

#[tokio::test]
async fn the_price_decides_the_plan_and_metadata_only_where_no_price_does() {
    let world = World::new().await;
    world
        .db
        .batch_execute(
            "UPDATE subscription_plans SET is_active = false
                        WHERE plan_id = 'enterprise'; UPDATE stripe_prices SET is_current = false
                        WHERE stripe_price_id = 'price_enterprise_month'",
        )
        .await
        .expect("a retired plan");
    for (company, price, named, plan, limit) in [
        ("Price wins", "price_starter_month", "enterprise", json!("starter"), 30),
        ("Retired resolves", "price_enterprise_month", "starter", json!("enterprise"), 5000),
        ("By name", "price_unmapped", "pro", json!("pro"), 260),
        ("Neither", "price_unmapped", "no-such-plan", json!(null), 0),
        ("Slots are no plan", "price_standard_slot_month", "No Plan!", json!(null), 0),
    ] {
        let session = world.checkout(price, &[("plan_id", named), ("company_name", company)]);
        world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        let event = world.event("checkout.session.completed");
        world.receive(&[&event]).await;
        let made = world
            .row(&format!(
                "SELECT s.* FROM subscriptions s JOIN tenants t USING (tenant_id)
             WHERE t.name = '{company}' AND subscription_type = 'MAIN'"
            ))
            .await;
        assert_eq!((&made["plan_id"], &made["device_limit"]), (&plan, &json!(limit)), "{company}");
        let unresolved = i64::from(plan.is_null());
        assert_eq!(
            world
                .count(&format!(
                    "flags WHERE kind = 'plan_unresolved' AND stripe_event_id = '{}'",
                    text(&event["id"])
                ))
                .await,
            unresolved,
            "{company}"
        );
        assert_eq!(
            world
                .count(&format!(
                    "subscription_audit WHERE event_type = 'PLAN_UNRESOLVED'
                                  AND subscription_id = '{}'",
                    text(&made["subscription_id"])
                ))
                .await,
            unresolved
        );
    }
}

/// Trap 13: a field that is missing is an error that an operator sees, never "no change".
#[tokio::test]
async fn what_cannot_be_understood_is_failed_flagged_and_others_go_on() {
    let world = World::new().await;
    let two_plans = |subscription: &mut Value| {
        let mut second = subscription["items"]["data"][0].clone();
        second["price"]["id"] = json!("price_starter_month");
        subscription["items"]["data"].as_array_mut().expect("items").push(second);
    };
    let no_period = |subscription: &mut Value| {
        let item = subscription["items"]["data"][0].as_object_mut().expect("an item");
        item.remove("current_period_start");
        item.remove("current_period_end");
    };
    for (company, edit, code) in [
        ("Two plans", &two_plans as &dyn Fn(&mut Value), "two_plans"),
        ("No period", &no_period, "stripe_shape"),
        (
            "No items",
            &|subscription: &mut Value| subscription["items"]["data"] = json!([]),
            "stripe_shape",
        ),
        (
            "New status",
            &|subscription: &mut Value| subscription["status"] = json!("brand_new"),
            "unknown_stripe_status",
        ),
    ] {
        let (session, event) = world.paid_checkout(company, "jane@acme.example");
        let subscription =
            text(&world.stripe.object(&session).expect("the session")["subscription"]);
        world.stripe.edit_subscription(&subscription, |subscription| edit(subscription));
        let (_, other) = world.paid_checkout(&format!("Other {company}"), "joe@other.example");
        world.receive(&[&event, &other]).await;
        assert_eq!(world.recorded(&event).await.0, "failed", "{company}");
        assert_eq!(
            world
                .row(&format!(
                    "SELECT kind FROM flags WHERE stripe_event_id = '{}'",
                    text(&event["id"])
                ))
                .await,
            json!({"kind": code})
        );
        assert_eq!(world.recorded(&other).await.0, "applied", "{company}");
    }
    assert_eq!(
        world
            .count(
                "tenants WHERE name IN ('Two plans', 'No period', 'No items',
                            'New status')"
            )
            .await,
        0,
        "nothing half done"
    );
}

/// The period stood on the subscription before API version 2025-03-31.
#[tokio::test]
async fn a_period_of_the_older_generation_is_the_term_too() {
    let world = World::new().await;
    let (session, event) = world.paid_checkout("Older", "jane@acme.example");
    let subscription = text(&world.stripe.object(&session).expect("the session")["subscription"]);
    world.stripe.edit_subscription(&subscription, |subscription| {
        for field in ["current_period_start", "current_period_end"] {
            let moved = subscription["items"]["data"][0]
                .as_object_mut()
                .expect("an item")
                .remove(field)
                .expect("a period");
            subscription[field] = moved;
        }
        subscription["current_period_start"] = json!(1_767_225_600);
        subscription["current_period_end"] = json!(1_769_904_000);
    });
    world.receive(&[&event]).await;
    let term = "SELECT extract(epoch FROM term_start)::bigint AS starts, extract(epoch
                FROM term_end)::bigint AS ends FROM subscriptions JOIN tenants USING (tenant_id)
                WHERE name = 'Older'";
    assert_eq!(world.row(term).await, json!({"starts": 1_767_225_600, "ends": 1_769_904_000}));
}

#[tokio::test]
async fn what_is_not_ours_is_ignored_and_what_has_no_checkout_yet_waits() {
    let world = World::new().await;
    let session = world.checkout("price_unmapped", &[("shop", "other")]);
    world.stripe.pay(&session, payer("x@shop.example")).expect("paid");
    let foreign = world.event("checkout.session.completed");
    let created = world.event("customer.subscription.created");
    let invoice = world.event("invoice.paid");
    // One that would provision, were it of this mode.
    let (_, mut live) = world.paid_checkout("Live Mode", "jane@live.example");
    live["livemode"] = json!(true);
    let mut brand_new = created.clone();
    brand_new["id"] = json!("evt_new");
    brand_new["type"] = json!("something.brand_new");
    world.receive(&[&foreign, &created, &invoice, &live, &brand_new]).await;
    for (event, status) in [
        (&foreign, "ignored"),
        (&created, "waiting"),
        (&invoice, "waiting"),
        (&live, "ignored"),
        (&brand_new, "ignored"),
    ] {
        assert_eq!(world.recorded(event).await.0, status, "{}", event["type"]);
    }
    assert_eq!(world.count("subscriptions WHERE created_by = 'stripe'").await, 0);
    assert_eq!(
        world
            .row(
                "SELECT payload->>'object' AS object FROM stripe_events
                   WHERE event_type = 'invoice.paid'"
            )
            .await,
        json!({"object": "invoice"}),
        "kept for later"
    );
}
