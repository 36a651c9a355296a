//! `subscriptions`: what operators do by hand to the subscriptions of a company.

use jiff::Timestamp;
use serde_json::{Value, json};
use tests::api::Api;
use tests::{World, text};

mod create;
mod list;
mod preview;
mod update;

const SUBSCRIPTIONS: &str = "/api/v1/operator/subscriptions";

async fn tenant(world: &World, id: &str) {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&id])
        .await
        .expect("a tenant");
}

async fn main_of(api: &Api, tenant: &str) -> Value {
    let body = json!({"tenant_id": tenant, "subscription_type": "MAIN", "device_limit": 100,
    "plan_id": "pro", "term_days": 365});
    api.write("POST", SUBSCRIPTIONS, body).await.expect(201)
}

async fn addon_of(api: &Api, parent: &Value) -> Value {
    let body = json!({"tenant_id": parent["tenant_id"], "subscription_type": "ADDON",
    "device_limit": 10, "parent_subscription_id": parent["subscription_id"]});
    api.write("POST", SUBSCRIPTIONS, body).await.expect(201)
}

fn path(subscription: &Value) -> String {
    format!("{SUBSCRIPTIONS}/{}", text(&subscription["subscription_id"]))
}

fn instant(value: &Value) -> Timestamp {
    text(value).parse().expect("RFC 3339")
}

/// Makes a subscription one that Stripe manages.
async fn managed_by_stripe(world: &World, subscription: &Value, stripe: &str) {
    let sql = "UPDATE subscriptions SET stripe_subscription_id = $2 WHERE subscription_id = $1";
    world
        .db
        .execute(sql, &[&text(&subscription["subscription_id"]), &stripe])
        .await
        .expect("an update");
}
