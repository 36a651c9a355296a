//! An operator changes a subscription, and its ADDONs follow.

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::api::Who;
use tests::{World, text};

use super::{SUBSCRIPTIONS, addon_of, instant, main_of, managed_by_stripe, path, tenant};

async fn audit(world: &World, subscription: &Value) -> Vec<String> {
    let sql = format!(
        "SELECT event_type FROM subscription_audit WHERE subscription_id = '{}' ORDER BY id",
        text(&subscription["subscription_id"])
    );
    world.rows(&sql).await.iter().map(|row| text(&row["event_type"])).collect()
}

fn days_from_now(days: i64) -> String {
    (shared::base::clock::Clock::system().now() + SignedDuration::from_hours(24 * days)).to_string()
}

#[tokio::test]
async fn a_change_is_named_by_the_first_that_applies_and_follows_to_its_end() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let patch = async |body: Value| api.write("PATCH", &path(&main), body).await.expect(200);
    let changes = [
        (json!({"description": "Bought by telephone"}), "UPDATED"),
        (json!({"device_limit": 120, "description": null}), "LIMIT_CHANGED"),
        (json!({"term_end": days_from_now(400), "notes": "goodwill"}), "TERM_EXTENDED"),
        (json!({"term_end": days_from_now(300), "device_limit": 130}), "LIMIT_CHANGED"),
        (json!({"term_end": days_from_now(200)}), "TERM_SHORTENED"),
        (json!({"plan_id": "starter", "term_end": days_from_now(250)}), "PLAN_CHANGED"),
        (json!({"status": "GRACE", "plan_id": "pro"}), "STATUS_GRACE"),
        (json!({"status": "SUSPENDED"}), "STATUS_SUSPENDED"),
        (json!({"status": "TRIAL"}), "STATUS_TRIAL"),
        (json!({"status": "ACTIVE"}), "STATUS_ACTIVE"),
    ];
    for (version, (body, event_type)) in changes.iter().enumerate() {
        let answer = patch(body.clone()).await;
        assert_eq!(
            (&answer["updated"], &answer["event_type"], &answer["version"]),
            (&json!(true), &json!(event_type), &json!(version + 2)),
            "{body}"
        );
    }
    let expected: Vec<&str> = std::iter::once("SUBSCRIPTION_CREATED")
        .chain(changes.iter().map(|(_, event_type)| *event_type))
        .collect();
    assert_eq!(audit(&world, &main).await, expected);
    // What is so already: no version, no row.
    let same = patch(json!({"status": "ACTIVE", "plan_id": "pro"})).await;
    assert_eq!(
        (&same["updated"], &same["event_type"], &same["version"]),
        (&json!(false), &Value::Null, &json!(11))
    );
    assert_eq!(audit(&world, &main).await.len(), 11);
}

#[tokio::test]
async fn grace_has_an_end_exactly_while_it_lasts() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let patch = async |body: Value| api.write("PATCH", &path(&main), body).await;
    let before = shared::base::clock::Clock::system().now();
    let grace = patch(json!({"status": "GRACE"})).await.expect(200);
    let lasts = instant(&grace["grace_end"]).duration_since(before);
    assert!((14 * 86_400..14 * 86_400 + 60).contains(&lasts.as_secs()), "14 days: {lasts}");
    // Said again it is no new grace; another end is.
    assert_eq!(
        patch(json!({"status": "GRACE"})).await.expect(200)["grace_end"],
        grace["grace_end"]
    );
    let end = days_from_now(3);
    assert_eq!(patch(json!({"grace_end": end})).await.expect(200)["grace_end"], end);
    assert_eq!(patch(json!({"status": "ACTIVE"})).await.expect(200)["grace_end"], Value::Null);
    assert_eq!(
        patch(json!({"grace_end": end})).await.faults(),
        ["grace_end belongs to the status GRACE"]
    );
    assert_eq!(
        patch(json!({"status": "GRACE", "grace_end": "2020-01-01T00:00:00Z"})).await.faults(),
        ["grace_end must be in the future"]
    );
}

