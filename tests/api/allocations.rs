//! `allocations`: slots by hand.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::{World, connect, text};

/// A tenant with a MAIN on `pro` and its slots, and an ADDON; their paths.
async fn family(world: &World, api: &Api) -> (String, String) {
    world
        .db
        .execute("INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')", &[])
        .await
        .expect("a tenant");
    let path =
        |made: &Value| format!("/api/v1/operator/subscriptions/{}", text(&made["subscription_id"]));
    let body = json!({"tenant_id": "acme", "subscription_type": "MAIN", "device_limit": 100,
    "plan_id": "pro", "term_days": 365});
    let main = api.write("POST", "/api/v1/operator/subscriptions", body).await.expect(201);
    let body = json!({"tenant_id": "acme", "subscription_type": "ADDON", "device_limit": 10,
    "parent_subscription_id": main["subscription_id"]});
    let addon = api.write("POST", "/api/v1/operator/subscriptions", body).await.expect(201);
    (path(&main), path(&addon))
}

async fn slots(api: &Api, path: &str, tier: i64) -> Value {
    let list = api.get(Who::Operator, &format!("{path}/tier-allocations")).await.expect(200);
    list["allocations"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|row| row["tier_id"] == tier)
        .cloned()
        .unwrap_or(Value::Null)
}

async fn device_with(api: &Api, device: &str, tier: i64) {
    api.write(
        "POST",
        "/api/v1/operator/devices",
        json!({"tenant_id": "acme", "device_id": device}),
    )
    .await
    .expect(201);
    api.write(
        "PUT",
        "/api/v1/operator/devices/tier",
        json!({"tenant_id": "acme", "device_id": device, "tier_id": tier}),
    )
    .await
    .expect(200);
}

async fn audit(world: &World) -> Vec<String> {
    let rows = world
        .rows(
            "SELECT event_type FROM subscription_audit WHERE tenant_id = 'acme'
                           AND event_type LIKE 'TIER%' ORDER BY id",
        )
        .await;
    rows.iter().map(|row| text(&row["event_type"])).collect()
}

/// On a connection that has read families, and locked none yet: a read that is sent before the lock
/// finds what was before it.
#[tokio::test]
async fn what_is_judged_under_a_familys_lock_is_what_its_holder_before_left() {
    let world = World::new().await;
    let (main, _) = family(&world, &world.api().await).await;
    let api = world.api().await;
    let allocation = format!("{main}/tier-allocations/2");
    world
        .api()
        .await
        .write("POST", &format!("{main}/tier-allocations"), json!({"tier_id": 2, "slot_limit": 5}))
        .await
        .expect(201);
    assert_eq!(slots(&api, &main, 2).await["version"], 1);
    let holder = connect(&world.settings["DATABASE_NAME"]).await;
    let hold = "BEGIN; UPDATE subscriptions SET updated_at = now()
                WHERE tenant_id = 'acme'; UPDATE subscription_tier_allocations
                SET version = version + 1";
    holder.batch_execute(hold).await.expect("held");
    let change = api.send(
        Who::Admin,
        "PUT",
        &allocation,
        &[("if-match", "\"1\"")],
        Some(json!({"slot_limit": 6})),
    );
    let release = async {
        world.a_lock_is_waited_for().await;
        holder.batch_execute("COMMIT").await.expect("released");
    };
    let (changed, ()) = futures::join!(change, release);
    changed.problem(412, "version_changed");
}

