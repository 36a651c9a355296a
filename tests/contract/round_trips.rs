//! How often a hot route asks the database, held against a number that people review: each is a
//! wait of its own (docs/performance.md).

use serde_json::json;
use tests::api::Who;
use tests::{World, text};

const ACME: Who<'static> = Who::Customer("acme");

#[tokio::test]
async fn a_hot_route_asks_the_database_no_more_often_than_is_written_here() {
    let mut world = World::new().await;
    let proxy = world.behind("DATABASE_PORT").await;
    let api = world.api().await;
    world
        .db
        .execute(
            "INSERT INTO tenants (tenant_id, name, billing_email)
                      VALUES ('acme', 'Acme', 'pay@acme.example')",
            &[],
        )
        .await
        .expect("a tenant");
    let body = json!({"tenant_id": "acme", "subscription_type": "MAIN", "plan_id": "pro",
    "device_limit": 10, "term_days": 365});
    let main = text(&api.create_subscription(body).await["subscription_id"]);
    for tier in [1, 2] {
        let path = format!("/api/v1/operator/subscriptions/{main}/tier-allocations");
        api.write("POST", &path, json!({"tier_id": tier, "slot_limit": 3})).await.expect(201);
    }
    api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(json!({"device_id": "D-1"})))
        .await
        .expect(201);

    let tier = |tier: i32| Some(json!({ "tier_id": tier }));
    let seen = |second: i32| {
        let device = json!({"tenant_id": "acme", "device_id": "D-1",
            "last_seen_at": format!("2026-06-01T10:00:0{second}Z")});
        Some(json!({"devices": [device]}))
    };
    let check = || Some(json!({"resource": "devices", "requested": 1}));
    let routes = [
        ("tier assignment", ACME, "PUT", "/api/v1/customer/devices/D-1/tier", [tier(1), tier(2)]),
        (
            "the tier that it has",
            ACME,
            "PUT",
            "/api/v1/customer/devices/D-1/tier",
            [tier(2), tier(2)],
        ),
        ("entitlements", ACME, "GET", "/api/v1/customer/entitlements", [None, None]),
        (
            "entitlement check",
            ACME,
            "POST",
            "/api/v1/customer/entitlements/check",
            [check(), check()],
        ),
        (
            "devices seen",
            Who::Service,
            "POST",
            "/api/v1/service/devices/last-seen",
            [seen(1), seen(2)],
        ),
        ("plan list", Who::Operator, "GET", "/api/v1/operator/plans", [None, None]),
        (
            "subscription page",
            Who::Operator,
            "GET",
            "/api/v1/operator/subscriptions?limit=100",
            [None, None],
        ),
    ];
    let mut asked = Vec::new();
    for (name, who, method, path, [warm, body]) in routes {
        // An instance's first requests have each statement parsed, once.
        for body in [&body, &warm] {
            api.send(who, method, path, &[], body.clone()).await.expect(200);
        }
        let before = proxy.ready();
        api.send(who, method, path, &[], body).await.expect(200);
        asked.push((name, proxy.ready() - before));
    }
    let (_, first) = world.paid_checkout("First", "jane@first.example");
    world.receive(&[&first]).await;
    let (_, second) = world.paid_checkout("Second", "jane@second.example");
    let before = proxy.ready();
    world.receive(&[&second]).await;
    asked.push(("a checkout applied", proxy.ready() - before));
    let mut statements = 0;
    for company in ["first", "second"] {
        let sql = format!(
            "SELECT stripe_subscription_id AS id FROM subscriptions WHERE tenant_id = '{company}'"
        );
        let ours = world.row(&sql).await;
        world.stripe.cancel_at_period_end(&text(&ours["id"]), true).expect("to be cancelled");
        let before = proxy.ready();
        world.receive(&[&world.event("customer.subscription.updated")]).await;
        statements = proxy.ready() - before;
    }
    asked.push(("a snapshot of a subscription applied", statements));
    let reviewed = [
        ("tier assignment", 12),
        ("the tier that it has", 6),
        ("entitlements", 8),
        ("entitlement check", 7),
        ("devices seen", 4),
        ("plan list", 1),
        ("subscription page", 1),
        ("a checkout applied", 21),
        ("a snapshot of a subscription applied", 14),
    ];
    assert_eq!(asked, reviewed);
}