#[tokio::test]
async fn every_refusal_of_a_change_says_why() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let addon = addon_of(&api, &main).await;
    let patch = async |of: &Value, body: Value| api.write("PATCH", &path(of), body).await;
    assert_eq!(
        api.write("PATCH", &format!("{SUBSCRIPTIONS}/SUB-1999-1"), json!({"status": "ACTIVE"}))
            .await
            .problem(404, "subscription_not_found"),
        "Subscription not found"
    );
    assert_eq!(patch(&main, json!({})).await.problem(400, "no_fields"), "No updates provided");
    assert_eq!(
        patch(&main, json!({"notes": "only a word"})).await.problem(400, "no_fields"),
        "No updates provided"
    );
    patch(&main, json!({"plan_id": "none"})).await.problem(404, "plan_not_found");
    patch(&addon, json!({"term_end": days_from_now(9)})).await.problem(400, "addon_term");
    assert_eq!(
        patch(&main, json!({"term_end": "2020-01-01T00:00:00Z"})).await.faults(),
        ["term_end needs a term_end after term_start"]
    );
    let started = json!({"tenant_id": "acme", "subscription_type": "MAIN", "device_limit": 1,
    "term_start": "2024-01-01T00:00:00Z", "term_end": "2025-01-01T00:00:00Z"});
    let over = api.write("POST", SUBSCRIPTIONS, started).await.expect(201);
    assert_eq!(
        patch(&over, json!({"status": "TRIAL"})).await.faults(),
        ["status needs a term_end in the future: the subscription is TRIAL"]
    );
    assert_eq!(
        patch(&over, json!({"term_end": "2025-02-01T00:00:00Z"})).await.faults(),
        ["term_end needs a term_end in the future: the subscription is ACTIVE"]
    );
    patch(&over, json!({"device_limit": 2})).await.expect(200);
    patch(&over, json!({"status": "ACTIVE", "term_end": days_from_now(1)})).await.expect(200);
    assert_eq!(
        patch(&main, json!({"status": null, "device_limit": -1, "colour": 1})).await.faults().len(),
        3
    );
    api.send(
        Who::Admin,
        "PATCH",
        &path(&main),
        &[("if-match", "\"7\"")],
        Some(json!({"device_limit": 2})),
    )
    .await
    .problem(412, "version_changed");
    let two_ends = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 1,
    "parent_subscription_id": main["subscription_id"],
                          "term_days": 1, "term_end": days_from_now(1)});
    assert_eq!(
        api.write("POST", SUBSCRIPTIONS, two_ends).await.faults(),
        ["term_days cannot be combined with term_end"]
    );
    // A later ADDON cannot begin after its parent's new end.
    let later = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 1,
    "parent_subscription_id": main["subscription_id"], "term_start": days_from_now(100)});
    let later = api.write("POST", SUBSCRIPTIONS, later).await.expect(201);
    let fault = patch(&main, json!({"term_end": days_from_now(50)})).await.faults().remove(0);
    assert!(
        fault.starts_with("term_end must be after")
            && fault.contains(&text(&later["subscription_id"])),
        "{fault}"
    );
    // Nor be brought back once its parent ends before it begins.
    api.send(Who::Admin, "DELETE", &path(&later), &[], None).await.expect(200);
    patch(&main, json!({"term_end": days_from_now(50)})).await.expect(200);
    assert_eq!(
        patch(&later, json!({"status": "ACTIVE"})).await.faults(),
        ["status needs a term_end after term_start"]
    );
}