#[tokio::test]
async fn a_sync_sets_what_the_plan_brings_keeps_what_is_used_and_says_nothing_twice() {
    let world = World::new().await;
    let api = world.api().await;
    let (main, addon) = family(&world, &api).await;
    let sync = async |path: &str, query: &str| {
        api.send(Who::Admin, "POST", &format!("{path}/sync-tier-allocations{query}"), &[], None)
            .await
    };
    let expected = json!([{"tier_id": 1, "slot_limit": 200}, {"tier_id": 2, "slot_limit": 50},
        {"tier_id": 3, "slot_limit": 10}]);
    let tried = sync(&main, "?dry_run=true").await.expect(200);
    assert_eq!(
        (&tried["allocations_synced"], &tried["changed"], &tried["dry_run"]),
        (&expected, &json!(true), &json!(true))
    );
    assert_eq!(slots(&api, &main, 1).await, Value::Null, "nothing was done");
    let synced = sync(&main, "").await.expect(200);
    assert_eq!(
        (&synced["status"], &synced["plan_id"], &synced["allocations_synced"]),
        (&json!("ok"), &json!("pro"), &expected)
    );
    device_with(&api, "DEV-1", 2).await;
    api.write("PUT", &format!("{main}/tier-allocations/2"), json!({"slot_limit": 75}))
        .await
        .expect(200);
    sync(&main, "").await.expect(200);
    let standard = slots(&api, &main, 2).await;
    assert_eq!(
        (&standard["slot_limit"], &standard["slots_used"], &standard["slots_available"]),
        (&json!(50), &json!(1), &json!(49))
    );
    assert_eq!(sync(&main, "").await.expect(200)["changed"], false);
    assert_eq!(
        audit(&world).await,
        ["TIER_ALLOCATIONS_SYNCED", "TIER_ALLOCATION_UPDATED", "TIER_ALLOCATIONS_SYNCED"]
    );
    assert_eq!(
        sync(&addon, "").await.problem(400, "no_plan"),
        "Subscription has no plan_id set. Set plan_id first via PATCH."
    );
    api.write("POST", "/api/v1/operator/plans", json!({"plan_id": "bare", "name": "Bare"}))
        .await
        .expect(201);
    api.write("PATCH", &addon, json!({"plan_id": "bare"})).await.expect(200);
    assert_eq!(
        sync(&addon, "").await.problem(404, "no_tier_defaults"),
        "No tier defaults found for plan 'bare'"
    );
    sync("/api/v1/operator/subscriptions/SUB-1999-1", "")
        .await
        .problem(404, "subscription_not_found");
    assert_eq!(
        sync(&main, "?dry_run=perhaps").await.faults(),
        ["dry_run must be true or false, not text"]
    );
}

#[tokio::test]
async fn an_addons_slots_are_pooled_and_gone_when_it_ends() {
    let world = World::new().await;
    let api = world.api().await;
    let (main, addon) = family(&world, &api).await;
    api.write("POST", &format!("{main}/tier-allocations"), json!({"tier_id": 2, "slot_limit": 1}))
        .await
        .expect(201);
    let made = api
        .write("POST", &format!("{addon}/tier-allocations"), json!({"tier_id": 2, "slot_limit": 5}))
        .await;
    assert_eq!(
        (made.header("etag"), made.header("location").ends_with("/tier-allocations/2")),
        ("\"1\"", true)
    );
    made.expect(201);
    // A tier that only the ADDON brings is counted on the root too.
    api.write("POST", &format!("{addon}/tier-allocations"), json!({"tier_id": 3, "slot_limit": 2}))
        .await
        .expect(201);
    for n in 1..=4 {
        device_with(&api, &format!("DEV-{n}"), 2).await;
    }
    let of_main = slots(&api, &main, 2).await;
    let expected = json!({"slot_limit": 1, "slots_used": 4, "addon_slots": 5, "effective_limit": 6,
        "slots_available": 2, "over_limit": false, "actual_count": 4});
    for (name, value) in expected.as_object().expect("fields") {
        assert_eq!(of_main[name], *value, "{name}");
    }
    let of_addon = slots(&api, &addon, 2).await;
    assert_eq!(
        (&of_addon["slot_limit"], &of_addon["slots_used"], &of_addon["effective_limit"]),
        (&json!(5), &json!(0), &json!(6))
    );
    assert_eq!(
        (
            &slots(&api, &main, 3).await["slot_limit"],
            &slots(&api, &main, 3).await["effective_limit"]
        ),
        (&json!(0), &json!(2))
    );
    // A plan sync of the MAIN leaves the ADDON's alone.
    api.send(Who::Admin, "POST", &format!("{main}/sync-tier-allocations"), &[], None)
        .await
        .expect(200);
    assert_eq!(slots(&api, &main, 2).await["effective_limit"], 55);
    api.write("PUT", &format!("{main}/tier-allocations/2"), json!({"slot_limit": 1}))
        .await
        .expect(200);
    api.send(Who::Admin, "DELETE", &addon, &[], None).await.expect(200);
    let after = slots(&api, &main, 2).await;
    assert_eq!(
        (
            &after["effective_limit"],
            &after["slots_available"],
            &after["over_limit"],
            &after["slots_used"]
        ),
        (&json!(1), &json!(0), &json!(true), &json!(4))
    );
}

