//! `operations`: health, and the trail of changes.

use serde_json::{Value, json};
use shared::domain::audit::model::AuditEvent;
use tests::World;
use tests::api::{SOURCE_IP, Who};

#[tokio::test]
async fn health_is_the_databases() {
    let mut world = World::new().await;
    assert_eq!(
        world.api().await.get(Who::Nobody, "/health").await.expect(200),
        json!({"status": "ok", "missing": []})
    );
    let proxy = world.behind("DATABASE_PORT").await;
    let api = world.api().await;
    assert_eq!(api.get(Who::Nobody, "/health").await.status, 200);
    proxy.stall();
    for _ in 0..20 {
        assert_eq!(
            api.get(Who::Nobody, "/health").await.status,
            200,
            "the database is not asked for everyone"
        );
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    api.get(Who::Nobody, "/health").await.problem(503, "unavailable");
    proxy.pass();
    assert_eq!(
        api.get(Who::Nobody, "/health").await.status,
        200,
        "it comes back without a restart"
    );
}

const AUDIT: &str = "/api/v1/operator/audit";

#[tokio::test]
async fn the_trail_is_read_newest_first_by_any_filter_and_page() {
    let world = World::new().await;
    let api = world.api().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&event]).await;
    let subscription = world
        .row("SELECT subscription_id FROM subscriptions WHERE tenant_id = 'acme'")
        .await["subscription_id"]
        .clone();
    let subscription = subscription.as_str().expect("an id");
    api.write("POST", "/api/v1/operator/plans", json!({"plan_id": "team", "name": "Team"}))
        .await
        .expect(201);

    let types = async |query: &str| {
        let answer = api.get(Who::Operator, &format!("{AUDIT}{query}")).await.expect(200);
        let rows = answer["audit"].as_array().expect("a list").clone();
        assert_eq!(answer["count"], rows.len());
        rows.iter()
            .map(|row| row["event_type"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let all = [
        "PLAN_CREATED",
        "TIER_ALLOCATIONS_SYNCED",
        "STRIPE_CHECKOUT_COMPLETED",
        "TENANT_PROVISIONED",
    ];
    assert_eq!(types("").await, all);
    assert_eq!(types("?tenant_id=acme").await, all[1..]);
    assert_eq!(types("?event_type=PLAN_CREATED").await, all[..1]);
    assert_eq!(types(&format!("?subscription_id={subscription}&limit=1")).await, all[1..2]);
    assert_eq!(types("?actor_id=stripe&offset=2").await, all[3..]);
    assert_eq!(types("?device_id=DEV-1").await, [""; 0]);
    assert_eq!(types("?from=2000-01-01T00:00:00Z&to=2100-01-01T02:00:00%2B02:00").await, all);
    assert_eq!(types("?to=2000-01-01T00:00:00Z").await, [""; 0]);
    let seen = api.pages(Who::Operator, &format!("{AUDIT}?limit=1"), "audit").await;
    let seen: Vec<_> = seen.iter().map(|row| &row["event_type"]).collect();
    assert_eq!(seen, all);

    let row = api.get(Who::Operator, &format!("{AUDIT}?event_type=PLAN_CREATED")).await.expect(200)
        ["audit"][0]
        .clone();
    assert_eq!(
        (&row["ip_address"], &row["actor_type"], &row["tenant_id"]),
        (&json!(SOURCE_IP), &json!("admin"), &Value::Null)
    );
    assert!(row["new_state"].is_object(), "JSON comes back as JSON");
    let at: jiff::Timestamp =
        row["event_timestamp"].as_str().expect("text").parse().expect("RFC 3339");
    assert!(row["event_timestamp"].as_str().is_some_and(|text| text.ends_with('Z')), "UTC: {at}");
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_named() {
    let world = World::new().await;
    let api = world.api().await;
    let faults = api
        .get(
            Who::Operator,
            &format!(
                "{AUDIT}?tenant_id=-&from=2026-01-31T09:30:00&to=yesterday&actor_id=&colour=red"
            ),
        )
        .await
        .faults();
    let zoned = "must be a time with an offset, such as 2026-01-31T09:30:00Z";
    assert_eq!(
        faults,
        [
            "actor_id must not be empty".to_owned(),
            "colour is not a field of this request".to_owned(),
            format!("from {zoned}"),
            "tenant_id must match ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$".to_owned(),
            format!("to {zoned}"),
        ]
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{AUDIT}?from=1999-12-31T23:59:59Z")).await.faults(),
        ["from must be in the years 2000 to 2199"]
    );
    let faults = api.get(Who::Operator, &format!("{AUDIT}?event_type=PLAN_MADE")).await.faults();
    let all: Vec<_> = AuditEvent::ALL.iter().map(|known| known.as_str()).collect();
    assert_eq!(faults, [format!("event_type must be one of {}", all.join(", "))]);
}