/// Trap 28, and the rule of the seeds: a plan change takes the new plan's slots, and what is used
/// stays and is shown.
#[tokio::test]
async fn another_plan_brings_its_slots_and_drops_those_that_only_the_old_one_brought() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    api.write("POST", &format!("{}/sync-tier-allocations", path(&main)), json!({}))
        .await
        .expect(200);
    api.write(
        "POST",
        &format!("{}/tier-allocations", path(&main)),
        json!({"tier_id": 3, "slot_limit": 1}),
    )
    .await
    .problem(409, "allocation_exists");
    let register = json!({"tenant_id": "acme", "device_id": "DEV-1"});
    api.write("POST", "/api/v1/operator/devices", register).await.expect(201);
    api.write(
        "PUT",
        "/api/v1/operator/devices/tier",
        json!({"device_id": "DEV-1", "tenant_id": "acme", "tier_id": 3}),
    )
    .await
    .expect(200);
    let answer = api.write("PATCH", &path(&main), json!({"plan_id": "starter"})).await.expect(200);
    assert_eq!(
        (&answer["device_limit"], &answer["event_type"]),
        (&json!(30), &json!("PLAN_CHANGED"))
    );
    let seen =
        api.get(Who::Operator, &format!("{}/tier-allocations", path(&main))).await.expect(200);
    let slots: Vec<_> = seen["allocations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (&row["tier_id"], &row["slot_limit"], &row["slots_used"], &row["over_limit"]))
        .collect();
    let expected = [
        (json!(1), json!(25), json!(0), json!(false)),
        (json!(2), json!(5), json!(0), json!(false)),
        (json!(3), json!(0), json!(1), json!(true)),
    ];
    assert_eq!(slots, expected.iter().map(|(a, b, c, d)| (a, b, c, d)).collect::<Vec<_>>());
    let row =
        world.row("SELECT details FROM subscription_audit WHERE event_type = 'PLAN_CHANGED'").await;
    assert_eq!(row["details"]["tier_slots"]["after"][2], json!({"tier_id": 3, "slot_limit": 0}));
    // A limit that the request gives wins over the plan's.
    assert_eq!(
        api.write("PATCH", &path(&main), json!({"plan_id": "pro", "device_limit": 7}))
            .await
            .expect(200)["device_limit"],
        7
    );
}

#[tokio::test]
async fn a_parents_term_moves_its_addons_and_its_end_ends_them() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let (addon, by_stripe, ended) =
        (addon_of(&api, &main).await, addon_of(&api, &main).await, addon_of(&api, &main).await);
    managed_by_stripe(&world, &by_stripe, "sub_own").await;
    api.send(Who::Admin, "DELETE", &path(&ended), &[], None).await.expect(200);
    let end = days_from_now(500);
    api.write("PATCH", &path(&main), json!({"term_end": end})).await.expect(200);
    let term_end =
        async |of: &Value| api.get(Who::Operator, &path(of)).await.expect(200)["term_end"].clone();
    assert_eq!(term_end(&addon).await, end);
    assert_eq!(
        term_end(&by_stripe).await,
        main["term_end"],
        "it follows its own Stripe subscription"
    );
    assert_eq!(term_end(&ended).await, main["term_end"], "it is over");
    assert_eq!(audit(&world, &addon).await, ["SUBSCRIPTION_CREATED", "TERM_EXTENDED"]);
    // Its status is the worse of two, and never copied.
    api.write("PATCH", &path(&main), json!({"status": "SUSPENDED"})).await.expect(200);
    let seen = api.get(Who::Operator, &path(&addon)).await.expect(200);
    assert_eq!(
        (&seen["status"], &seen["effective_status"]),
        (&json!("ACTIVE"), &json!("SUSPENDED"))
    );
    api.write("PATCH", &path(&main), json!({"status": "ACTIVE"})).await.expect(200);
    let detail = api
        .send(Who::Admin, "DELETE", &path(&main), &[], None)
        .await
        .problem(409, "stripe_managed");
    assert!(
        detail.contains(&text(&by_stripe["subscription_id"])),
        "it would be charged for ever: {detail}"
    );
    api.write(
        "PATCH",
        &path(&by_stripe),
        json!({"hold": true, "hold_reason": "ends with its parent, cancelled by hand"}),
    )
    .await
    .expect(200);
    let reply = api.send(Who::Admin, "DELETE", &path(&main), &[], None).await.expect(200);
    let expired = [&main, &addon, &by_stripe].map(|of| of["subscription_id"].clone());
    assert_eq!((&reply["status"], &reply["expired"]), (&json!("ok"), &json!(expired)));
    assert_eq!(audit(&world, &addon).await.last().map(String::as_str), Some("STATUS_EXPIRED"));
    // Once more changes nothing.
    assert_eq!(
        api.send(Who::Admin, "DELETE", &path(&main), &[], None).await.expect(200)["expired"],
        json!([])
    );
    assert_eq!(
        audit(&world, &main).await,
        [
            "SUBSCRIPTION_CREATED",
            "TERM_EXTENDED",
            "STATUS_SUSPENDED",
            "STATUS_ACTIVE",
            "STATUS_EXPIRED"
        ]
    );
    // A deleted tenant's stays dead.
    world.db.execute("UPDATE tenants SET status = 'DELETED'", &[]).await.expect("deleted");
    api.write("PATCH", &path(&main), json!({"status": "ACTIVE", "term_end": days_from_now(600)}))
        .await
        .problem(409, "tenant_deleted");
    world.db.execute("UPDATE tenants SET status = 'ACTIVE'", &[]).await.expect("back");
    // Brought back to life, an ADDON takes its parent's present term.
    api.write("PATCH", &path(&main), json!({"status": "ACTIVE", "term_end": days_from_now(600)}))
        .await
        .expect(200);
    let revived = api.write("PATCH", &path(&addon), json!({"status": "ACTIVE"})).await.expect(200);
    assert_eq!(revived["term_end"], term_end(&main).await);
}

