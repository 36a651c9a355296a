//! What a change or an end would do, before it is done.

use serde_json::{Value, json};
use tests::World;
use tests::api::{Api, Reply, Who};

use super::{addon_of, main_of, managed_by_stripe, path, tenant};

/// All that a preview might change.
async fn stored(world: &World) -> Vec<Value> {
    let mut all = world.rows("SELECT * FROM subscriptions ORDER BY subscription_id").await;
    all.extend(world.rows("SELECT * FROM subscription_tier_allocations ORDER BY id").await);
    for table in ["subscription_audit", "outbox_steps"] {
        all.push(json!(world.count(table).await));
    }
    all
}

async fn tried(api: &Api, method: &str, path: &str, body: Option<Value>) -> Reply {
    let sign = if path.contains('?') { '&' } else { '?' };
    api.send(Who::Admin, method, &format!("{path}{sign}dry_run=true"), &[], body).await
}

fn slots(tier: i32, [old, new, used]: [i64; 3]) -> Value {
    json!({"tier_id": tier, "old": old, "new": new, "used": used, "over_limit": used > new})
}

#[tokio::test]
async fn a_dry_run_of_a_change_says_what_the_change_then_does() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let addon = addon_of(&api, &main).await;
    let main_path = path(&main);
    api.write("POST", &format!("{main_path}/sync-tier-allocations"), json!({})).await.expect(200);
    let used = "UPDATE subscription_tier_allocations SET slots_used = 60, counted_by_hand = true
                WHERE tenant_id = 'acme' AND tier_id = 1";
    world.db.execute(used, &[]).await.expect("slots in use");
    let before = stored(&world).await;
    let change =
        json!({"plan_id": "starter", "device_limit": 50, "term_end": "2030-01-01T00:00:00Z"});
    let preview = tried(&api, "PATCH", &main_path, Some(change.clone())).await.expect(200);
    assert_eq!(stored(&world).await, before, "nothing is changed");

    assert_eq!(preview["refused"], Value::Null);
    assert_eq!(preview["stripe_cancellation"], false);
    let moved = preview["addons"].as_array().expect("ADDONs");
    assert_eq!(moved.len(), 1, "its term ends with its parent's");
    assert_eq!(moved[0]["subscription_id"], addon["subscription_id"]);
    assert_eq!(moved[0]["term_end"], "2030-01-01T00:00:00Z");

    let limits = "SELECT tier_id, slot_limit FROM subscription_tier_allocations
                  WHERE tenant_id = 'acme' ORDER BY tier_id";
    let old = world.rows(limits).await;
    let done = api.write("PATCH", &main_path, change).await.expect(200);
    let new = world.rows(limits).await;
    for (field, value) in preview["subscription"].as_object().expect("a subscription") {
        if field != "updated_at" {
            assert_eq!(*value, done[field], "{field}");
        }
    }
    let effects = preview["allocations"].as_array().expect("slots");
    assert_eq!(effects.len(), new.len());
    assert!(effects.iter().any(|effect| effect["over_limit"] == true), "{preview}");
    for (effect, now) in effects.iter().zip(&new) {
        assert_eq!([&effect["tier_id"], &effect["new"]], [&now["tier_id"], &now["slot_limit"]]);
        let was = old.iter().find(|was| was["tier_id"] == now["tier_id"]);
        assert_eq!(effect["old"], was.map_or(json!(0), |was| was["slot_limit"].clone()));
    }
}

#[tokio::test]
async fn a_dry_run_of_an_end_says_what_ends_or_why_it_cannot() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let addon = addon_of(&api, &main).await;
    let main_path = path(&main);
    let allocation = json!({"tier_id": 2, "slot_limit": 3});
    api.write("POST", &format!("{main_path}/tier-allocations"), allocation).await.expect(201);
    let device = json!({"tenant_id": "acme", "device_id": "D-1"});
    api.write("POST", "/api/v1/operator/devices", device).await.expect(201);
    let before = stored(&world).await;

    let refused = tried(&api, "DELETE", &main_path, None).await.expect(200);
    assert_eq!(refused["refused"]["code"], "devices_assigned");
    let detail = tests::text(&refused["refused"]["detail"]);
    assert!(detail.starts_with("Devices are still assigned: 1."), "{detail}");
    assert_eq!(refused["subscription"]["status"], "ACTIVE");
    assert_eq!(refused["allocations"], json!([slots(2, [3, 3, 0])]));
    assert_eq!(refused["addons"], json!([]));

    let forced = tried(&api, "DELETE", &format!("{main_path}?force=true"), None).await.expect(200);
    assert_eq!(forced["refused"], Value::Null);
    assert_eq!(forced["subscription"]["status"], "EXPIRED");
    assert_eq!(forced["allocations"], json!([slots(2, [3, 0, 0])]));
    assert_eq!(forced["addons"][0]["subscription_id"], addon["subscription_id"]);
    assert_eq!(forced["addons"][0]["status"], "EXPIRED");
    assert_eq!(stored(&world).await, before);

    // A PATCH that ends it is refused alike, and one of a Stripe-managed one says what to choose.
    let ends = json!({"status": "EXPIRED"});
    let ends = tried(&api, "PATCH", &main_path, Some(ends)).await.expect(200);
    assert_eq!(ends["refused"]["code"], "devices_assigned");
    managed_by_stripe(&world, &main, "sub_1").await;
    let managed = tried(&api, "DELETE", &format!("{main_path}?force=true"), None).await;
    assert_eq!(managed.expect(200)["refused"]["code"], "stripe_managed");
    let before = stored(&world).await;
    let by_stripe = format!("{main_path}?force=true&mode=stripe");
    let by_stripe = tried(&api, "DELETE", &by_stripe, None).await.expect(200);
    assert_eq!(by_stripe["stripe_cancellation"], true);
    assert_eq!(by_stripe["subscription"]["status"], "ACTIVE", "Stripe's event ends it");
    assert_eq!(stored(&world).await, before, "Stripe is not asked");
}

#[tokio::test]
async fn what_is_wrong_with_the_request_itself_is_refused_in_a_dry_run_too() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = path(&main_of(&api, "acme").await);
    let tag = [("if-match", "\"9\"")];
    let body = json!({"device_limit": 5});
    let path = format!("{main}?dry_run=true");
    let stale = api.send(Who::Admin, "PATCH", &path, &tag, Some(body.clone())).await;
    stale.problem(412, "version_changed");
    let stale = api.send(Who::Admin, "DELETE", &path, &tag, None).await;
    stale.problem(412, "version_changed");
    tried(&api, "PATCH", &main, Some(json!({}))).await.problem(400, "no_fields");
    let plan = json!({"plan_id": "none"});
    tried(&api, "PATCH", &main, Some(plan)).await.problem(404, "plan_not_found");
    let unknown = format!("{}/SUB-2020-9999", super::SUBSCRIPTIONS);
    tried(&api, "DELETE", &unknown, None).await.problem(404, "subscription_not_found");
    let reader = api.send(Who::Operator, "PATCH", &path, &[], Some(body)).await;
    reader.problem(403, "operator_admin_required");
}
