//! Which tenant a checkout makes or finds, and what the customer gets.

use serde_json::{Value, json};
use simulators::stripe::CheckoutParams;
use tests::{World, payer, text};

#[tokio::test]
async fn a_paid_checkout_becomes_a_tenant_with_subscription_slots_login_and_mail() {
    let world = World::new().await;
    let metadata = [
        ("plan_id", "pro"),
        ("company_name", "Acme IoT Corp"),
        ("legal_name", "Acme IoT Corporation"),
        ("admin_email", "Jane@Acme-IoT.example"),
        ("admin_first_name", "Jane"),
        ("admin_last_name", "Doe"),
        ("industry", "Manufacturing"),
        ("company_size", "51-200"),
        ("phone", "+1-555-0100"),
    ];
    let session = world.checkout("price_pro_month", &metadata);
    world.stripe.pay(&session, payer("billing@acme-iot.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    world.receive(&[&event]).await;

    let stripe_session = world.stripe.object(&session).expect("the session");
    let stripe_subscription =
        world.stripe.object(&text(&stripe_session["subscription"])).expect("the subscription");
    let tenant = world.row("SELECT * FROM tenants WHERE name = 'Acme IoT Corp'").await;
    for (column, value) in [
        ("tenant_id", json!("acme-iot-corp")),
        ("status", json!("ACTIVE")),
        ("legal_name", json!("Acme IoT Corporation")),
        ("contact_name", json!("Jane Doe")),
        ("contact_email", json!("billing@acme-iot.example")),
        ("billing_email", json!("billing@acme-iot.example")),
        ("industry", json!("Manufacturing")),
        ("company_size", json!("51-200")),
        ("phone", json!("+1-555-0100")),
        ("address_line1", json!("1 Main St")),
        ("country", json!("US")),
        ("support_tier", json!("standard")),
        ("stripe_customer_id", stripe_session["customer"].clone()),
    ] {
        assert_eq!(tenant[column], value, "{column}");
    }
    let subscription = world
        .row(
            "SELECT *, extract(epoch FROM term_start)::bigint AS starts, extract(epoch
         FROM term_end)::bigint AS ends FROM subscriptions WHERE tenant_id = 'acme-iot-corp'",
        )
        .await;
    let item = &stripe_subscription["items"]["data"][0];
    for (column, value) in [
        ("subscription_type", json!("MAIN")),
        ("status", json!("ACTIVE")),
        ("plan_id", json!("pro")),
        ("device_limit", json!(260)),
        ("stripe_subscription_id", stripe_subscription["id"].clone()),
        ("stripe_price_id", json!("price_pro_month")),
        ("stripe_checkout_session_id", json!(session)),
        ("starts", item["current_period_start"].clone()),
        ("ends", item["current_period_end"].clone()),
        ("created_by", json!("stripe")),
        ("stripe_sync", json!(1)),
    ] {
        assert_eq!(subscription[column], value, "{column}");
    }
    let id = text(&subscription["subscription_id"]);
    assert!(id.starts_with("SUB-20") && id.len() == 13, "{id}");
    let slots = "SELECT tier_id, slot_limit FROM subscription_tier_allocations
                 WHERE tenant_id = 'acme-iot-corp' AND slots_used = 0 ORDER BY tier_id";
    let defaults = "SELECT tier_id, slot_limit FROM plan_tier_defaults
                    WHERE plan_id = 'pro' ORDER BY tier_id";
    assert_eq!(world.rows(slots).await, world.rows(defaults).await);
    assert_eq!(world.recorded(&event).await, ("applied".to_owned(), String::new()));
    assert_eq!(world.woken().await, 1, "the outbox is woken right after the commit");
    assert!(world.apply(&event).await);
    assert_eq!(world.woken().await, 1, "and not for nothing");

    assert_eq!(world.outbox().await, json!({"done": 2, "retried": 0, "failed": 0}));
    let users = world.keycloak.users();
    assert_eq!(users.len(), 1);
    let user = &users[0];
    assert_eq!(
        (user.username.as_str(), user.email.as_deref()),
        ("jane@acme-iot.example", Some("jane@acme-iot.example"))
    );
    assert_eq!(user.attributes["tenant_id"], ["acme-iot-corp"]);
    assert!(user.roles.contains("customer") && user.enabled && user.mails_sent == 1);

    let audit = world
        .rows(
            "SELECT event_type, actor_type, actor_id, stripe_event_id,
                            subscription_id FROM subscription_audit ORDER BY id",
        )
        .await;
    let by_stripe = |event_type: &str, of: Value| {
        json!({"event_type": event_type, "actor_type": "system", "actor_id": "stripe",
    "stripe_event_id": event["id"], "subscription_id": of})
    };
    let by_outbox = |event_type: &str| {
        json!({"event_type": event_type, "actor_type": "system",
    "actor_id": "outbox", "stripe_event_id": null, "subscription_id": null})
    };
    assert_eq!(
        audit,
        [
            by_stripe("TENANT_PROVISIONED", json!(null)),
            by_stripe("STRIPE_CHECKOUT_COMPLETED", json!(id)),
            by_stripe("TIER_ALLOCATIONS_SYNCED", json!(id)),
            by_outbox("USER_CREATED"),
            by_outbox("WELCOME_EMAIL_SENT"),
        ]
    );
    assert_eq!(world.count("flags").await, 0);
}

/// Trap 2: what was seen is not yet done.
#[tokio::test]
async fn an_event_whose_handler_failed_runs_again_and_a_done_one_does_nothing() {
    let world = World::new().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.stripe.fail_next(3, 500);
    assert!(!world.apply(&event).await, "its message stays");
    assert_eq!(world.recorded(&event).await.0, "waiting", "seen, noted, and not done");
    assert_eq!(world.count("tenants WHERE name = 'Acme'").await, 0);
    assert!(world.apply(&event).await);
    let reads = world.stripe.requests().len();
    assert!(world.apply(&event).await);
    assert_eq!(world.stripe.requests().len(), reads, "an applied event is not even read again");
    assert_eq!(
        (world.count("tenants WHERE name = 'Acme'").await, world.count("outbox_steps").await),
        (1, 3)
    );
}

/// Traps 2 and 54: a paid checkout that names an unknown tenant is failed, flagged, and applied
/// once the cause is mended.
#[tokio::test]
async fn a_checkout_that_cannot_be_applied_is_visible_and_applies_after_its_cause_is_mended() {
    let world = World::new().await;
    let session =
        world.checkout("price_pro_month", &[("plan_id", "pro"), ("tenant_id", "late-tenant")]);
    world.stripe.pay(&session, payer("jane@late.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    world.receive(&[&event]).await;
    let (status, reason) = world.recorded(&event).await;
    assert_eq!(status, "failed");
    assert!(reason.contains("late-tenant"), "{reason}");
    assert_eq!(
        world.row("SELECT kind, stripe_event_id FROM flags").await,
        json!({"kind": "unknown_tenant", "stripe_event_id": event["id"]})
    );
    assert!(world.apply(&event).await, "failing again is acknowledged");
    assert_eq!(world.count("flags").await, 1, "and flags nothing again");

    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ('late-tenant', 'Late')", &[])
        .await
        .expect("mended");
    assert!(world.apply(&event).await);
    assert_eq!(world.recorded(&event).await.0, "applied");
    let customer = &world.stripe.object(&session).expect("the session")["customer"];
    assert_eq!(
        &world.row("SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'late-tenant'").await
            ["stripe_customer_id"],
        customer
    );
    assert_eq!(
        world.count("outbox_steps").await,
        0,
        "an existing tenant gets no second first login"
    );
}

#[tokio::test]
async fn an_existing_tenant_gets_a_main_and_its_customer_linked_once() {
    let world = World::new().await;
    let bought = async |customer: Option<&str>| {
        let metadata = [
            ("tenant_id".to_owned(), "demo-cold-chain".to_owned()),
            ("plan_id".to_owned(), "pro".to_owned()),
        ]
        .into();
        let session = world
            .stripe
            .create_checkout(CheckoutParams {
                metadata,
                customer: customer.map(str::to_owned),
                ..CheckoutParams::subscription("price_pro_month")
            })
            .expect("a checkout");
        let paid = world.stripe.pay(&session, payer("ops@coldchain.example")).expect("paid");
        world.receive(&[&world.event("checkout.session.completed")]).await;
        text(&paid["customer"])
    };
    let first = bought(None).await;
    assert_eq!(
        world
            .row("SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'demo-cold-chain'")
            .await,
        json!({"stripe_customer_id": first})
    );
    let audit = "SELECT event_type, previous_state->>'stripe_customer_id' AS before,
                 new_state->>'stripe_customer_id' AS after FROM subscription_audit
                 WHERE tenant_id = 'demo-cold-chain' AND event_type LIKE 'TENANT%'";
    assert_eq!(
        world.row(audit).await,
        json!({"event_type": "TENANT_UPDATED", "before": null, "after": first})
    );
    bought(Some(&first)).await;
    assert_eq!(world.count("stripe_customer_aliases").await, 0);

    // A second customer made outside: kept, so that its events find the tenant.
    let second = bought(None).await;
    assert_eq!(
        world.row("SELECT * FROM stripe_customer_aliases").await["stripe_customer_id"],
        json!(second)
    );
    assert_eq!(world.count("flags WHERE kind = 'second_customer'").await, 1);
    assert_eq!(
        world
            .row("SELECT stripe_customer_id FROM tenants WHERE tenant_id = 'demo-cold-chain'")
            .await,
        json!({"stripe_customer_id": first})
    );
    assert_eq!(
        world
            .count("subscriptions WHERE tenant_id = 'demo-cold-chain' AND created_by = 'stripe'")
            .await,
        3
    );
    // The alias alone finds the tenant.
    let session = world
        .stripe
        .create_checkout(CheckoutParams {
            customer: Some(second),
            ..CheckoutParams::subscription("price_starter_month")
        })
        .expect("a checkout");
    world.stripe.pay(&session, payer("ops@coldchain.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    assert_eq!(
        world
            .count("subscriptions WHERE tenant_id = 'demo-cold-chain' AND created_by = 'stripe'")
            .await,
        4
    );
    assert_eq!(world.count("tenants").await, 2, "no new tenant in all this");
}

#[tokio::test]
async fn another_tenants_customer_and_a_deleted_tenant_are_failed_and_flagged() {
    let world = World::new().await;
    world
        .db
        .batch_execute(
            "UPDATE tenants SET stripe_customer_id = 'cus_cold'
                            WHERE tenant_id = 'demo-cold-chain'; UPDATE tenants
                            SET status = 'DELETED' WHERE tenant_id = 'demo-greenhouses'",
        )
        .await
        .expect("set up");
    let fail = async |tenant: &str, edit: &dyn Fn(&mut Value)| {
        let session = world.checkout("price_pro_month", &[("tenant_id", tenant)]);
        world.stripe.pay(&session, payer("x@x.example")).expect("paid");
        let event = world.event("checkout.session.completed");
        world.stripe.edit_session(&session, |session| edit(session));
        world.receive(&[&event]).await;
        (
            world.recorded(&event).await.0,
            text(
                &world
                    .row(&format!(
                        "SELECT kind FROM flags WHERE stripe_event_id = '{}'",
                        text(&event["id"])
                    ))
                    .await["kind"],
            ),
        )
    };
    let failed = |kind: &str| ("failed".to_owned(), kind.to_owned());
    assert_eq!(fail("demo-greenhouses", &|_| ()).await, failed("tenant_deleted"));
    world.db.execute("UPDATE tenants SET status = 'ACTIVE'", &[]).await.expect("restored");
    assert_eq!(
        fail("demo-greenhouses", &|session| session["customer"] = json!("cus_cold")).await,
        failed("customer_of_another_tenant")
    );
    assert_eq!(fail("Not a slug!", &|_| ()).await, failed("unknown_tenant"));
    assert_eq!(world.count("subscriptions WHERE created_by = 'stripe'").await, 0);
}

/// Trap 19: the same company in two tabs pays twice: both are served, and it is flagged.
#[tokio::test]
async fn two_payments_of_one_customer_make_two_subscriptions_and_a_flag() {
    let world = World::new().await;
    let (first, event) = world.paid_checkout("Acme", "jane@acme.example");
    let customer = text(&world.stripe.object(&first).expect("the session")["customer"]);
    let metadata =
        [("company_name".to_owned(), "Acme".to_owned()), ("plan_id".to_owned(), "pro".to_owned())]
            .into();
    let second = world
        .stripe
        .create_checkout(CheckoutParams {
            metadata,
            customer: Some(customer),
            ..CheckoutParams::subscription("price_pro_month")
        })
        .expect("a checkout");
    world.stripe.pay(&second, payer("jane@acme.example")).expect("paid");
    world.receive(&[&event, &world.event("checkout.session.completed")]).await;
    assert_eq!(world.count("tenants WHERE name = 'Acme'").await, 1);
    assert_eq!(world.count("subscriptions WHERE tenant_id = 'acme'").await, 2);
    assert_eq!(world.count("flags WHERE kind = 'bought_twice' AND tenant_id = 'acme'").await, 1);
    assert_eq!(world.count("outbox_steps").await, 3, "one organization, one login, one mail");
}

#[tokio::test]
async fn a_checkout_without_any_mail_address_provisions_and_is_flagged() {
    let world = World::new().await;
    let session = world.checkout(
        "price_pro_month",
        &[("company_name", "Nobody"), ("plan_id", "pro"), ("admin_email", "  ")],
    );
    world.stripe.pay(&session, payer("x@x.example")).expect("paid");
    world
        .stripe
        .edit_session(&session, |session| session["customer_details"]["email"] = json!(null));
    world.receive(&[&world.event("checkout.session.completed")]).await;
    assert_eq!(world.count("subscriptions WHERE tenant_id = 'nobody'").await, 1);
    assert_eq!(world.count("flags WHERE kind = 'no_admin_email'").await, 1);
    assert_eq!(world.count("outbox_steps WHERE kind <> 'keycloak_organization'").await, 0);
}
