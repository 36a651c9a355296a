//! `operations`: an operator finds what they have in hand.

use serde_json::{Value, json};
use tests::World;
use tests::api::{Api, Who};

const SEARCH: &str = "/api/v1/operator/search";

async fn find(api: &Api, typed: &str) -> Vec<Value> {
    let hits = api.get(Who::Operator, &format!("{SEARCH}?q={typed}")).await.expect(200);
    hits["hits"].as_array().expect("hits").clone()
}

#[tokio::test]
async fn an_id_a_mail_address_or_a_name_leads_to_whose_it_is() {
    let world = World::new().await;
    let api = world.api().await;
    world
        .db
        .batch_execute(
            "INSERT INTO tenants (tenant_id, name, legal_name, billing_email, stripe_customer_id)
             VALUES ('acme', 'Acme', 'Acme Works Ltd', 'pay@acme.example', 'cus_acme'),
                    ('bolt', 'Bolt Works', NULL, NULL, NULL);
             INSERT INTO stripe_customer_aliases (stripe_customer_id, tenant_id)
             VALUES ('cus_old', 'bolt');
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
                 device_limit, term_start, term_end, created_by, stripe_subscription_id)
             VALUES ('SUB-2025-0001', 'acme', 'MAIN', 'SUSPENDED', 1, now(),
                     now() + interval '1 day', 'test', 'sub_1');
             INSERT INTO devices (tenant_id, device_id, name, status, registered_at)
             VALUES ('acme', 'DEV-1', 'Pump', 'ACTIVE', now()),
                    ('bolt', 'DEV-1', NULL, 'ACTIVE', now());
             INSERT INTO stripe_events (event_id, event_type, livemode, created_at, recorded_at, status)
             VALUES ('evt_1', 'invoice.paid', false, now(), now(), 'applied')",
        )
        .await
        .expect("things to find");
    let hit = |kind: &str, id: &str, tenant: Value, title: &str, matched: &str| json!({"kind": kind, "id": id, "tenant_id": tenant, "title": title, "matched": matched});
    let acme = |matched: &str| hit("tenant", "acme", json!("acme"), "Acme", matched);
    let bolt = |matched: &str| hit("tenant", "bolt", json!("bolt"), "Bolt Works", matched);
    let main = |matched: &str| {
        hit("subscription", "SUB-2025-0001", json!("acme"), "MAIN SUSPENDED", matched)
    };
    assert_eq!(find(&api, "SUB-2025-0001").await, [main("subscription_id")]);
    assert_eq!(find(&api, "sub_1").await, [main("stripe_subscription_id")]);
    assert_eq!(find(&api, "cus_acme").await, [acme("stripe_customer_id")]);
    assert_eq!(find(&api, "cus_old").await, [bolt("stripe_customer_id")]);
    assert_eq!(find(&api, "Pay@ACME.example").await, [acme("email")]);
    assert_eq!(find(&api, "acme").await, [acme("tenant_id")], "once, though its name has it too");
    assert_eq!(find(&api, "%20work%20").await, [acme("name"), bolt("name")]);
    let event = hit("stripe_event", "evt_1", Value::Null, "invoice.paid", "event_id");
    assert_eq!(find(&api, "evt_1").await, [event]);
    let devices = [
        hit("device", "DEV-1", json!("acme"), "Pump", "device_id"),
        hit("device", "DEV-1", json!("bolt"), "DEV-1", "device_id"),
    ];
    assert_eq!(find(&api, "DEV-1").await, devices);
    assert_eq!(find(&api, "DEV-1&limit=1").await, devices[..1]);
    for nothing in ["nobody", "%25", "'", "SUB-2025-000_", "%5C"] {
        assert_eq!(find(&api, nothing).await, [Value::Null; 0], "{nothing}");
    }
    let faults = api.get(Who::Operator, &format!("{SEARCH}?limit=51")).await.faults();
    assert_eq!(faults, ["limit must be from 1 to 50", "q is required"]);
    let customer = api.get(Who::Customer("acme"), &format!("{SEARCH}?q=acme")).await;
    customer.problem(403, "operator_required");
}
