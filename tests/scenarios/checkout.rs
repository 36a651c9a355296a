//! A checkout becomes a customer: the whole path from the signed delivery to the welcome mail, and
//! every way in which it is odd.

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
        (1, 2)
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
    assert_eq!(world.count("flags").await, 1, "and flags nothing anew");

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

    // A second customer made outside: kept, so that news of it find the tenant.
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
async fn stripe_that_still_reads_unpaid_after_its_payment_succeeded_is_asked_again() {
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
             WHERE t.name = '{company}'"
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

/// Trap 13: a field that is missing is an error that a person sees, never "no change".
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
            "Two pages",
            &|subscription: &mut Value| subscription["items"]["has_more"] = json!(true),
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
                            'Two pages', 'New status')"
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

/// Trap 19: the same company in two tabs pays twice: both are served, and a person is told.
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
    assert_eq!(world.count("outbox_steps").await, 2, "one login, one mail");
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
    assert_eq!(world.count("outbox_steps").await, 0);
}
