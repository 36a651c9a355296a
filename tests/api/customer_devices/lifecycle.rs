//! A customer registers, moves and removes devices, and reaches no device of another tenant.

use std::fmt::Write;

use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::{ACME, DEVICES, allocate, assign, register, slots, subscription, tenant};

async fn audit(world: &World) -> Vec<String> {
    let rows = world
        .rows(
            "SELECT event_type, actor_type, tenant_id FROM subscription_audit
                           WHERE device_id IS NOT NULL ORDER BY id",
        )
        .await;
    assert!(
        rows.iter().all(|row| row["actor_type"] == "customer" && row["tenant_id"] == "acme"),
        "{rows:?}"
    );
    rows.iter().map(|row| text(&row["event_type"])).collect()
}

#[tokio::test]
async fn a_device_lives_from_its_registration_to_its_decommissioning() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 2).await;
    allocate(&api, &main, 2, 1).await;
    let body = json!({"device_id": "DEV-1", "name": "Pump", "site_id": "north"});
    let device = api
        .send(ACME, "POST", DEVICES, &[("idempotency-key", "k")], Some(body.clone()))
        .await
        .expect(201);
    assert_eq!(
        (&device["subscription_id"], &device["name"], &device["tier_id"]),
        (&json!(main), &json!("Pump"), &Value::Null)
    );
    assert_eq!(
        api.send(ACME, "POST", DEVICES, &[("idempotency-key", "k")], Some(body)).await.expect(201),
        device
    );
    assert_eq!(
        register(&api, "DEV-1").await.problem(409, "device_exists"),
        "Device 'DEV-1' already exists"
    );
    assert_eq!(
        assign(&api, "DEV-1", 2).await.expect(200),
        json!({"status": "ok", "device_id": "DEV-1", "tier_id": 2, "tier_name": "Standard"})
    );
    let detail = api.get(ACME, &format!("{DEVICES}/DEV-1")).await.expect(200);
    assert_eq!(
        (&detail["tier_id"], &detail["tier_name"], &detail["tier_display_name"]),
        (&json!(2), &json!("standard"), &json!("Standard"))
    );
    register(&api, "DEV-2").await.expect(201);
    let full = register(&api, "DEV-3").await;
    assert_eq!(
        full.problem(402, "device_limit_reached"),
        "No room for another device. Used: 2/2. Upgrade your plan or remove a device."
    );
    assert_eq!(
        (&full.body["limit"], &full.body["used"], &full.body["remaining"]),
        (&json!(2), &json!(2), &json!(0))
    );
    let gone = api.send(ACME, "DELETE", &format!("{DEVICES}/DEV-1"), &[], None).await.expect(200);
    assert_eq!(gone, json!({"status": "ok", "device_id": "DEV-1"}));
    assert_eq!(slots(&world, &main, 2).await, 0, "its slot is free");
    api.get(ACME, &format!("{DEVICES}/DEV-1")).await.problem(404, "device_not_found");
    api.send(ACME, "DELETE", &format!("{DEVICES}/DEV-1"), &[], None)
        .await
        .problem(404, "device_not_found");
    let again = register(&api, "DEV-1").await.expect(201);
    assert_eq!(
        (&again["name"], &again["tier_id"], &again["status"]),
        (&Value::Null, &Value::Null, &json!("ACTIVE")),
        "again, with nothing of before"
    );
    let list = api.get(ACME, &format!("{DEVICES}?limit=1")).await.expect(200);
    let rest = api
        .get(ACME, &format!("{DEVICES}?cursor={}", text(&list["next_cursor"])))
        .await
        .expect(200);
    assert_eq!(
        (&list["devices"][0]["device_id"], &rest["devices"][0]["device_id"], &rest["next_cursor"]),
        (&json!("DEV-1"), &json!("DEV-2"), &Value::Null)
    );
    let expected = [
        "DEVICE_REGISTERED",
        "DEVICE_TIER_ASSIGNED",
        "DEVICE_REGISTERED",
        "DEVICE_DECOMMISSIONED",
        "DEVICE_REGISTERED",
    ];
    assert_eq!(audit(&world).await, expected);
}

/// Trap 35: another tenant's things are as if they were not, and the answer is the same to the
/// word.
#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, &api, "acme", 5).await;
    let others = tenant(&world, &api, "bolt", 5).await;
    allocate(&api, &others, 1, 5).await;
    let theirs = api
        .send(Who::Customer("bolt"), "POST", DEVICES, &[], Some(json!({"device_id": "THEIRS"})))
        .await
        .expect(201);
    assert_eq!(theirs["subscription_id"], json!(others));
    register(&api, "OURS").await.expect(201);
    for (method, path, body) in [
        ("GET", "{}", None),
        ("DELETE", "{}", None),
        ("PUT", "{}/tier", Some(json!({"tier_id": 1}))),
        ("DELETE", "{}/tier", None),
        ("POST", "{}/subscription", Some(json!({"subscription_id": others}))),
    ] {
        let ask = async |device: &str| {
            api.send(
                ACME,
                method,
                &format!("{DEVICES}/{}", path.replace("{}", device)),
                &[],
                body.clone(),
            )
            .await
        };
        let (existing, missing) = (ask("THEIRS").await, ask("NOWHERE").await);
        assert_eq!(
            existing.problem(404, "device_not_found"),
            missing.problem(404, "device_not_found"),
            "{method} {path}"
        );
    }
    let to_theirs = |id: &str| json!({"subscription_id": id});
    let moved = async |id: &str| {
        api.send(ACME, "POST", &format!("{DEVICES}/OURS/subscription"), &[], Some(to_theirs(id)))
            .await
            .problem(404, "subscription_not_found")
    };
    assert_eq!(moved(&others).await, moved("SUB-1999-1").await);
    let there = json!({"device_id": "NEW", "subscription_id": others});
    api.send(ACME, "POST", DEVICES, &[], Some(there)).await.problem(404, "subscription_not_found");
    let bulk = json!({"tier_id": 1, "device_ids": ["THEIRS", "NOWHERE"]});
    let results = api
        .send(ACME, "POST", &format!("{DEVICES}/tier-assignments"), &[], Some(bulk))
        .await
        .expect(200)["results"]
        .clone();
    assert_eq!(
        (&results[0]["code"], &results[0]["detail"]),
        (&results[1]["code"], &results[1]["detail"])
    );
    let list = api.get(ACME, DEVICES).await.expect(200);
    assert_eq!((&list["count"], &list["devices"][0]["device_id"]), (&json!(1), &json!("OURS")));
    assert_eq!(
        api.get(ACME, &format!("{DEVICES}?subscription_id={others}")).await.expect(200)["count"],
        0
    );
    assert_eq!(
        world.row("SELECT tier_id, status FROM devices WHERE device_id = 'THEIRS'").await,
        json!({"tier_id": null, "status": "ACTIVE"})
    );
    // A tenant that is gone, or never was: the token opens nothing.
    world
        .db
        .execute("UPDATE tenants SET status = 'DELETED' WHERE tenant_id = 'bolt'", &[])
        .await
        .expect("deleted");
    api.get(Who::Customer("bolt"), DEVICES).await.problem(403, "tenant_deleted");
    api.get(Who::Customer("nobody"), DEVICES).await.problem(403, "tenant_deleted");
}

