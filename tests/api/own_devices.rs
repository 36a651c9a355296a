//! `device-tier`, the customers' routes: own devices, inside what was paid for.

use std::fmt::Write;

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Reply, Who};
use tests::{World, text};

const DEVICES: &str = "/api/v1/customer/devices";
const ACME: Who<'static> = Who::Customer("acme");

/// A tenant with a MAIN of this many places; its id.
async fn tenant(world: &World, api: &Api, id: &str, devices: i64) -> String {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", &[&id])
        .await
        .expect("a tenant");
    subscription(api, id, "MAIN", devices, None).await
}

async fn subscription(
    api: &Api,
    tenant: &str,
    kind: &str,
    devices: i64,
    parent: Option<&str>,
) -> String {
    let mut body = json!({"tenant_id": tenant, "subscription_type": kind, "device_limit": devices,
    "parent_subscription_id": parent});
    if parent.is_none() {
        body["term_days"] = json!(365);
    }
    text(&api.create_subscription(body).await["subscription_id"])
}

async fn allocate(api: &Api, subscription: &str, tier: i64, slots: i64) {
    let path = format!("/api/v1/operator/subscriptions/{subscription}/tier-allocations");
    api.write("POST", &path, json!({"tier_id": tier, "slot_limit": slots})).await.expect(201);
}

async fn register(api: &Api, device: &str) -> Reply {
    api.send(ACME, "POST", DEVICES, &[], Some(json!({"device_id": device}))).await
}

async fn assign(api: &Api, device: &str, tier: i64) -> Reply {
    api.send(ACME, "PUT", &format!("{DEVICES}/{device}/tier"), &[], Some(json!({"tier_id": tier})))
        .await
}

async fn remove(api: &Api, device: &str) -> Reply {
    api.send(ACME, "DELETE", &format!("{DEVICES}/{device}/tier"), &[], None).await
}

async fn slots(world: &World, subscription: &str, tier: i32) -> i64 {
    let sql = format!(
        "SELECT coalesce(sum(slots_used), 0) AS n FROM subscription_tier_allocations
         WHERE subscription_id = '{subscription}' AND tier_id = {tier}"
    );
    world.row(&sql).await["n"].as_i64().expect("a number")
}

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
        "anew, with nothing of before"
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

/// The order of the refusals, each with the words that tell a person what to do.
#[tokio::test]
async fn a_tier_is_refused_for_the_first_reason_that_applies() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 5).await;
    assert_eq!(
        assign(&api, "DEV-1", 99).await.problem(404, "device_not_found"),
        "Device not found"
    );
    let loose = json!({"tenant_id": "acme", "device_id": "LOOSE", "subscription_id": null});
    api.write("POST", "/api/v1/operator/devices", loose).await.expect(201);
    assert_eq!(
        assign(&api, "LOOSE", 99).await.problem(404, "tier_not_found"),
        "Device tier not found or inactive"
    );
    assert_eq!(
        assign(&api, "LOOSE", 2).await.problem(400, "no_subscription"),
        "Device has no subscription assigned. Assign a subscription first."
    );
    register(&api, "DEV-1").await.expect(201);
    register(&api, "DEV-2").await.expect(201);
    let none = assign(&api, "DEV-1", 2).await;
    assert_eq!(
        none.problem(402, "tier_not_in_plan"),
        "Your plan does not include Standard tier slots. Upgrade your plan."
    );
    allocate(&api, &main, 2, 1).await;
    assign(&api, "DEV-1", 2).await.expect(200);
    let full = assign(&api, "DEV-2", 2).await;
    assert_eq!(
        full.problem(402, "no_free_slot"),
        "No available Standard slots. Used: 1/1. Upgrade your plan or reassign another device."
    );
    assert_eq!((&full.body["limit"], &full.body["used"]), (&json!(1), &json!(1)));
    let tier = "/api/v1/operator/device-tiers/2";
    api.write("PUT", tier, json!({"is_active": false})).await.expect(200);
    assert_eq!(
        assign(&api, "DEV-1", 2).await.problem(404, "tier_not_found"),
        "Device tier not found or inactive"
    );
    api.write("PUT", tier, json!({"is_active": true})).await.expect(200);
    // What it has already is no new assignment, even where nothing new is given.
    api.write(
        "PATCH",
        &format!("/api/v1/operator/subscriptions/{main}"),
        json!({"status": "SUSPENDED"}),
    )
    .await
    .expect(200);
    assign(&api, "DEV-1", 2).await.expect(200);
    assert_eq!(
        assign(&api, "DEV-2", 2).await.problem(402, "subscription_not_live"),
        "The subscription is SUSPENDED."
    );
    remove(&api, "DEV-1").await.expect(200);
    assert_eq!(remove(&api, "DEV-1").await.expect(200)["tier_id"], Value::Null);
    assert_eq!(slots(&world, &main, 2).await, 0);
    assert_eq!(assign(&api, "DEV-1", 0).await.faults(), ["tier_id must be from 1 to 2147483647"]);
}

