//! `billing`: what a tenant is entitled to, and its own profile.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::{World, text};

const CHECK: &str = "/api/v1/customer/entitlements/check";
const ENTITLEMENTS: &str = "/api/v1/customer/entitlements";
const ACME: Who<'static> = Who::Customer("acme");

async fn tenant(world: &World, id: &str) {
    world
        .db
        .execute(
            "INSERT INTO tenants (tenant_id, name, billing_email)
                      VALUES ($1, $1, 'pay@acme.example')",
            &[&id],
        )
        .await
        .expect("a tenant");
}

async fn subscription(
    api: &Api,
    tenant: &str,
    kind: &str,
    plan: Option<&str>,
    devices: i64,
    parent: Option<&str>,
) -> String {
    let mut body = json!({"tenant_id": tenant, "subscription_type": kind, "device_limit": devices,
    "plan_id": plan, "parent_subscription_id": parent});
    if parent.is_none() {
        body["term_days"] = json!(365);
    }
    text(&api.create_subscription(body).await["subscription_id"])
}

async fn status(api: &Api, subscription: &str, status: &str) {
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{subscription}"),
        json!({"status": status}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn entitlements_are_pooled_by_family_and_summed_over_the_live_ones() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = subscription(&api, "acme", "MAIN", Some("pro"), 10, None).await;
    let addon = subscription(&api, "acme", "ADDON", None, 5, Some(&main)).await;
    let trial = subscription(&api, "acme", "TRIAL", Some("starter"), 2, None).await;
    for (of, tier, slots) in [(&main, 1, 3), (&addon, 1, 2), (&trial, 2, 4)] {
        let path = format!("/api/v1/operator/subscriptions/{of}/tier-allocations");
        api.write("POST", &path, json!({"tier_id": tier, "slot_limit": slots})).await.expect(201);
    }
    api.send(ACME, "POST", "/api/v1/customer/devices", &[], Some(json!({"device_id": "D-1"})))
        .await
        .expect(201);
    api.send(ACME, "PUT", "/api/v1/customer/devices/D-1/tier", &[], Some(json!({"tier_id": 1})))
        .await
        .expect(200);
    let all = api.get(ACME, ENTITLEMENTS).await.expect(200);
    assert_eq!(all["families"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["devices"], json!({"limit": 17, "used": 1, "remaining": 16}));
    assert_eq!(all["limits"], json!({"alert_rules": 35, "notification_channels": 7, "users": 8}));
    let basic = json!({"tier_id": 1, "name": "basic", "display_name": "Basic", "limit": 5,
        "used": 1, "remaining": 4, "over_limit": false});
    assert_eq!((&all["tiers"][0], &all["families"][0]["tiers"][0]), (&basic, &basic));
    assert_eq!(
        (&all["families"][0]["counting"], &all["families"][0]["live"]),
        (&json!([main, addon]), &json!(true))
    );
    // A suspended family gives nothing, and takes nothing away.
    status(&api, &main, "SUSPENDED").await;
    let less = api.get(ACME, ENTITLEMENTS).await.expect(200);
    assert_eq!(
        (&less["devices"], &less["limits"]["users"]),
        (&json!({"limit": 2, "used": 0, "remaining": 2}), &json!(3))
    );
    let family = &less["families"][0];
    assert_eq!(
        (&family["status"], &family["live"], &family["devices"]),
        (&json!("SUSPENDED"), &json!(false), &json!({"limit": 0, "used": 1, "remaining": 0}))
    );
    assert_eq!(family["tiers"][0]["over_limit"], true);
}

#[tokio::test]
async fn a_check_allows_what_fits_and_refuses_with_the_numbers() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = subscription(&api, "acme", "MAIN", Some("pro"), 2, None).await;
    let ask = async |body: Value| api.send(ACME, "POST", CHECK, &[], Some(body)).await;
    let allowed =
        ask(json!({"resource": "users", "requested": 2, "current_usage": 3})).await.expect(200);
    assert_eq!(
        allowed,
        json!({"allowed": true, "resource": "users", "limit": 5, "used": 3, "remaining": 2})
    );
    let refused = ask(json!({"resource": "users", "current_usage": 5})).await;
    assert_eq!(
        refused.problem(402, "limit_reached"),
        "1 more of users would exceed what was paid for. Used: 5/5. Upgrade your plan."
    );
    assert_eq!(
        (&refused.body["limit"], &refused.body["used"], &refused.body["remaining"]),
        (&json!(5), &json!(5), &json!(0))
    );
    assert_eq!(
        ask(json!({"resource": "devices", "requested": 2})).await.expect(200)["remaining"],
        2
    );
    ask(json!({"resource": "devices", "requested": 3})).await.problem(402, "limit_reached");
    ask(json!({"resource": "tier:basic"})).await.problem(402, "limit_reached");
    let path = format!("/api/v1/operator/subscriptions/{main}/tier-allocations");
    api.write("POST", &path, json!({"tier_id": 1, "slot_limit": 1})).await.expect(201);
    ask(json!({"resource": "tier:basic"})).await.expect(200);
    // What some plan limits, but not this one, is 0; what none does is a mistake.
    api.write(
        "POST",
        "/api/v1/operator/plans",
        json!({"plan_id": "team", "name": "Team", "limits": {"dashboards": 3}}),
    )
    .await
    .expect(201);
    ask(json!({"resource": "dashboards", "current_usage": 0})).await.problem(402, "limit_reached");
    assert_eq!(
        ask(json!({"resource": "unicorns", "current_usage": 0})).await.faults(),
        ["resource is nothing that a plan limits"]
    );
    assert_eq!(
        ask(json!({"resource": "tier:gold"})).await.faults(),
        ["resource is no device tier"]
    );
    assert_eq!(
        ask(json!({"resource": "users"})).await.faults(),
        ["current_usage is required: nobody has reported how many users there are"]
    );
    assert_eq!(
        ask(json!({"requested": 0})).await.faults(),
        ["requested must be from 1 to 1000000000", "resource is required"]
    );
    let own = json!({"resource": "devices", "subscription_id": main});
    ask(own).await.expect(200);
    ask(json!({"resource": "devices", "subscription_id": "SUB-1999-1"}))
        .await
        .problem(404, "subscription_not_found");
    for dead in ["SUSPENDED", "EXPIRED"] {
        status(&api, &main, dead).await;
        for body in [
            json!({"resource": "devices"}),
            json!({"resource": "users", "current_usage": 0}),
            json!({"resource": "tier:basic"}),
        ] {
            ask(body).await.problem(402, "limit_reached");
        }
    }
}

#[tokio::test]
async fn another_service_names_the_tenant_and_a_customer_has_but_one() {
    let world = World::new().await;
    let api = world.api().await;
    for id in ["acme", "bolt"] {
        tenant(&world, id).await;
        subscription(&api, id, "MAIN", Some("pro"), 2, None).await;
    }
    let of_bolt =
        api.get(Who::Service, &format!("{ENTITLEMENTS}?tenant_id=bolt")).await.expect(200);
    assert_eq!(of_bolt["tenant_id"], "bolt");
    let body = json!({"resource": "devices", "tenant_id": "bolt"});
    api.send(Who::Service, "POST", CHECK, &[], Some(body.clone())).await.expect(200);
    assert_eq!(
        api.get(Who::Service, ENTITLEMENTS).await.faults(),
        ["tenant_id is required: a service asks for a tenant"]
    );
    api.get(Who::Service, &format!("{ENTITLEMENTS}?tenant_id=nobody"))
        .await
        .problem(403, "tenant_deleted");
    api.get(ACME, &format!("{ENTITLEMENTS}?tenant_id=bolt")).await.problem(403, "another_tenant");
    api.send(ACME, "POST", CHECK, &[], Some(body)).await.problem(403, "another_tenant");
    assert_eq!(
        api.get(ACME, &format!("{ENTITLEMENTS}?tenant_id=acme")).await.expect(200)["tenant_id"],
        "acme"
    );
    api.get(Who::Service, "/api/v1/customer/devices").await.problem(403, "customer_required");
}

#[tokio::test]
async fn a_customer_changes_their_profile_and_nothing_else() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let path = "/api/v1/customer/organization";
    let reply = api.get(ACME, path).await;
    assert_eq!(reply.header("etag"), "\"1\"");
    let before = reply.expect(200);
    assert_eq!(
        (&before["name"], &before["support_tier"], &before["billing_linked"]),
        (&json!("acme"), &json!("standard"), &json!(false))
    );
    let put = async |body: Value| api.send(ACME, "PUT", path, &[], Some(body)).await;
    let changed = put(json!({"name": "Acme Ltd", "billing_email": null, "country": "DE"})).await;
    assert_eq!(changed.header("etag"), "\"2\"");
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["status"], &changed["name"], &changed["billing_email"], &changed["country"]),
        (&json!("ACTIVE"), &json!("Acme Ltd"), &Value::Null, &json!("DE"))
    );
    put(json!({"country": "DE"})).await.expect(200);
    assert_eq!(put(json!({})).await.problem(400, "no_fields"), "No fields to update");
    assert_eq!(
        put(json!({"support_tier": "business", "stripe_customer_id": "cus_x", "status": "ACTIVE",
        "billing_email": "nobody"}))
        .await
        .faults()
        .len(),
        4,
        "what is not theirs is no field of this request"
    );
    api.send(ACME, "PUT", path, &[("if-match", "\"1\"")], Some(json!({"city": "Kiel"})))
        .await
        .problem(412, "version_changed");
    let row = world
        .row(
            "SELECT event_type, actor_type, tenant_id, previous_state, new_state
                         FROM subscription_audit",
        )
        .await;
    assert_eq!(
        (&row["event_type"], &row["actor_type"], &row["tenant_id"]),
        (&json!("ORGANIZATION_UPDATED"), &json!("customer"), &json!("acme"))
    );
    assert_eq!(
        (&row["previous_state"]["name"], &row["new_state"]["name"]),
        (&json!("acme"), &json!("Acme Ltd"))
    );
}