#[tokio::test]
async fn devices_keep_a_subscription_from_ending_unless_forced_and_stay_assigned() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let addon = addon_of(&api, &main).await;
    api.write(
        "POST",
        "/api/v1/operator/devices",
        json!({"tenant_id": "acme", "device_id": "DEV-1",
            "subscription_id": addon["subscription_id"]}),
    )
    .await
    .expect(201);
    let detail = "Devices are still assigned: 1. Move them first, or end it by DELETE with \
                  force=true, which leaves them assigned.";
    for of in [&main, &addon] {
        assert_eq!(
            api.send(Who::Admin, "DELETE", &path(of), &[], None)
                .await
                .problem(409, "devices_assigned"),
            detail
        );
        assert_eq!(
            api.write("PATCH", &path(of), json!({"status": "EXPIRED"}))
                .await
                .problem(409, "devices_assigned"),
            detail
        );
    }
    let ended = api
        .send(Who::Admin, "DELETE", &format!("{}?force=true", path(&main)), &[], None)
        .await
        .expect(200);
    assert_eq!(ended["expired"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        world.row("SELECT subscription_id FROM devices").await["subscription_id"],
        addon["subscription_id"]
    );
    api.send(Who::Admin, "DELETE", &format!("{SUBSCRIPTIONS}/SUB-1999-1"), &[], None)
        .await
        .problem(404, "subscription_not_found");
}

