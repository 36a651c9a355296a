//! `operator-plans`: the catalogue.

use serde_json::{Value, json};
use tests::api::Api;
use tests::{World, text};

mod plans;
mod prices;
mod tiers;

const PLANS: &str = "/api/v1/operator/plans";
const TIERS: &str = "/api/v1/operator/device-tiers";

async fn audit(world: &World) -> Vec<String> {
    let rows = world
        .rows("SELECT event_type, actor_type, tenant_id FROM subscription_audit ORDER BY id")
        .await;
    assert!(
        rows.iter().all(|row| row["actor_type"] == "admin" && row["tenant_id"] == Value::Null),
        "{rows:?}"
    );
    rows.iter().map(|row| text(&row["event_type"])).collect()
}

/// A plan as a test adds it.
async fn team(api: &Api) -> Value {
    let body = json!({"plan_id": "team", "name": "Team", "device_limit": 50,
        "limits": {"alert_rules": 50, "users": 10}, "sort_order": 2,
                      "stripe_price_id": "price_team_month", "monthly_price_cents": 9900});
    api.write("POST", PLANS, body).await.expect(201)
}
