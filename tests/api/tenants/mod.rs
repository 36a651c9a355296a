//! `tenants`: customer companies.

use serde_json::{Value, json};
use tests::api::{Api, SOURCE_IP};
use tests::{World, text};

mod deletion;
mod edit;
mod profile;
mod search;
mod stripe_customer;

const TENANTS: &str = "/api/v1/operator/tenants";

async fn add(api: &Api, id: &str) -> Value {
    api.write("POST", TENANTS, json!({"tenant_id": id, "name": "Acme"})).await.expect(201)
}

async fn audit(world: &World, tenant: &str) -> Vec<String> {
    let sql = format!(
        "SELECT event_type, actor_type, host(ip_address) AS ip FROM subscription_audit
         WHERE tenant_id = '{tenant}' ORDER BY id"
    );
    let rows = world.rows(&sql).await;
    assert!(
        rows.iter().all(|row| row["actor_type"] == "admin" && row["ip"] == SOURCE_IP),
        "{rows:?}"
    );
    rows.iter().map(|row| text(&row["event_type"])).collect()
}
