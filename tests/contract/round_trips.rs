//! How often a hot route waits for the database, and how many statements it has, held against
//! numbers that people review (docs/performance.md).

use serde_json::json;
use tests::api::Who;
use tests::proxy::Proxy;
use tests::{World, text};

const ACME: Who<'static> = Who::Customer("acme");

/// Waits and statements so far, once nothing is under way: nobody waits for what was sent last.
async fn counts(world: &World, proxy: &Proxy) -> [u64; 2] {
    world.sessions_rest().await;
    [proxy.waits(), proxy.statements()]
}

fn counted(name: &str, before: [u64; 2], after: [u64; 2]) -> (&str, u64, u64) {
    (name, after[0] - before[0], after[1] - before[1])
}

#[tokio::test]
async fn a_hot_route_waits_for_the_database_no_more_often_than_is_written_here() {
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

    let body = json!({"tenant_id": "acme", "subscription_type": "TEMPORARY", "device_limit": 10,
        "term_days": 365});
    let other = text(&api.create_subscription(body).await["subscription_id"]);

    let device = |id: &str| format!("/api/v1/customer/devices/{id}");
    let tier = |tier: i32| ("PUT", device("D-1") + "/tier", Some(json!({ "tier_id": tier })));
    let seen = |second: i32| {
        let device = json!({"tenant_id": "acme", "device_id": "D-1",
            "last_seen_at": format!("2026-06-01T10:00:0{second}Z")});
        let path = "/api/v1/service/devices/last-seen".to_owned();
        ("POST", path, Some(json!({"devices": [device]})))
    };
    let new = |id: &str| {
        ("POST", "/api/v1/customer/devices".to_owned(), Some(json!({ "device_id": id })))
    };
    let to = |id: &str| {
        ("POST", device("D-1") + "/subscription", Some(json!({ "subscription_id": id })))
    };
    let bulk = |tier: Option<i32>| {
        let body = json!({"tier_id": tier, "device_ids": ["D-1", "D-5", "D-6"]});
        ("POST", device("tier-assignments"), Some(body))
    };
    let get = |path: &str| ("GET", path.to_owned(), None);
    let path = format!("/api/v1/operator/subscriptions/{main}");
    let described = |text: &str| ("PATCH", path.clone(), Some(json!({ "description": text })));
    let limited = |slots: i32| {
        ("PUT", format!("{path}/tier-allocations/1"), Some(json!({ "slot_limit": slots })))
    };
    let named = |name: &str| {
        ("PUT", "/api/v1/operator/plans/starter".to_owned(), Some(json!({ "name": name })))
    };
    let check = || {
        let body = json!({"resource": "devices", "requested": 1});
        ("POST", "/api/v1/customer/entitlements/check".to_owned(), Some(body))
    };
    let twice = |path: &str| vec![get(path), get(path)];
    let gone = |id: &str| ("DELETE", device(id), None);
    let untiered = || ("DELETE", device("D-1") + "/tier", None);
    // The last is measured: an instance's first requests have each statement parsed, once.
    let routes = [
        ("tier assignment", ACME, vec![tier(2), tier(1), tier(2)]),
        ("the tier that it has", ACME, vec![tier(2)]),
        ("tier removal", ACME, vec![untiered(), tier(1), untiered()]),
        ("registration", ACME, vec![new("D-2"), new("D-3")]),
        ("end of a device", ACME, vec![gone("D-2"), gone("D-3")]),
        ("move", ACME, vec![to(&other), to(&main), to(&other), to(&main)]),
        (
            "bulk assignment",
            ACME,
            vec![new("D-5"), new("D-6"), bulk(Some(1)), bulk(None), bulk(Some(2))],
        ),
        ("entitlements", ACME, twice("/api/v1/customer/entitlements")),
        ("entitlement check", ACME, vec![check(), check()]),
        ("device page", ACME, twice("/api/v1/customer/devices?limit=100")),
        ("devices seen", Who::Service, vec![seen(1), seen(2)]),
        ("who calls", ACME, twice("/api/v1/me")),
        ("the offer", ACME, twice("/api/v1/customer/billing/config")),
        ("what comes next", ACME, twice("/api/v1/customer/billing/upcoming")),
        ("plan list", Who::Operator, twice("/api/v1/operator/plans")),
        ("subscription page", Who::Operator, twice("/api/v1/operator/subscriptions?limit=100")),
        ("subscription PATCH", Who::Admin, vec![described("one"), described("two")]),
        ("allocation PUT", Who::Admin, vec![limited(4), limited(5)]),
        ("plan PUT", Who::Admin, vec![named("One"), named("Two")]),
    ];
    let mut asked = Vec::new();
    for (name, who, requests) in routes {
        let mut before = [0; 2];
        for (method, path, body) in requests {
            before = counts(&world, &proxy).await;
            let reply = api.send(who, method, &path, &[], body).await;
            assert!(reply.status < 300, "{name}: {}", reply.body);
        }
        asked.push(counted(name, before, counts(&world, &proxy).await));
    }
    let (_, first) = world.paid_checkout("First", "jane@first.example");
    world.receive(&[&first]).await;
    let (_, second) = world.paid_checkout("Second", "jane@second.example");
    let before = counts(&world, &proxy).await;
    world.receive(&[&second]).await;
    asked.push(counted("a checkout applied", before, counts(&world, &proxy).await));
    let before = counts(&world, &proxy).await;
    world.outbox().await;
    asked.push(counted("two logins and two mails", before, counts(&world, &proxy).await));
    let mut before = [0; 2];
    for company in ["first", "second"] {
        let sql = format!(
            "SELECT stripe_subscription_id AS id FROM subscriptions WHERE tenant_id = '{company}'"
        );
        let ours = world.row(&sql).await;
        world.stripe.cancel_at_period_end(&text(&ours["id"]), true).expect("to be cancelled");
        before = counts(&world, &proxy).await;
        world.receive(&[&world.event("customer.subscription.updated")]).await;
    }
    let after = counts(&world, &proxy).await;
    asked.push(counted("a snapshot of a subscription applied", before, after));
    let reviewed = [
        ("tier assignment", 2, 12),
        ("the tier that it has", 1, 9),
        ("tier removal", 2, 11),
        ("registration", 2, 11),
        ("end of a device", 2, 11),
        ("move", 2, 12),
        ("bulk assignment", 2, 12),
        ("entitlements", 1, 8),
        ("entitlement check", 1, 7),
        ("device page", 1, 5),
        ("devices seen", 2, 4),
        ("who calls", 1, 4),
        ("the offer", 1, 7),
        ("what comes next", 1, 5),
        ("plan list", 1, 1),
        ("subscription page", 1, 1),
        ("subscription PATCH", 2, 7),
        ("allocation PUT", 2, 12),
        ("plan PUT", 2, 5),
        ("a checkout applied", 7, 20),
        ("two logins and two mails", 28, 47),
        ("a snapshot of a subscription applied", 3, 14),
    ];
    assert_eq!(asked, reviewed);
}
