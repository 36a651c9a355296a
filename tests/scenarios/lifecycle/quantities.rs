//! How many of its plan a company pays for, and the limits that were copied when it bought.

use serde_json::{Value, json};
use simulators::stripe::CheckoutParams;
use tests::api::{Api, Who};
use tests::company::Company;

/// So many starters: 30 devices, slots 25, 5 and 0 each.
async fn starters(quantity: u64) -> Company {
    let params = CheckoutParams { quantity, ..CheckoutParams::subscription("price_starter_month") };
    Company::with(params).await
}

const SHOWN: &str = "quantity, device_limit, limits";

fn users(times: i64) -> Value {
    json!({"alert_rules": 10 * times, "notification_channels": 2 * times, "users": 3 * times})
}

async fn sync_slots(api: &Api, id: &str) -> Value {
    let path = format!("/api/v1/operator/subscriptions/{id}/sync-tier-allocations");
    api.write("POST", &path, json!({})).await.expect(200)
}

/// Trap 60.
#[tokio::test]
async fn who_pays_three_times_has_three_times_the_devices_slots_and_limits() {
    let company = starters(3).await;
    assert_eq!(
        company.row(SHOWN).await,
        json!({"quantity": 3, "device_limit": 90, "limits": users(3)})
    );
    assert_eq!(company.slots().await, json!({"1": 75, "2": 15}));

    let api = company.world.api().await;
    let path = format!("/api/v1/operator/subscriptions/{}", company.id);
    let shown = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!((&shown["quantity"], &shown["limits"]), (&json!(3), &users(3)));
    let customer = Who::Customer("acme");
    let status = api.get(customer, "/api/v1/customer/billing/status").await.expect(200);
    assert_eq!(status["subscriptions"][0]["quantity"], 3);
    let all = api.get(customer, "/api/v1/customer/entitlements").await.expect(200);
    assert_eq!((&all["families"][0]["quantity"], &all["limits"]), (&json!(3), &users(3)));
}

/// Trap 61.
#[tokio::test]
async fn another_quantity_at_stripe_brings_as_much_more_or_less_and_takes_no_device_away() {
    let mut company = starters(1).await;
    let price = "price_starter_month";
    company.world.stripe.set_quantity(&company.stripe, price, Some(5)).expect("changed");
    company.deliver().await;
    assert_eq!(
        company.row(SHOWN).await,
        json!({"quantity": 5, "device_limit": 150, "limits": users(5)})
    );
    assert_eq!(company.slots().await, json!({"1": 125, "2": 25}));
    for number in 0..31 {
        company.device(&format!("DEV-{number}"), &company.id.clone(), Some(1)).await;
    }
    company.world.stripe.set_quantity(&company.stripe, price, Some(1)).expect("changed");
    company.deliver().await;
    assert_eq!(
        company.row("quantity, device_limit, active_device_count").await,
        json!({"quantity": 1, "device_limit": 30, "active_device_count": 31})
    );
    assert_eq!(company.slots().await, json!({"1": 25, "2": 5}));
    assert_eq!(company.world.count("devices WHERE tier_id = 1").await, 31);
    assert_eq!(company.trail().await, Vec::<String>::new(), "named by the quantity alone");
    let audited = company
        .world
        .rows(
            "SELECT previous_state->>'quantity' AS was, new_state->>'quantity' AS is,
             details->'tier_slots'->'after'->0->>'slot_limit' AS basic
             FROM subscription_audit WHERE event_type = 'PLAN_QUANTITY_CHANGED' ORDER BY id",
        )
        .await;
    assert_eq!(
        audited,
        [
            json!({"was": "1", "is": "5", "basic": "125"}),
            json!({"was": "5", "is": "1", "basic": "25"})
        ]
    );
}

