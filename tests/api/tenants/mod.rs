//! `tenants`: customer companies.

use serde_json::{Value, json};
use tests::api::{Api, SOURCE_IP};
use tests::{World, text};

mod as_customer;
mod deletion;
mod edit;
mod erasure;
mod profile;
mod search;
mod stripe_customer;

const TENANTS: &str = "/api/v1/operator/tenants";

/// The fields that may be empty, mail addresses and the Stripe customer besides.
const LINES: [&str; 12] = [
    "legal_name",
    "contact_name",
    "phone",
    "industry",
    "company_size",
    "address_line1",
    "address_line2",
    "city",
    "state_province",
    "postal_code",
    "country",
    "data_residency_region",
];

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
