//! What Stripe says of a customer, and of subscriptions of one customer after each other.

use serde_json::json;
use simulators::stripe::CheckoutParams;
use tests::api::Who;
use tests::company::Company;
use tests::{World, payer, text};

#[tokio::test]
async fn a_customers_event_fills_only_what_is_empty_and_its_deletion_is_flagged() {
    let mut company = Company::new().await;
    company
        .world
        .stripe
        .update_customer(
            &company.customer,
            &json!({"email": "new@acme.example", "phone": "+1 555",
                "address": {"line2": "2nd floor", "city": "Elsewhere"}}),
        )
        .expect("updated");
    company.deliver().await;
    let profile = "SELECT billing_email, phone, address_line2, city, version FROM tenants
                   WHERE tenant_id = 'acme'";
    let filled = json!({"billing_email": "jane@acme.example", "phone": "+1 555",
        "address_line2": "2nd floor", "city": "Springfield", "version": 2});
    assert_eq!(company.world.row(profile).await, filled);
    company
        .world
        .stripe
        .update_customer(&company.customer, &json!({"phone": "+1 556"}))
        .expect("updated");
    company.deliver().await;
    assert_eq!(company.world.row(profile).await, filled);
    company.world.stripe.delete_customer(&company.customer).expect("deleted");
    company.deliver().await;
    assert_eq!(
        (company.status().await, company.flags().await),
        ("EXPIRED".to_owned(), vec!["customer_deleted".to_owned()])
    );
}

#[tokio::test]
async fn a_main_that_is_bought_again_adopts_the_devices_of_the_dead_one_with_their_slots() {
    let mut company = Company::new().await;
    let old = company.id.clone();
    for (number, tier) in [(1, Some(2)), (2, Some(2)), (3, Some(3)), (4, None)] {
        company.device(&format!("DEV-{number}"), &old, tier).await;
    }
    company.world.stripe.cancel(&company.stripe).expect("cancelled");
    company.deliver().await;
    assert_eq!(company.status().await, "EXPIRED");
    let again = CheckoutParams {
        customer: Some(company.customer.clone()),
        ..CheckoutParams::subscription("price_starter_month")
    };
    let session = company.world.stripe.create_checkout(again.clone()).expect("a checkout");
    let paid = company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.stripe = text(&paid["subscription"]);
    company.deliver().await;
    let new = text(&company.row("subscription_id").await["subscription_id"]);
    assert_eq!(
        company.row("status, active_device_count").await,
        json!({"status": "ACTIVE", "active_device_count": 4})
    );
    assert_eq!(company.world.count(&format!("devices WHERE subscription_id = '{new}'")).await, 4);
    let used = "SELECT subscription_id, tier_id, slot_limit, slots_used
                FROM subscription_tier_allocations WHERE tenant_id = 'acme' AND slots_used > 0
                ORDER BY tier_id";
    let of = |tier: i32, limit: i32, used: i32| {
        json!({"subscription_id": new, "tier_id": tier,
    "slot_limit": limit, "slots_used": used})
    };
    assert_eq!(
        company.world.rows(used).await,
        [of(2, 5, 2), of(3, 0, 1)],
        "over the limit, and kept"
    );
    assert_eq!(
        company
            .world
            .row(&format!(
                "SELECT active_device_count FROM subscriptions WHERE subscription_id = '{old}'"
            ))
            .await,
        json!({"active_device_count": 0})
    );
    let moved = "subscription_audit WHERE event_type = 'DEVICE_REASSIGNED'
                 AND stripe_event_id IS NOT NULL";
    assert_eq!(company.world.count(moved).await, 4);

    // A second one next to it takes nothing; nor does a third, as long as the second lives, from
    // the first that has died.
    for dies in [false, true] {
        if dies {
            company.world.stripe.cancel(&company.stripe).expect("cancelled");
        }
        let session = company.world.stripe.create_checkout(again.clone()).expect("a checkout");
        company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
        company.deliver().await;
        assert_eq!(
            company.world.count(&format!("devices WHERE subscription_id = '{new}'")).await,
            4,
            "{dies}"
        );
    }
    assert_eq!(company.status().await, "EXPIRED");
}