#[tokio::test]
async fn a_quantity_survives_renewals_another_plan_and_a_slot_sync() {
    let mut company = starters(2).await;
    company.pass(28).await;
    assert_eq!(
        company.row("quantity, device_limit").await,
        json!({"quantity": 2, "device_limit": 60})
    );
    company.world.stripe.change_plan(&company.stripe, "price_pro_month").expect("changed");
    company.deliver().await;
    assert_eq!(
        company.row("quantity, plan_id, device_limit").await,
        json!({"quantity": 2, "plan_id": "pro", "device_limit": 520})
    );
    assert_eq!(company.slots().await, json!({"1": 400, "2": 100, "3": 20}));
    assert_eq!(company.trail().await, ["STRIPE_INVOICE_PAID", "STRIPE_PLAN_CHANGED"]);

    let api = company.world.api().await;
    assert_eq!(sync_slots(&api, &company.id).await["changed"], false);
    let path = format!("/api/v1/operator/subscriptions/{}", company.id);
    let held = json!({"plan_id": "starter", "mode": "hold", "hold_reason": "agreed by telephone"});
    api.write("PATCH", &path, held).await.expect(200);
    assert_eq!(
        company.row(SHOWN).await,
        json!({"quantity": 2, "device_limit": 60, "limits": users(2)})
    );
}

#[tokio::test]
async fn a_quantity_beyond_any_count_is_as_many_as_can_be_counted() {
    let mut company = starters(1).await;
    company.world.stripe.edit_subscription(&company.stripe, |subscription| {
        subscription["items"]["data"][0]["quantity"] = json!(5_000_000_000_i64);
    });
    let stripe = company.stripe.clone();
    company.world.stripe.emit("customer.subscription.updated", &stripe).expect("an event");
    company.deliver().await;
    assert_eq!(
        company.row("quantity, device_limit").await,
        json!({"quantity": i32::MAX, "device_limit": i32::MAX})
    );
    assert_eq!(company.slots().await, json!({"1": i32::MAX, "2": i32::MAX}));
    let api = company.world.api().await;
    let all = api.get(Who::Customer("acme"), "/api/v1/customer/entitlements").await.expect(200);
    assert_eq!(all["limits"]["users"], 3 * i64::from(i32::MAX));
}

/// Trap 62.
#[tokio::test]
async fn a_plans_new_limits_reach_a_payer_by_a_slot_sync_and_not_before() {
    let company = starters(2).await;
    let api = company.world.api().await;
    let limits = json!({"alert_rules": 10, "notification_channels": 2, "users": 1});
    let plan = "/api/v1/operator/plans/starter";
    api.write("PUT", plan, json!({"limits": limits})).await.expect(200);
    let customer = Who::Customer("acme");
    let entitled = async || {
        api.get(customer, "/api/v1/customer/entitlements").await.expect(200)["limits"].clone()
    };
    assert_eq!(entitled().await, users(2));

    let synced = sync_slots(&api, &company.id).await;
    let wanted = json!({"alert_rules": 20, "notification_channels": 4, "users": 2});
    assert_eq!(
        (&synced["changed"], &synced["changes"]),
        (&json!(true), &json!({"limits": {"old": users(2), "new": wanted}}))
    );
    assert_eq!(entitled().await, wanted);
    let audited = company
        .world
        .row(
            "SELECT details->'changes'->'limits'->'new'->'users' AS users FROM subscription_audit
             WHERE event_type = 'TIER_ALLOCATIONS_SYNCED' AND details ? 'changes'",
        )
        .await;
    assert_eq!(audited, json!({"users": 2}));
    assert_eq!(sync_slots(&api, &company.id).await["changed"], false);
}

#[tokio::test]
async fn limits_that_were_never_copied_are_as_the_plan_says() {
    let company = starters(2).await;
    company.world.db.execute("UPDATE subscriptions SET limits = NULL", &[]).await.expect("none");
    let api = company.world.api().await;
    let all = api.get(Who::Customer("acme"), "/api/v1/customer/entitlements").await.expect(200);
    assert_eq!(all["limits"], users(2));
}