/// Trap 23: 64 for the last ten, in-process on eight connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_at_once_for_the_last_ten_slots_ten_succeed() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 100).await;
    let addon = subscription(&api, "acme", "ADDON", 1, Some(&main)).await;
    allocate(&api, &main, 1, 6).await;
    allocate(&api, &addon, 1, 4).await;
    for n in 0..64 {
        register(&api, &format!("D-{n}")).await.expect(201);
    }
    let replies = join_all((0..64).map(|n| {
        let api = &api;
        async move { assign(api, &format!("D-{n}"), 1).await }
    }))
    .await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 10);
    assert!(
        replies.iter().all(|reply| reply.status == 200 || reply.body["code"] == "no_free_slot"),
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    assert_eq!(
        (slots(&world, &main, 1).await, world.count("devices WHERE tier_id = 1").await),
        (10, 10)
    );
    // Trap 24: the same one by many.
    let holder = text(
        &world.row("SELECT device_id FROM devices WHERE tier_id = 1 LIMIT 1").await["device_id"],
    );
    let replies = join_all((0..32).map(|_| remove(&api, &holder))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(slots(&world, &main, 1).await, 9);
    assert_eq!(world.count("subscription_audit WHERE event_type = 'DEVICE_TIER_REMOVED'").await, 1);
}

/// Trap 48: the ADDON ends while 64 ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_addon_that_ends_while_many_ask_gives_nothing_after_its_end() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 100).await;
    let addon = subscription(&api, "acme", "ADDON", 1, Some(&main)).await;
    allocate(&api, &main, 1, 5).await;
    allocate(&api, &addon, 1, 40).await;
    for n in 0..64 {
        register(&api, &format!("D-{n}")).await.expect(201);
    }
    let ending = async {
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        api.send(
            Who::Admin,
            "DELETE",
            &format!("/api/v1/operator/subscriptions/{addon}"),
            &[],
            None,
        )
        .await
        .expect(200);
    };
    let asking = join_all((0..64).map(|n| {
        let api = &api;
        async move { assign(api, &format!("D-{n}"), 1).await.status }
    }));
    let (statuses, ()) = tokio::join!(asking, ending);
    let given =
        i64::try_from(statuses.iter().filter(|status| **status == 200).count()).expect("small");
    assert!(
        (5..=45).contains(&given) && statuses.iter().all(|status| matches!(status, 200 | 402)),
        "{statuses:?}"
    );
    assert_eq!(
        (slots(&world, &main, 1).await, world.count("devices WHERE tier_id = 1").await),
        (given, given),
        "who has one keeps it"
    );
    let free = text(
        &world.row("SELECT device_id AS id FROM devices WHERE tier_id IS NULL LIMIT 1").await["id"],
    );
    let refused = assign(&api, &free, 1).await;
    refused.problem(402, "no_free_slot");
    assert_eq!((&refused.body["limit"], &refused.body["used"]), (&json!(5), &json!(given)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_registrations_at_once_for_the_last_ten_places_ten_succeed() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 10).await;
    let replies = join_all((0..64).map(|n| {
        let api = &api;
        async move { register(api, &format!("D-{n}")).await }
    }))
    .await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 10);
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 201 || reply.body["code"] == "device_limit_reached")
    );
    assert_eq!(world.count("devices").await, 10);
    assert_eq!(world.row(&format!(
        "SELECT active_device_count AS n FROM subscriptions WHERE subscription_id = '{main}'"
    )).await, json!({"n": 10}));
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
async fn many_devices_get_a_tier_each_that_can_or_all_or_none() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 10).await;
    allocate(&api, &main, 1, 3).await;
    allocate(&api, &main, 2, 1).await;
    for n in 1..=5 {
        register(&api, &format!("D-{n}")).await.expect(201);
    }
    assign(&api, "D-5", 2).await.expect(200);
    let bulk = async |query: &str, body: Value| {
        api.send(ACME, "POST", &format!("{DEVICES}/tier-assignments{query}"), &[], Some(body)).await
    };
    let ids = json!(["D-5", "D-1", "D-2", "D-3", "NOWHERE"]);
    let statuses = |answer: &Value| {
        answer["results"]
            .as_array()
            .expect("results")
            .iter()
            .map(|result| text(&result["status"]))
            .collect::<Vec<_>>()
    };
    let tried = bulk("?dry_run=true", json!({"tier_id": 1, "device_ids": ids})).await.expect(200);
    let expected = ["assigned", "assigned", "assigned", "refused", "refused"];
    assert_eq!(
        (statuses(&tried), &tried["applied"], &tried["changed"], &tried["refused"]),
        (expected.map(str::to_owned).to_vec(), &json!(false), &json!(3), &json!(2))
    );
    let none = bulk("", json!({"tier_id": 1, "device_ids": ids, "all_or_nothing": true}))
        .await
        .expect(200);
    assert_eq!(
        (&none["applied"], slots(&world, &main, 1).await, slots(&world, &main, 2).await),
        (&json!(false), 0, 1)
    );
    let done = bulk("", json!({"tier_id": 1, "device_ids": ids})).await.expect(200);
    assert_eq!(
        (statuses(&done), &done["applied"]),
        (expected.map(str::to_owned).to_vec(), &json!(true))
    );
    assert_eq!(
        (&done["results"][3]["code"], &done["results"][4]["code"]),
        (&json!("no_free_slot"), &json!("device_not_found"))
    );
    assert_eq!(
        (slots(&world, &main, 1).await, slots(&world, &main, 2).await),
        (3, 0),
        "the slot that one left is free"
    );
    let removed =
        bulk("", json!({"tier_id": null, "device_ids": ["D-1", "D-4"], "all_or_nothing": true}))
            .await
            .expect(200);
    assert_eq!(
        (statuses(&removed), slots(&world, &main, 1).await),
        (vec!["removed".to_owned(), "unchanged".to_owned()], 2)
    );
    assert_eq!(
        world.count("subscription_audit WHERE details ? 'of_many'").await,
        4,
        "one a changed device"
    );
    bulk("", json!({"tier_id": 99, "device_ids": []})).await.problem(404, "tier_not_found");
    assert_eq!(
        bulk("", json!({"tier_id": 1, "device_ids": ["D-1", "D-2", "D-1"]})).await.faults(),
        ["device_ids[2] is listed twice"]
    );
    let many: Vec<String> = (0..501).map(|n| format!("X-{n}")).collect();
    assert_eq!(
        bulk("", json!({"tier_id": 1, "device_ids": many})).await.faults(),
        ["device_ids must have at most 500 items"]
    );
    assert_eq!(bulk("", json!({"device_ids": ["D-1"]})).await.faults(), ["tier_id is required"]);
}