#[tokio::test]
async fn an_allocation_is_added_changed_by_hand_and_removed() {
    let world = World::new().await;
    let api = world.api().await;
    let (main, addon) = family(&world, &api).await;
    let allocation = format!("{main}/tier-allocations/2");
    api.write("POST", &format!("{main}/tier-allocations"), json!({"tier_id": 2, "slot_limit": 3}))
        .await
        .expect(201);
    device_with(&api, "DEV-1", 2).await;
    let changed = api.write("PUT", &allocation, json!({"slot_limit": 75})).await;
    assert_eq!(changed.header("etag"), "\"2\"");
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["status"], &changed["changes"], &changed["warning"]),
        (&json!("ok"), &json!({"slot_limit": {"old": 3, "new": 75}}), &Value::Null)
    );
    // A count by hand is shown for what it is, and is no new version.
    let drifted = api.write("PUT", &allocation, json!({"slots_used": 9})).await;
    assert_eq!(drifted.header("etag"), "\"2\"");
    let drifted = drifted.expect(200);
    assert_eq!(drifted["changes"], json!({"slots_used": {"old": 1, "new": 9}}));
    assert_eq!(drifted["warning"], "slots_used is 9, and 1 devices hold the tier");
    assert_eq!(drifted["counted_by_hand"], true);
    let said = world
        .row(
            "SELECT previous_state, new_state FROM subscription_audit
                   WHERE event_type = 'TIER_ALLOCATION_UPDATED' ORDER BY id DESC LIMIT 1",
        )
        .await;
    let state = |slots_used: i64, by_hand: bool| {
        json!({
            "slot_limit": 75, "slots_used": slots_used, "counted_by_hand": by_hand,
        })
    };
    assert_eq!((&said["previous_state"], &said["new_state"]), (&state(1, false), &state(9, true)));
    assert_eq!(
        api.write("PUT", &allocation, json!({"slot_limit": 75})).await.expect(200)["changes"],
        json!({})
    );
    api.send(
        Who::Admin,
        "PUT",
        &allocation,
        &[("if-match", "\"1\"")],
        Some(json!({"slot_limit": 1})),
    )
    .await
    .problem(412, "version_changed");
    assert_eq!(
        api.send(Who::Admin, "DELETE", &allocation, &[], None).await.problem(409, "slots_in_use"),
        "Cannot delete: 9 devices are still assigned to Standard tier. Reassign them first."
    );
    // Set to none by hand, the device still holds it.
    api.write("PUT", &allocation, json!({"slots_used": 0})).await.expect(200);
    api.send(Who::Admin, "DELETE", &allocation, &[], None).await.problem(409, "slots_in_use");
    api.write(
        "PUT",
        "/api/v1/operator/devices/tier",
        json!({"tenant_id": "acme", "device_id": "DEV-1", "tier_id": null}),
    )
    .await
    .expect(200);
    assert_eq!(slots(&api, &main, 2).await["slots_used"], 0, "never below 0");
    api.write("POST", &format!("{addon}/tier-allocations"), json!({"tier_id": 2, "slot_limit": 4}))
        .await
        .expect(201);
    assert_eq!(
        api.send(Who::Admin, "DELETE", &allocation, &[], None).await.expect(200),
        json!({"status": "ok"})
    );
    let kept = slots(&api, &main, 2).await;
    assert_eq!(
        (&kept["slot_limit"], &kept["effective_limit"]),
        (&json!(0), &json!(4)),
        "it counts what the ADDON brings"
    );
    api.send(Who::Admin, "DELETE", &format!("{addon}/tier-allocations/2"), &[], None)
        .await
        .expect(200);
    api.send(Who::Admin, "DELETE", &allocation, &[], None).await.expect(200);
    assert_eq!(slots(&api, &main, 2).await, Value::Null);
    let expected =
        ["CREATED", "UPDATED", "UPDATED", "UPDATED", "CREATED", "DELETED", "DELETED", "DELETED"]
            .map(|what| format!("TIER_ALLOCATION_{what}"));
    assert_eq!(audit(&world).await, expected);
}

