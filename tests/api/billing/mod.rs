//! `billing`, the routes to buy and to pay by.

use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, stack};

mod checkout;
mod customer_link;
mod overview;
mod status;
mod stripe_failures;

const BILLING: &str = "/api/v1/customer/billing";
const ACME: Who<'static> = Who::Customer("acme");
const BOLT: Who<'static> = Who::Customer("bolt");

/// A world with the two tenants, neither of them known to Stripe.
async fn world() -> (World, Api) {
    let world = World::new().await;
    let tenants = "INSERT INTO tenants (tenant_id, name, billing_email)
                   VALUES ('acme', 'Acme', 'pay@acme.example'), ('bolt', 'Bolt', NULL)";
    world.db.execute(tenants, &[]).await.expect("tenants");
    let api = world.api().await;
    (world, api)
}

fn wanted() -> Value {
    json!({
        "plan_id": "pro", "interval": "month",
        "success_url": "https://app.pulse.example/done?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://app.pulse.example/plans",
    })
}

/// `wanted` with some of it otherwise.
fn but(change: &Value) -> Value {
    let mut body = wanted();
    for (name, value) in change.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

async fn checkout(api: &Api, who: Who<'_>, body: Value) -> Reply {
    api.send(who, "POST", &format!("{BILLING}/checkout"), &[], Some(body)).await
}

async fn checkout_as(api: &Api, key: &str, body: Value) -> Reply {
    api.send(ACME, "POST", &format!("{BILLING}/checkout"), &[("idempotency-key", key)], Some(body))
        .await
}

async fn portal(api: &Api, who: Who<'_>, return_url: &str) -> Reply {
    api.send(
        who,
        "POST",
        &format!("{BILLING}/portal"),
        &[],
        Some(json!({"return_url": return_url})),
    )
    .await
}

async fn stands(api: &Api, who: Who<'_>, session: &str) -> Reply {
    api.get(who, &format!("{BILLING}/checkout/{session}")).await
}

/// What Stripe holds of a kind.
async fn at_stripe(world: &World, kind: &str) -> Vec<Value> {
    let url = format!("{}v1/{kind}?limit=100", world.stripe.base_url());
    let answer = reqwest::Client::new()
        .get(url)
        .bearer_auth(stack("STRIPE_SECRET_KEY"))
        .send()
        .await
        .expect("an answer");
    answer.json::<Value>().await.expect("JSON")["data"].as_array().expect("a list").clone()
}

async fn objects(world: &World) -> (usize, usize) {
    (at_stripe(world, "customers").await.len(), at_stripe(world, "checkout/sessions").await.len())
}

async fn linked(world: &World, tenant: &str) -> Value {
    world.row(&format!("SELECT stripe_customer_id FROM tenants WHERE tenant_id = '{tenant}'")).await
        ["stripe_customer_id"]
        .clone()
}
