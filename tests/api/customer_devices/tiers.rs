//! Slots and places are given up to what was paid for, to many requests at once as well.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::{ACME, DEVICES, allocate, assign, register, remove, slots, subscription, tenant};

/// The order of the refusals, each with the sentence that says what to do.
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
