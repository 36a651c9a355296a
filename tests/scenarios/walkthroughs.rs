//! What an operator types, as docs/catalogue.md shows it: against the running functions, with tokens of the stack's Keycloak.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::text;

/// A name that no other run on this stack has used.
fn unique(name: &str) -> String {
    format!("{name}-{}", shared::clock::Clock::system().now().as_microsecond())
}

/// The catalogue's life: list plans, add one, set what it brings, change it, read the trail; and the same of device tiers.
#[tokio::test]
async fn an_operator_keeps_the_catalogue() {
    let api = Api::of_stack();
    let (plans, tiers) = ("/api/v1/operator/plans", "/api/v1/operator/device-tiers");
    let began = shared::clock::Clock::system().now();
    let team = unique("team");

    let list = api.get(Who::Admin, &format!("{plans}?limit=500")).await.expect(200);
    let pro = list["plans"].as_array().expect("plans").iter().find(|plan| plan["plan_id"] == "pro").expect("the seed's plan").clone();
    assert_eq!((&pro["device_limit"], &pro["limits"]["users"], &pro["stripe_price_id"]), (&json!(260), &json!(5), &json!("price_pro_month")));

    let limits = json!({"alert_rules": 50, "notification_channels": 10, "users": 10});
    let body = json!({"plan_id": team, "name": "Team", "device_limit": 50, "limits": limits, "sort_order": 2});
    let created = api.write("POST", plans, body).await.expect(201);
    assert_eq!((&created["plan_id"], &created["limits"], &created["is_active"]), (&json!(team), &limits, &json!(true)));

    let defaults = json!([{"tier_id": 1, "slot_limit": 40}, {"tier_id": 2, "slot_limit": 10}, {"tier_id": 3, "slot_limit": 0}]);
    let set = api.write("PUT", &format!("{plans}/{team}/tier-defaults"), defaults).await.expect(200);
    assert_eq!((&set["status"], &set["plan_id"]), (&json!("ok"), &json!(team)));
    let slots: Vec<_> = set["tier_defaults"].as_array().expect("a list").iter().map(|entry| (&entry["name"], &entry["slot_limit"])).collect();
    assert_eq!(slots, [(&json!("basic"), &json!(40)), (&json!("standard"), &json!(10)), (&json!("premium"), &json!(0))]);

    let limits = json!({"alert_rules": 75, "notification_channels": 15, "users": 15});
    let updated = api.write("PUT", &format!("{plans}/{team}"), json!({"device_limit": 75, "limits": limits})).await.expect(200);
    assert_eq!((&updated["status"], &updated["plan_id"], &updated["device_limit"], &updated["limits"]), (&json!("ok"), &json!(team), &json!(75), &limits));

    let seeded = api.get(Who::Operator, tiers).await.expect(200);
    let names: Vec<_> = seeded["tiers"].as_array().expect("tiers").iter().take(3).map(|tier| (&tier["tier_id"], &tier["name"])).collect();
    assert_eq!(names, [(&json!(1), &json!("basic")), (&json!(2), &json!("standard")), (&json!(3), &json!("premium"))]);
    let gold = unique("gold");
    let tier = api.write("POST", tiers, json!({"name": gold, "display_name": "Gold", "features": {"retention_days": 365}, "sort_order": 9})).await.expect(201);
    let path = format!("{tiers}/{}", tier["tier_id"]);
    // Retired again, so that a stack that goes on has the three tiers for sale.
    assert_eq!(api.write("PUT", &path, json!({"is_active": false})).await.expect(200)["is_active"], false);

    let trail = api.get(Who::Operator, &format!("/api/v1/operator/audit?from={began}&limit=500")).await.expect(200);
    let ours: Vec<&Value> =
        trail["audit"].as_array().expect("rows").iter().filter(|row| [&team, &gold].iter().any(|name| row.to_string().contains(*name))).collect();
    let types: Vec<String> = ours.iter().map(|row| text(&row["event_type"])).collect();
    assert_eq!(types, ["DEVICE_TIER_UPDATED", "DEVICE_TIER_CREATED", "PLAN_UPDATED", "PLAN_TIER_DEFAULTS_SET", "PLAN_CREATED"]);
    assert!(ours.iter().all(|row| row["actor_type"] == "admin" && row["ip_address"] == "127.0.0.1" && row["new_state"].is_object()), "{ours:?}");
    let update = ours.iter().find(|row| row["event_type"] == "PLAN_UPDATED").expect("a row");
    assert_eq!((&update["previous_state"]["device_limit"], &update["new_state"]["device_limit"]), (&json!(50), &json!(75)));
}