#[tokio::test]
async fn an_own_device_moves_with_its_slot_to_another_own_subscription() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 5).await;
    let other = subscription(&api, "acme", "TEMPORARY", 1, None).await;
    allocate(&api, &main, 1, 2).await;
    register(&api, "D-1").await.expect(201);
    register(&api, "D-2").await.expect(201);
    assign(&api, "D-1", 1).await.expect(200);
    let go = async |device: &str, to: &str| {
        api.send(
            ACME,
            "POST",
            &format!("{DEVICES}/{device}/subscription"),
            &[],
            Some(json!({"subscription_id": to})),
        )
        .await
    };
    go("D-1", &other).await.problem(409, "no_free_slot");
    allocate(&api, &other, 1, 1).await;
    assert_eq!(go("D-1", &other).await.expect(200)["previous_subscription_id"], json!(main));
    assert_eq!((slots(&world, &main, 1).await, slots(&world, &other, 1).await), (0, 1));
    assert_eq!(
        go("D-2", &other).await.problem(400, "device_limit_reached"),
        "Subscription at device limit"
    );
    go("D-1", &other).await.expect(200);
    assert_eq!(
        audit(&world).await,
        ["DEVICE_REGISTERED", "DEVICE_REGISTERED", "DEVICE_TIER_ASSIGNED", "DEVICE_REASSIGNED"]
    );
}

#[tokio::test]
async fn customers_see_the_tiers_on_offer_only() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, &api, "acme", 1).await;
    api.write("PUT", "/api/v1/operator/device-tiers/3", json!({"is_active": false}))
        .await
        .expect(200);
    let answer = api.get(ACME, "/api/v1/customer/device-tiers").await.expect(200);
    let names: Vec<String> =
        answer["tiers"].as_array().expect("tiers").iter().map(|tier| text(&tier["name"])).collect();
    assert_eq!(names, ["basic", "standard"]);
    assert_eq!(
        (
            &answer["tiers"][0]["features"]["alerts"],
            &answer["tiers"][0]["addon_monthly_price_cents"]
        ),
        (&json!(true), &json!(100))
    );
    assert!(answer["tiers"][0].get("version").is_none());
}

/// What each status allows, for every type.
#[tokio::test]
async fn what_each_status_allows_is_the_reviewed_table() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 50).await;
    allocate(&api, &main, 1, 50).await;
    let mut table = String::new();
    for kind in ["MAIN", "TRIAL", "TEMPORARY", "ADDON"] {
        let of = subscription(&api, "acme", kind, 20, (kind == "ADDON").then_some(&*main)).await;
        allocate(&api, &of, 1, 20).await;
        for status in ["TRIAL", "ACTIVE", "GRACE", "SUSPENDED", "EXPIRED"] {
            let held = format!("{kind}-{status}-held");
            let path = format!("/api/v1/operator/subscriptions/{of}");
            api.write("PATCH", &path, json!({"status": "ACTIVE"})).await.expect(200);
            api.send(
                ACME,
                "POST",
                DEVICES,
                &[],
                Some(json!({"device_id": held, "subscription_id": of})),
            )
            .await
            .expect(201);
            let grace = if status == "GRACE" { "now() + interval '1 day'" } else { "NULL" };
            let sql = format!(
                "UPDATE subscriptions SET status = '{status}', grace_end = {grace}
                 WHERE subscription_id = '{of}'"
            );
            world.db.execute(&sql, &[]).await.expect("a status");
            let new = api
                .send(
                    ACME,
                    "POST",
                    DEVICES,
                    &[],
                    Some(
                        json!({"device_id": format!("{kind}-{status}-new"), "subscription_id": of}),
                    ),
                )
                .await
                .status;
            let tier = assign(&api, &held, 1).await.status;
            let moved = api
                .send(
                    ACME,
                    "POST",
                    &format!("{DEVICES}/{held}/subscription"),
                    &[],
                    Some(json!({"subscription_id": main})),
                )
                .await
                .status;
            writeln!(table, "{kind} {status}: device {new}, tier {tier}, leave {moved}")
                .expect("written");
        }
    }
    tests::reviewed("tests/api/allowed.txt", &table);
}