/// Trap 90: who pays is not told that the trial has ended, and loses nothing with it.
#[tokio::test]
async fn a_given_trial_ends_with_the_purchase_of_a_main_and_what_stripe_pays_for_stays() {
    let world = World::new().await;
    let api = world.api().await;
    let trial = async |days: i64| {
        let new = json!({"tenant_id": "demo-cold-chain", "subscription_type": "TRIAL",
            "device_limit": 5, "term_days": days});
        text(&api.create_subscription(new).await["subscription_id"])
    };
    world
        .db
        .batch_execute(
            "DELETE FROM devices; DELETE FROM subscription_tier_allocations;
                            DELETE FROM subscriptions",
        )
        .await
        .expect("nothing of the seed's");
    let (used, unused, of_stripe, held) =
        (trial(3).await, trial(20).await, trial(20).await, trial(20).await);
    for (id, columns) in [
        (&of_stripe, "stripe_subscription_id = 'sub_other'"),
        (
            &held,
            "stripe_subscription_id = 'sub_held', hold_reason = 'x', held_by = 'x',
                 held_at = now()",
        ),
    ] {
        let sql = format!("UPDATE subscriptions SET {columns} WHERE subscription_id = '{id}'");
        world.db.batch_execute(&sql).await.expect("set up");
    }
    let device = json!({"tenant_id": "demo-cold-chain", "device_id": "DEV-T",
        "subscription_id": used});
    api.write("POST", "/api/v1/operator/devices", device).await.expect(201);

    let session = world.checkout("price_pro_month", &[("tenant_id", "demo-cold-chain")]);
    world.stripe.pay(&session, payer("ops@coldchain.example")).expect("paid");
    let event = world.event("checkout.session.completed");
    world.receive(&[&event]).await;
    let main = "SELECT subscription_id FROM subscriptions WHERE subscription_type = 'MAIN'";
    let main = world.row(main).await["subscription_id"].clone();

    let trials = "SELECT subscription_id, status, active_device_count FROM subscriptions
                  WHERE subscription_type = 'TRIAL' ORDER BY subscription_id";
    let is = |id: &str, status: &str| json!({"subscription_id": id, "status": status, "active_device_count": 0});
    assert_eq!(
        world.rows(trials).await,
        [
            is(&used, "EXPIRED"),
            is(&unused, "EXPIRED"),
            is(&of_stripe, "ACTIVE"),
            is(&held, "ACTIVE")
        ]
    );
    let on = "SELECT subscription_id FROM devices WHERE device_id = 'DEV-T'";
    assert_eq!(world.row(on).await["subscription_id"], main);
    let audit = "SELECT subscription_id, actor_id, stripe_event_id,
                 details->>'replaced_by' AS replaced_by, details->>'stripe_sub_id' AS stripe,
                 previous_state->>'status' AS before, new_state->>'status' AS after
                 FROM subscription_audit WHERE event_type = 'STATUS_EXPIRED'
                 ORDER BY subscription_id";
    let stripe = world.stripe.object(&session).expect("it")["subscription"].clone();
    let ended = |id: &str| {
        json!({"subscription_id": id, "actor_id": "stripe", "stripe_event_id": event["id"],
            "replaced_by": main, "stripe": stripe, "before": "ACTIVE", "after": "EXPIRED"})
    };
    assert_eq!(world.rows(audit).await, [ended(&used), ended(&unused)]);

    // Its end has passed: nobody is told of it.
    world.clock.pass(5 * 86_400);
    world.renewals.handle(json!({})).await.expect("a run");
    let told = format!(
        "outbox_steps WHERE kind = 'mail' AND payload->>'subscription_id' IN
                       ('{used}', '{unused}')"
    );
    assert_eq!(world.count(&told).await, 0);
}

/// A trial next to a MAIN that runs was given on purpose.
#[tokio::test]
async fn a_trial_next_to_another_live_main_stays_with_its_devices() {
    let mut company = Company::new().await;
    let api = company.world.api().await;
    let new = json!({"tenant_id": "acme", "subscription_type": "TRIAL", "device_limit": 5,
        "term_days": 60});
    let trial = text(&api.create_subscription(new).await["subscription_id"]);
    company.device("DEV-T", &trial, None).await;
    let again = CheckoutParams {
        customer: Some(company.customer.clone()),
        ..CheckoutParams::subscription("price_starter_month")
    };
    let session = company.world.stripe.create_checkout(again).expect("a checkout");
    company.world.stripe.pay(&session, payer("jane@acme.example")).expect("paid");
    company.deliver().await;
    let sql = format!(
        "SELECT status, active_device_count FROM subscriptions WHERE subscription_id = '{trial}'"
    );
    assert_eq!(
        company.world.row(&sql).await,
        json!({"status": "ACTIVE", "active_device_count": 1})
    );
}

/// A tenant that was deleted stays so: a payment for it is flagged.
#[tokio::test]
async fn a_snapshot_that_would_revive_a_deleted_tenants_subscription_is_failed_and_flagged() {
    let mut company = Company::new().await;
    company.world.stripe.pause(&company.stripe).expect("paused");
    company.deliver().await;
    company
        .world
        .api()
        .await
        .send(Who::Admin, "DELETE", "/api/v1/operator/tenants/acme", &[], None)
        .await
        .expect(200);
    company.world.stripe.resume(&company.stripe).expect("resumed");
    company.deliver().await;
    assert_eq!(company.status().await, "SUSPENDED");
    assert!(
        company.flags().await.iter().all(|kind| kind == "tenant_deleted")
            && !company.flags().await.is_empty()
    );
}
