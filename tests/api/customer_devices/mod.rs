//! `device-tier`, the customers' routes: own devices, inside what was paid for.

use serde_json::json;
use tests::api::{Api, Reply, Who};
use tests::{World, text};

mod lifecycle;
mod tiers;

const DEVICES: &str = "/api/v1/customer/devices";
const ACME: Who<'static> = Who::Customer("acme");

/// A tenant with a MAIN of this many places; its id.
async fn tenant(world: &World, api: &Api, id: &str, devices: i64) -> String {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&id])
        .await
        .expect("a tenant");
    subscription(api, id, "MAIN", devices, None).await
}

async fn subscription(
    api: &Api,
    tenant: &str,
    kind: &str,
    devices: i64,
    parent: Option<&str>,
) -> String {
    let mut body = json!({"tenant_id": tenant, "subscription_type": kind, "device_limit": devices,
    "parent_subscription_id": parent});
    if parent.is_none() {
        body["term_days"] = json!(365);
    }
    text(&api.create_subscription(body).await["subscription_id"])
}

async fn allocate(api: &Api, subscription: &str, tier: i64, slots: i64) {
    let path = format!("/api/v1/operator/subscriptions/{subscription}/tier-allocations");
    api.write("POST", &path, json!({"tier_id": tier, "slot_limit": slots})).await.expect(201);
}

async fn register(api: &Api, device: &str) -> Reply {
    api.send(ACME, "POST", DEVICES, &[], Some(json!({"device_id": device}))).await
}

async fn assign(api: &Api, device: &str, tier: i64) -> Reply {
    api.send(ACME, "PUT", &format!("{DEVICES}/{device}/tier"), &[], Some(json!({"tier_id": tier})))
        .await
}

async fn remove(api: &Api, device: &str) -> Reply {
    api.send(ACME, "DELETE", &format!("{DEVICES}/{device}/tier"), &[], None).await
}

async fn slots(world: &World, subscription: &str, tier: i32) -> i64 {
    let sql = format!(
        "SELECT coalesce(sum(slots_used), 0) AS n FROM subscription_tier_allocations
         WHERE subscription_id = '{subscription}' AND tier_id = {tier}"
    );
    world.row(&sql).await["n"].as_i64().expect("a number")
}