/// Bulk, single and an operator's hand at once: no deadlock, true counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_and_single_assignments_at_once_keep_the_counts() {
    let world = World::new().await;
    let api = world.api().await;
    let main = tenant(&world, &api, "acme", 100).await;
    allocate(&api, &main, 1, 8).await;
    allocate(&api, &main, 2, 8).await;
    for n in 0..16 {
        register(&api, &format!("D-{n}")).await.expect(201);
    }
    let replies = join_all((0..48).map(|n| {
        let api = &api;
        async move {
            let tier = n % 2 + 1;
            let mut ids: Vec<String> = (0..8).map(|k| format!("D-{}", (n * 3 + k) % 16)).collect();
            if n % 4 == 0 {
                ids.reverse();
            }
            match n % 3 {
                0 => {
                    api.send(
                        ACME,
                        "POST",
                        &format!("{DEVICES}/tier-assignments"),
                        &[],
                        Some(json!({"tier_id": tier, "device_ids": ids})),
                    )
                    .await
                }
                1 => assign(api, &format!("D-{}", n % 16), tier).await,
                _ => remove(api, &format!("D-{}", n % 16)).await,
            }
        }
    }))
    .await;
    assert!(
        replies.iter().all(|reply| matches!(reply.status, 200 | 402)),
        "{:?}",
        replies.iter().map(|reply| &reply.body).collect::<Vec<_>>()
    );
    for tier in [1, 2] {
        assert_eq!(
            slots(&world, &main, tier).await,
            world.count(&format!("devices WHERE tier_id = {tier}")).await
        );
        assert!(slots(&world, &main, tier).await <= 8);
    }
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
        (&answer["tiers"][0]["features"], &answer["tiers"][0]["addon_monthly_price_cents"]),
        (&json!({}), &json!(100))
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