#[tokio::test]
async fn every_refusal_of_an_allocation_says_why() {
    let world = World::new().await;
    let api = world.api().await;
    let (main, addon) = family(&world, &api).await;
    let nowhere = "/api/v1/operator/subscriptions/SUB-1999-1/tier-allocations";
    api.get(Who::Operator, nowhere).await.problem(404, "subscription_not_found");
    api.write("POST", nowhere, json!({"tier_id": 1, "slot_limit": 1}))
        .await
        .problem(404, "subscription_not_found");
    let post =
        async |body: Value| api.write("POST", &format!("{main}/tier-allocations"), body).await;
    assert_eq!(
        post(json!({"tier_id": 99, "slot_limit": 1})).await.problem(404, "tier_not_found"),
        "Device tier not found"
    );
    post(json!({"tier_id": 1, "slot_limit": 1})).await.expect(201);
    assert_eq!(
        post(json!({"tier_id": 1, "slot_limit": 1})).await.problem(409, "allocation_exists"),
        "Tier allocation already exists for tier Basic. Use PUT to update."
    );
    assert_eq!(
        post(json!({"tier_id": 1_099_511_627_776_i64})).await.faults(),
        ["tier_id must be from 1 to 2147483647", "slot_limit is required"]
    );
    let put = async |path: String, body: Value| api.write("PUT", &path, body).await;
    assert_eq!(
        put(format!("{main}/tier-allocations/2"), json!({"slot_limit": 1}))
            .await
            .problem(404, "allocation_not_found"),
        "Tier allocation not found"
    );
    assert_eq!(
        put(format!("{main}/tier-allocations/1"), json!({})).await.problem(400, "no_fields"),
        "No fields to update"
    );
    put(format!("{main}/tier-allocations/1099511627776"), json!({"slot_limit": 1}))
        .await
        .problem(404, "not_found");
    api.send(Who::Admin, "DELETE", &format!("{main}/tier-allocations/2"), &[], None)
        .await
        .problem(404, "allocation_not_found");
    api.write("POST", &format!("{addon}/tier-allocations"), json!({"tier_id": 1, "slot_limit": 1}))
        .await
        .expect(201);
    let detail = put(format!("{addon}/tier-allocations/1"), json!({"slots_used": 1}))
        .await
        .problem(400, "counted_on_parent");
    assert!(detail.contains("SUB-"), "{detail}");
}

#[tokio::test]
async fn a_reconciliation_makes_every_count_true_and_says_what_was_not() {
    let world = World::new().await;
    let api = world.api().await;
    let (main, addon) = family(&world, &api).await;
    let reconcile = async |path: &str, query: &str| {
        api.send(Who::Admin, "POST", &format!("{path}/reconcile-tiers{query}"), &[], None).await
    };
    api.write("POST", &format!("{main}/tier-allocations"), json!({"tier_id": 1, "slot_limit": 5}))
        .await
        .expect(201);
    device_with(&api, "DEV-1", 1).await;
    let fine = reconcile(&main, "").await.expect(200);
    assert_eq!(
        (&fine["corrections"], &fine["message"]),
        (&json!([]), &json!("All slot counts are accurate"))
    );
    // Drift: a wrong count, a tier that devices hold without a row, wrong numbers of devices.
    let drift = "UPDATE subscription_tier_allocations SET slots_used = 7;
                 INSERT INTO devices (tenant_id, device_id, subscription_id, tier_id, registered_at)
                 SELECT 'acme', 'X-1', subscription_id, 3, now() FROM subscriptions
                 WHERE tenant_id = 'acme' AND subscription_type = 'ADDON';
                 UPDATE subscriptions SET active_device_count = 5 WHERE tenant_id = 'acme'
                 AND subscription_type = 'MAIN'";
    world.db.batch_execute(drift).await.expect("drift");
    let expected = json!([{"tier_id": 1, "old_slots_used": 7, "actual_count": 1}, {"tier_id": 3,
    "old_slots_used": 0, "actual_count": 1}]);
    let tried = reconcile(&addon, "?dry_run=true").await.expect(200);
    assert_eq!((&tried["corrections"], &tried["dry_run"]), (&expected, &json!(true)));
    assert_eq!(slots(&api, &main, 1).await["slots_used"], 7);
    let done = reconcile(&addon, "").await.expect(200);
    assert_eq!(done["corrections"], expected, "a member's is the family's");
    assert_eq!(done["message"], "Reconciled 2 tier(s) and 2 device count(s)");
    assert_eq!(
        (&slots(&api, &main, 1).await["slots_used"], &slots(&api, &main, 3).await["slots_used"]),
        (&json!(1), &json!(1))
    );
    let counts = world
        .rows(
            "SELECT active_device_count AS devices FROM subscriptions
                             WHERE tenant_id = 'acme' ORDER BY subscription_type",
        )
        .await;
    assert_eq!(counts, [json!({"devices": 1}), json!({"devices": 1})]);
    assert_eq!(reconcile(&main, "").await.expect(200)["corrections"], json!([]));
    assert_eq!(audit(&world).await, ["TIER_ALLOCATION_CREATED", "TIER_SLOTS_RECONCILED"]);
    reconcile("/api/v1/operator/subscriptions/SUB-1999-1", "")
        .await
        .problem(404, "subscription_not_found");
}

