//! What a company is offered, and what it has.

use billing::BillingApp;
use serde_json::{Value, json};
use shared::http::app::AppState as _;
use shared::process::config::Env;
use tests::api::Who;
use tests::text;

use super::{ACME, BILLING, world};

#[tokio::test]
async fn the_offer_is_the_active_plans_with_what_can_be_bought() {
    let (_, api) = world().await;
    api.write("PUT", "/api/v1/operator/plans/enterprise", json!({"is_active": false}))
        .await
        .expect(200);
    api.write("PUT", "/api/v1/operator/plans/starter", json!({"stripe_annual_price_id": null}))
        .await
        .expect(200);
    api.write(
        "POST",
        "/api/v1/operator/plans",
        json!({"plan_id": "custom", "name": "Custom", "sort_order": 9}),
    )
    .await
    .expect(201);
    let offer = api.get(ACME, &format!("{BILLING}/config")).await.expect(200);
    assert_eq!(offer["publishable_key"], "pk_test_tests");
    assert_eq!(offer["currency"], "usd");
    let plans = offer["plans"].as_array().expect("plans");
    let sold: Vec<_> = plans
        .iter()
        .map(|plan| {
            (text(&plan["plan_id"]), plan["sold_monthly"] == true, plan["sold_annually"] == true)
        })
        .collect();
    assert_eq!(
        sold,
        [
            ("starter".to_owned(), true, false),
            ("pro".to_owned(), true, true),
            ("custom".to_owned(), false, false)
        ]
    );
    let expected = json!({
        "plan_id": "pro", "name": "Pro", "description": "For a growing fleet", "device_limit": 260,
        "tiers": [{"tier_id": 1, "display_name": "Basic", "slot_limit": 200},
            {"tier_id": 2, "display_name": "Standard", "slot_limit": 50},
            {"tier_id": 3, "display_name": "Premium", "slot_limit": 10}],
        "limits": {"alert_rules": 25, "notification_channels": 5, "users": 5},
        "currency": "usd", "monthly_price_cents": 29900, "annual_price_cents": 299_000,
        "prices": [{"currency": "usd", "interval": "month", "cents": 29900},
            {"currency": "usd", "interval": "year", "cents": 299_000}],
        "sold_monthly": true, "sold_annually": true,
    });
    assert_eq!(plans[1], expected);
    assert_eq!(plans[2]["tiers"], json!([]), "a plan without tier defaults");
    assert!(!offer.to_string().contains("price_pro"), "no id of Stripe's");
    assert!(!offer.to_string().contains("sk_"));
    let unknown = api.get(Who::Customer("nobody"), &format!("{BILLING}/config")).await;
    unknown.problem(403, "tenant_deleted");
}

#[tokio::test]
async fn the_status_shows_what_has_not_ended_with_its_effective_status_and_slots() {
    let (world, api) = world().await;
    let none = api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
    assert_eq!(
        none,
        json!({"linked": false, "billing_email": "pay@acme.example", "support_tier": "standard",
        "subscriptions": []})
    );
    let create = async |body: Value| text(&api.create_subscription(body).await["subscription_id"]);
    let new = |tenant: &str, kind: &str| {
        json!({"tenant_id": tenant, "subscription_type": kind,
    "device_limit": 5, "term_days": 30})
    };
    let main = create(new("acme", "MAIN")).await;
    let addon =
        create(json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 3,
        "parent_subscription_id": main}))
        .await;
    let over = create(new("acme", "TEMPORARY")).await;
    create(new("bolt", "MAIN")).await;
    let slots = json!({"tier_id": 2, "slot_limit": 4});
    api.write("POST", &format!("/api/v1/operator/subscriptions/{main}/tier-allocations"), slots)
        .await
        .expect(201);
    api.send(
        ACME,
        "POST",
        "/api/v1/customer/devices",
        &[],
        Some(json!({"device_id": "D", "subscription_id": main})),
    )
    .await
    .expect(201);
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{over}"),
        json!({"status": "EXPIRED"}),
    )
    .await
    .expect(200);
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{main}"),
        json!({"status": "SUSPENDED"}),
    )
    .await
    .expect(200);
    world
        .db
        .execute("UPDATE tenants SET stripe_customer_id = 'cus_acme' WHERE tenant_id = 'acme'", &[])
        .await
        .expect("linked");
    let status = api.get(ACME, &format!("{BILLING}/status")).await.expect(200);
    assert_eq!(status["linked"], true);
    assert!(!status.to_string().contains("cus_"), "no id of Stripe's");
    let [first, second] = status["subscriptions"].as_array().expect("subscriptions").as_slice()
    else {
        panic!("{status}")
    };
    assert_eq!(
        (&first["subscription_id"], &first["status"], &first["effective_status"]),
        (&json!(main), &json!("SUSPENDED"), &json!("SUSPENDED"))
    );
    assert_eq!(
        (&first["device_limit"], &first["active_device_count"], &first["stripe_managed"]),
        (&json!(5), &json!(1), &json!(false))
    );
    assert_eq!(
        (&first["allocations"][0]["slot_limit"], &first["allocations"][0]["effective_limit"]),
        (&json!(4), &json!(0))
    );
    assert_eq!(
        (&second["subscription_id"], &second["status"], &second["effective_status"]),
        (&json!(addon), &json!("ACTIVE"), &json!("SUSPENDED"))
    );
    assert_eq!(
        (&second["parent_subscription_id"], &second["subscription_type"]),
        (&json!(main), &json!("ADDON"))
    );
}

#[tokio::test]
async fn the_function_does_not_start_without_a_publishable_key_of_the_secret_keys_mode() {
    let (world, _) = world().await;
    let start = async |env: Env| BillingApp::start(&env, world.clock.reader()).await;
    for (key, expected) in [
        (
            "pk_live_1",
            "STRIPE_PUBLISHABLE_KEY is of another mode than the secret STRIPE_SECRET_KEY",
        ),
        ("sk_test_1", "STRIPE_PUBLISHABLE_KEY is not a key that starts with pk_"),
        ("", "STRIPE_PUBLISHABLE_KEY is empty"),
    ] {
        assert_eq!(
            start(world.env(&[("STRIPE_PUBLISHABLE_KEY", key)]))
                .await
                .err()
                .expect("refused")
                .to_string(),
            expected
        );
    }
    let mut settings = world.settings.clone();
    settings.remove("STRIPE_PUBLISHABLE_KEY");
    let error = start(Env::of(settings)).await.err().expect("refused");
    assert_eq!(error.to_string(), "STRIPE_PUBLISHABLE_KEY is not set");
}
