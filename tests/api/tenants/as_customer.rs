//! What an operator sees as a tenant's customer.

use serde_json::json;
use tests::World;
use tests::api::Who;

#[tokio::test]
async fn an_operator_sees_what_the_customer_sees_and_nothing_else() {
    let world = World::new().await;
    let tenants = "INSERT INTO tenants (tenant_id, name, status) VALUES ('acme', 'Acme', 'ACTIVE'),
                   ('bolt', 'Bolt', 'ACTIVE'), ('gone', 'Gone', 'DELETED')";
    world.db.execute(tenants, &[]).await.expect("tenants");
    let api = world.api().await;
    for (tenant, devices) in [("acme", 7), ("bolt", 9)] {
        api.create_subscription(json!({"tenant_id": tenant, "subscription_type": "MAIN",
            "plan_id": "pro", "device_limit": devices, "term_days": 365}))
            .await;
    }
    for part in ["entitlements", "billing/status", "organization"] {
        let viewed = |tenant: &str| format!("/api/v1/operator/tenants/{tenant}/customer/{part}");
        let mut seen = Vec::new();
        for tenant in ["acme", "bolt"] {
            let own = format!("/api/v1/customer/{part}");
            let own = api.get(Who::Customer(tenant), &own).await.expect(200);
            assert_eq!(api.get(Who::Operator, &viewed(tenant)).await.expect(200), own, "{part}");
            seen.push(own);
        }
        assert_ne!(seen[0], seen[1], "{part}: of the tenant that is named");
        api.get(Who::Operator, &viewed("nobody")).await.problem(404, "tenant_not_found");
        api.get(Who::Operator, &viewed("gone")).await.problem(409, "tenant_deleted");
        api.get(Who::Customer("acme"), &viewed("acme")).await.problem(403, "operator_required");
        let write = api.send(Who::Admin, "PUT", &viewed("acme"), &[], Some(json!({}))).await;
        write.problem(405, "method_not_allowed");
    }
}
