//! `tenants`: the users of customer companies, who live in Keycloak.

use serde_json::{Value, json};
use simulators::keycloak::User;
use tests::api::{Api, SOURCE_IP};
use tests::{World, text};

pub(super) mod keycloak;
mod lifecycle;
mod scope;

const USERS: &str = "/api/v1/operator/users";
const TENANTS: &str = "/api/v1/operator/tenants";

async fn api(world: &World) -> Api {
    let api = world.api().await;
    for tenant in ["acme", "other"] {
        api.write("POST", TENANTS, json!({"tenant_id": tenant, "name": tenant})).await.expect(201);
    }
    api
}

fn jane() -> Value {
    json!({"tenant_id": "acme", "email": "Jane@Acme.example", "first_name": "Jane",
        "last_name": "Doe"})
}

/// A user that was there before.
fn user(email: &str, tenant: Option<&str>, roles: &[&str]) -> User {
    User {
        username: email.to_owned(),
        email: Some(email.to_owned()),
        enabled: true,
        attributes: tenant
            .map(|tenant| ("tenant_id".to_owned(), vec![tenant.to_owned()]))
            .into_iter()
            .collect(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..User::default()
    }
}

/// What was done with users, in order, each with its states.
async fn audit(world: &World) -> Vec<Value> {
    let sql = "SELECT event_type AS event, tenant_id AS tenant, details->>'user_id' AS user,
               previous_state->'enabled' AS before, new_state->'enabled' AS after
               FROM subscription_audit WHERE event_type NOT LIKE 'TENANT%' ORDER BY id";
    let strangers = world
        .count(&format!(
            "subscription_audit WHERE actor_type <> 'admin' OR ip_address <> '{SOURCE_IP}'"
        ))
        .await;
    assert_eq!(strangers, 0);
    world.rows(sql).await
}

fn row(event: &str, user: &Value) -> Value {
    let (before, after) = match event {
        "USER_ENABLED" => (json!(false), json!(true)),
        "USER_DISABLED" => (json!(true), json!(false)),
        _ => (Value::Null, Value::Null),
    };
    json!({"event": event, "tenant": "acme", "user": user["id"], "before": before, "after": after})
}

fn path(user: &Value) -> String {
    format!("{USERS}/{}", text(&user["id"]))
}
