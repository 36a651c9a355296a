//! An operator reads the subscriptions.

use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::{SUBSCRIPTIONS, addon_of, main_of, managed_by_stripe, path, tenant};

#[tokio::test]
async fn the_list_knows_every_filter_and_pages_by_the_end_of_the_term() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let addon = addon_of(&api, &main).await;
    managed_by_stripe(&world, &addon, "sub_addon").await;
    let over = json!({"tenant_id": "acme", "subscription_type": "TEMPORARY", "device_limit": 1,
    "term_start": "2024-01-01T00:00:00Z", "term_end": "2025-01-01T00:00:00Z"});
    let over = api.write("POST", SUBSCRIPTIONS, over).await.expect(201);
    let soon = json!({"tenant_id": "acme", "subscription_type": "TRIAL", "device_limit": 1,
    "term_days": 3, "plan_id": "starter"});
    let soon = api.write("POST", SUBSCRIPTIONS, soon).await.expect(201);
    let ids = async |query: &str| {
        let answer = api.get(Who::Operator, &format!("{SUBSCRIPTIONS}?{query}")).await.expect(200);
        let items = answer["subscriptions"].as_array().expect("a list").clone();
        assert_eq!(answer["count"], items.len());
        items.iter().map(|item| item["subscription_id"].clone()).collect::<Vec<_>>()
    };
    let id = |of: &Value| of["subscription_id"].clone();
    let all = [id(&over), id(&soon), id(&main), id(&addon)];
    assert_eq!(ids("tenant_id=acme").await, all);
    assert_eq!(ids("tenant_id=acme&expiring_days=0").await, all[..1]);
    assert_eq!(ids("tenant_id=acme&expiring_days=3").await, all[..2]);
    assert_eq!(ids("tenant_id=acme&subscription_type=ADDON").await, all[3..]);
    assert_eq!(ids("tenant_id=acme&status=ACTIVE&plan_id=pro").await, all[2..3]);
    assert_eq!(ids("stripe_subscription_id=sub_addon").await, all[3..]);
    let year = "ends_from=2025-01-01T00:00:00Z&ends_to=2025-01-01T00:00:01Z";
    assert_eq!(ids(year).await, all[..1], "from a time on, and before another");
    assert_eq!(ids("ends_from=2025-01-01T00:00:01Z&tenant_id=acme").await, all[1..]);
    assert_eq!(ids("ends_to=2025-01-01T00:00:00Z").await, Vec::<Value>::new());
    assert_eq!(ids("held=true").await, Vec::<Value>::new());
    let hold = "UPDATE subscriptions SET hold_reason = 'a promise', held_by = 'op', held_at = now()
                WHERE stripe_subscription_id = 'sub_addon'";
    world.db.execute(hold, &[]).await.expect("held");
    assert_eq!(ids("held=true").await, all[3..]);
    assert_eq!(ids("held=false&tenant_id=acme").await, all, "only where it is asked for");
    assert_eq!(ids("status=SUSPENDED").await, Vec::<Value>::new());
    let pages = format!("{SUBSCRIPTIONS}?tenant_id=acme&limit=1");
    let seen = api.pages(Who::Operator, &pages, "subscriptions").await;
    let seen: Vec<_> = seen.iter().map(id).collect();
    assert_eq!(seen, all, "equal ends are in the order of the ids");
    let shown = api
        .get(Who::Operator, &format!("{SUBSCRIPTIONS}?tenant_id=acme&plan_id=pro"))
        .await
        .expect(200)["subscriptions"][0]
        .clone();
    for name in [
        "tenant_name",
        "plan_id",
        "active_device_count",
        "term_start",
        "description",
        "parent_subscription_id",
        "effective_status",
    ] {
        assert!(shown.get(name).is_some(), "{name}");
    }
    assert_eq!(
        api.get(Who::Operator, &format!("{SUBSCRIPTIONS}?expiring_days=-1")).await.faults(),
        ["expiring_days must be from 0 to 36500"]
    );
}

#[tokio::test]
async fn the_detail_has_the_first_hundred_devices_their_count_the_slots_and_the_addons() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let addon = addon_of(&api, &main).await;
    api.write("POST", &format!("{}/sync-tier-allocations", path(&main)), json!({}))
        .await
        .expect(200);
    let sql = "INSERT INTO devices (tenant_id, device_id, site_id, subscription_id, registered_at)
               SELECT 'acme', 'D-' || lpad(n::text, 3, '0'), 'S', $1, now()
               FROM generate_series(1, 105) n";
    world.db.execute(sql, &[&text(&main["subscription_id"])]).await.expect("devices");
    let detail = api.get(Who::Operator, &path(&main)).await;
    assert_eq!(detail.header("etag"), "\"1\"");
    let detail = detail.expect(200);
    let devices = detail["devices"].as_array().expect("devices");
    assert_eq!((&detail["device_count"], devices.len()), (&json!(105), 100));
    assert_eq!(
        (&devices[99]["device_id"], &devices[0]["site_id"], &devices[0]["status"]),
        (&json!("D-100"), &json!("S"), &json!("ACTIVE"))
    );
    assert!(devices[0].get("last_seen_at").is_some());
    assert_eq!(detail["allocations"].as_array().map(Vec::len), Some(3));
    assert_eq!(detail["child_subscriptions"][0]["subscription_id"], addon["subscription_id"]);
    assert_eq!(detail["tenant_name"], "acme");
    assert_eq!(
        api.get(Who::Operator, &path(&addon)).await.expect(200)["child_subscriptions"],
        json!([])
    );
    api.get(Who::Operator, &format!("{SUBSCRIPTIONS}/SUB-1999-1"))
        .await
        .problem(404, "subscription_not_found");
}