#[tokio::test]
async fn what_stripe_manages_is_changed_under_a_hold_or_by_stripe() {
    let world = World::new().await;
    let api = world.api().await;
    let (_, event) = world.paid_checkout("Acme", "jane@acme.example");
    world.receive(&[&event]).await;
    let listed =
        api.get(Who::Operator, &format!("{SUBSCRIPTIONS}?tenant_id=acme")).await.expect(200);
    let main = listed["subscriptions"][0].clone();
    let patch = async |body: Value| api.write("PATCH", &path(&main), body).await;
    for body in [
        json!({"status": "SUSPENDED"}),
        json!({"term_end": days_from_now(400)}),
        json!({"plan_id": "starter"}),
    ] {
        let detail = patch(body).await.problem(409, "stripe_managed");
        assert!(detail.contains("mode=hold"), "{detail}");
    }
    patch(json!({"device_limit": 300, "description": "More, as promised"})).await.expect(200);
    assert_eq!(
        patch(json!({"status": "SUSPENDED", "mode": "hold"})).await.faults(),
        ["hold_reason is required where a hold begins"]
    );
    assert_eq!(
        patch(json!({"status": "SUSPENDED", "mode": "stripe"})).await.faults(),
        ["mode must be hold: only an ending can be left to Stripe"]
    );
    let held = patch(json!({"status": "SUSPENDED", "mode": "hold", "hold_reason": "Chargeback"}))
        .await
        .expect(200);
    assert_eq!(
        (&held["status"], &held["hold_reason"], &held["event_type"]),
        (&json!("SUSPENDED"), &json!("Chargeback"), &json!("STATUS_SUSPENDED"))
    );
    assert!(held["held_by"].is_string() && held["held_at"].is_string());
    // Held, it is the operator's.
    patch(json!({"status": "ACTIVE"})).await.expect(200);
    let released = patch(json!({"hold": false})).await.expect(200);
    assert_eq!(
        (&released["hold_reason"], &released["event_type"]),
        (&Value::Null, &json!("UPDATED"))
    );
    patch(json!({"status": "SUSPENDED"})).await.problem(409, "stripe_managed");

    let end = async |query: &str| {
        api.send(Who::Admin, "DELETE", &format!("{}{query}", path(&main)), &[], None).await
    };
    end("").await.problem(409, "stripe_managed");
    assert_eq!(end("?mode=hold").await.faults(), ["reason is required with mode=hold"]);
    assert_eq!(end("?mode=never").await.faults(), ["mode must be one of hold, stripe"]);
    let asked = end("?mode=stripe").await.expect(200);
    assert_eq!((&asked["stripe_cancellation"], &asked["expired"]), (&json!(true), &json!([])));
    end("?mode=stripe").await.expect(200);
    let steps = world
        .rows("SELECT kind, status, payload FROM outbox_steps WHERE kind = 'stripe_cancel'")
        .await;
    assert_eq!(
        steps,
        [json!({"kind": "stripe_cancel", "status": "pending",
                "payload": {"stripe_subscription_id": main["stripe_subscription_id"],
                "subscription_id": main["subscription_id"]}})]
    );
    let ended = end("?mode=hold&reason=Closed%20by%20contract").await.expect(200);
    assert_eq!(ended["expired"], json!([main["subscription_id"]]));
    // One that is not Stripe's knows no mode.
    tenant(&world, "wire").await;
    let wire = main_of(&api, "wire").await;
    assert_eq!(
        api.send(Who::Admin, "DELETE", &format!("{}?mode=hold&reason=x", path(&wire)), &[], None)
            .await
            .faults(),
        ["mode is only for a subscription that Stripe manages"]
    );
    assert_eq!(
        api.write("PATCH", &path(&wire), json!({"hold": true, "hold_reason": "x"})).await.faults(),
        ["hold is only for a subscription that Stripe manages"]
    );
}

/// Two at once: each previous state is what the other left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_changes_leave_an_unbroken_chain_in_the_audit() {
    let world = World::new().await;
    let api = world.api().await;
    tenant(&world, "acme").await;
    let main = main_of(&api, "acme").await;
    let replies = join_all((1..=16).map(|n| {
        let (api, path) = (&api, path(&main));
        async move { api.write("PATCH", &path, json!({"device_limit": 1000 + n})).await }
    }))
    .await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let sql = format!(
        "SELECT previous_state, new_state FROM subscription_audit WHERE subscription_id = '{}'
         ORDER BY (new_state->>'version')::int",
        text(&main["subscription_id"])
    );
    let rows = world.rows(&sql).await;
    assert_eq!(rows.len(), 17);
    for pair in rows.windows(2) {
        assert_eq!(pair[0]["new_state"], pair[1]["previous_state"]);
    }
}
