//! The price at Stripe, and the plan and slots that it brings.

use serde_json::json;
use simulators::stripe::CheckoutParams;
use tests::company::Company;

/// Trap 28: a change in the portal counts; what is in use stays.
#[tokio::test]
async fn a_plan_change_in_the_portal_brings_the_new_plans_limits_and_takes_no_device_away() {
    let mut company = Company::new().await;
    for number in 0..3 {
        company.device(&format!("DEV-{number}"), &company.id.clone(), Some(3)).await;
    }
    company.world.stripe.change_plan(&company.stripe, "price_starter_month").expect("changed");
    company.deliver().await;
    assert_eq!(
        company.row("plan_id, device_limit, stripe_price_id").await,
        json!({"plan_id": "starter", "device_limit": 30, "stripe_price_id": "price_starter_month"})
    );
    assert_eq!(company.slots().await, json!({"1": 25, "2": 5, "3": 0}));
    assert_eq!(company.world.count("devices WHERE tier_id = 3").await, 3);
    assert_eq!(company.trail().await, ["STRIPE_PLAN_CHANGED"]);
    let details = company
        .world
        .row(
            "SELECT stripe_event_id IS NOT NULL AS event, previous_state->>'plan_id' AS was,
         details->'tier_slots'->'after' AS slots FROM subscription_audit
         WHERE event_type = 'STRIPE_PLAN_CHANGED'",
        )
        .await;
    assert_eq!((&details["event"], &details["was"]), (&json!(true), &json!("pro")));
}

#[tokio::test]
async fn a_price_that_nothing_knows_never_downgrades_a_payer_and_counts_once_it_is_mapped() {
    let of_checkout = [("plan_id".to_owned(), "starter".to_owned())].into();
    let params = CheckoutParams {
        subscription_metadata: of_checkout,
        ..CheckoutParams::subscription("price_starter_month")
    };
    let mut company = Company::with(params).await;
    company.world.stripe.change_plan(&company.stripe, "price_pro_month").expect("changed");
    company.deliver().await;
    company.world.stripe.change_plan(&company.stripe, "price_unmapped").expect("changed");
    company.deliver().await;
    company.pass(28).await;
    let plan = "plan_id, device_limit, stripe_price_id";
    assert_eq!(
        company.row(plan).await,
        json!({"plan_id": "pro", "device_limit": 260, "stripe_price_id": "price_unmapped"})
    );
    assert_eq!(
        (
            company.flags().await,
            company.world.count("subscription_audit WHERE event_type = 'PLAN_UNRESOLVED'").await
        ),
        (vec!["plan_unresolved".to_owned()], 1)
    );
    company
        .world
        .db
        .execute(
            "INSERT INTO stripe_prices (stripe_price_id, plan_id, interval, is_current)
                  VALUES ('price_unmapped', 'enterprise', 'month', false)",
            &[],
        )
        .await
        .expect("mapped");
    company.pass(31).await;
    assert_eq!(
        company.row(plan).await,
        json!({"plan_id": "enterprise", "device_limit": 5000, "stripe_price_id": "price_unmapped"})
    );
}

#[tokio::test]
async fn slot_items_before_the_plans_item_change_neither_plan_nor_its_slots() {
    let mut company = Company::new().await;
    company.world.stripe.edit_subscription(&company.stripe, |subscription| {
        let mut slot = subscription["items"]["data"][0].clone();
        (slot["id"], slot["price"]["id"], slot["quantity"]) =
            (json!("si_slot"), json!("price_standard_slot_month"), json!(7));
        subscription["items"]["data"].as_array_mut().expect("items").insert(0, slot);
    });
    company
        .world
        .stripe
        .emit("customer.subscription.updated", &company.stripe.clone())
        .expect("an event");
    company.deliver().await;
    assert_eq!(
        company.row("plan_id, stripe_price_id, quantity").await,
        json!({"plan_id": "pro", "stripe_price_id": "price_pro_month", "quantity": 1})
    );
    assert_eq!(company.slots().await, json!({"1": 200, "2": 50, "3": 10}));
    assert_eq!(company.flags().await, Vec::<String>::new());
}