/// `counted_by_hand` is what the hourly run goes by: true exactly where an operator set another
/// number than the devices.
#[tokio::test]
async fn a_count_by_hand_is_marked_until_it_is_what_the_devices_say_or_an_operator_reconciles() {
    let world = World::new().await;
    let api = world.api().await;
    let (main, addon) = family(&world, &api).await;
    api.write("POST", &format!("{main}/tier-allocations"), json!({"tier_id": 2, "slot_limit": 3}))
        .await
        .expect(201);
    device_with(&api, "DEV-1", 2).await;
    let put = async |slots_used: i64| {
        api.write("PUT", &format!("{main}/tier-allocations/2"), json!({"slots_used": slots_used}))
            .await
            .expect(200)
    };
    let mark = async || slots(&api, &main, 2).await["counted_by_hand"].clone();
    let reconcile = async || {
        api.send(Who::Admin, "POST", &format!("{addon}/reconcile-tiers"), &[], None)
            .await
            .expect(200)["corrections"]
            .clone()
    };
    assert_eq!(mark().await, false);
    assert_eq!((&put(9).await["counted_by_hand"], mark().await), (&json!(true), json!(true)));
    api.write("PUT", &format!("{main}/tier-allocations/2"), json!({"slot_limit": 4}))
        .await
        .expect(200);
    assert_eq!(mark().await, true, "another limit is no other count");
    assert_eq!(put(1).await["counted_by_hand"], false);
    put(9).await;
    assert_eq!(reconcile().await, json!([{"tier_id": 2, "old_slots_used": 9, "actual_count": 1}]));
    assert_eq!(mark().await, false);
    // A wrong number that an operator sets again is set by hand from then on, and that is audited;
    // the request changes no field.
    world
        .db
        .execute("UPDATE subscription_tier_allocations SET slots_used = 5", &[])
        .await
        .expect("drift");
    let audited = audit(&world).await.len();
    let confirmed = put(5).await;
    assert_eq!((&confirmed["changes"], &confirmed["counted_by_hand"]), (&json!({}), &json!(true)));
    assert_eq!(
        (put(5).await["counted_by_hand"].clone(), audit(&world).await.len()),
        (json!(true), audited + 1),
        "and once only"
    );
    // Never below 0: the count comes to be right by itself, and the mark goes with the next
    // reconciliation.
    put(0).await;
    api.write(
        "PUT",
        "/api/v1/operator/devices/tier",
        json!({"tenant_id": "acme", "device_id": "DEV-1", "tier_id": null}),
    )
    .await
    .expect(200);
    assert_eq!(
        (mark().await, reconcile().await),
        (json!(true), json!([{"tier_id": 2, "old_slots_used": 0, "actual_count": 0}]))
    );
    assert_eq!((mark().await, reconcile().await), (json!(false), json!([])));
}
