//! Device tiers, and which of them a plan brings.

use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::{World, text};

use super::{PLANS, TIERS, audit, team};

#[tokio::test]
async fn tier_defaults_are_replaced_as_a_whole_or_not_at_all() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let path = format!("{PLANS}/team/tier-defaults");
    assert_eq!(
        api.get(Who::Operator, &path).await.expect(200),
        json!({"plan_id": "team", "tier_defaults": [], "version": 1})
    );
    let wanted = json!([{"tier_id": 1, "slot_limit": 40}, {"tier_id": 2, "slot_limit": 10},
        {"tier_id": 3, "slot_limit": 0}]);
    let reply = api.write("PUT", &path, wanted.clone()).await;
    assert_eq!(reply.header("etag"), "\"2\"", "they are part of the plan's version");
    let set = reply.expect(200);
    assert_eq!((&set["status"], &set["plan_id"]), (&json!("ok"), &json!("team")));
    let slots = |answer: &Value| -> Vec<(i64, i64, String)> {
        let entries = answer["tier_defaults"].as_array().expect("a list").clone();
        entries
            .iter()
            .map(|entry| {
                (
                    entry["tier_id"].as_i64().unwrap_or(0),
                    entry["slot_limit"].as_i64().unwrap_or(-1),
                    text(&entry["name"]),
                )
            })
            .collect()
    };
    let expected =
        [(1, 40, "basic".to_owned()), (2, 10, "standard".to_owned()), (3, 0, "premium".to_owned())];
    assert_eq!(slots(&set), expected);
    // Refused: nothing of it is done.
    let faults = api
        .write(
            "PUT",
            &path,
            json!([{"tier_id": 1, "slot_limit": 1},
            {"tier_id": 2, "slot_limit": 1}, {"tier_id": 1, "slot_limit": 2}]),
        )
        .await
        .faults();
    assert_eq!(faults, ["[2].tier_id is listed twice"]);
    let faults = api
        .write(
            "PUT",
            &path,
            json!([{"tier_id": 1_099_511_627_776_i64, "slot_limit": -1}, {"tier": 1}, 5]),
        )
        .await
        .faults();
    let expected_faults = [
        "[0].slot_limit must be from 0 to 1000000000",
        "[0].tier_id must be from 1 to 2147483647",
        "[1].tier is not a field of this request",
        "[1].tier_id is required",
        "[1].slot_limit is required",
        "[2] must be an object, not a whole number",
    ];
    assert_eq!(faults, expected_faults);
    let unknown = api
        .write(
            "PUT",
            &path,
            json!([{"tier_id": 1, "slot_limit": 1}, {"tier_id": 99, "slot_limit": 1}]),
        )
        .await;
    assert_eq!(unknown.problem(404, "tier_not_found"), "Device tier 99 not found");
    assert_eq!(slots(&api.get(Who::Operator, &path).await.expect(200)), expected);
    // In another order they are the same.
    let mut reversed = wanted.as_array().expect("a list").clone();
    reversed.reverse();
    assert_eq!(api.write("PUT", &path, Value::Array(reversed)).await.expect(200)["version"], 2);
    api.send(Who::Admin, "PUT", &path, &[("if-match", "\"1\"")], Some(json!([])))
        .await
        .problem(412, "version_changed");
    assert_eq!(api.write("PUT", &path, json!([])).await.expect(200)["tier_defaults"], json!([]));
    api.write("PUT", &format!("{PLANS}/none/tier-defaults"), json!([]))
        .await
        .problem(404, "plan_not_found");
    api.get(Who::Operator, &format!("{PLANS}/none/tier-defaults"))
        .await
        .problem(404, "plan_not_found");
    assert_eq!(
        audit(&world).await,
        ["PLAN_CREATED", "PLAN_TIER_DEFAULTS_SET", "PLAN_TIER_DEFAULTS_SET"]
    );
}

/// Which features the first three tiers have, by what the API answers to whom.
async fn features(api: &Api, who: Who<'_>, path: &str) -> Vec<(i64, String)> {
    let answer = api.get(who, path).await.expect(200);
    let of = |tier: &Value| {
        let features = tier["features"].as_object().expect("features");
        let on: Vec<&str> =
            features.iter().filter(|(_, on)| **on == true).map(|(name, _)| name.as_str()).collect();
        (tier["tier_id"].as_i64().expect("a number"), on.join(" "))
    };
    answer["tiers"].as_array().expect("tiers").iter().map(of).collect()
}

#[tokio::test]
async fn the_first_three_tiers_bring_their_features_and_a_changed_one_keeps_its_own() {
    let world = World::new().await;
    let api = world.api().await;
    world
        .db
        .batch_execute("INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')")
        .await
        .expect("a tenant");
    let all =
        "alerts analytics dashboards message_routing ota streaming_export telemetry x509_auth";
    let brought = [
        (1, "alerts telemetry".to_owned()),
        (2, "alerts analytics dashboards telemetry".to_owned()),
        (3, all.to_owned()),
    ];
    assert_eq!(features(&api, Who::Operator, TIERS).await, brought);
    assert_eq!(
        features(&api, Who::Customer("acme"), "/api/v1/customer/device-tiers").await,
        brought
    );

    // As a database of the release before has them: one as it came, one that an operator changed
    // otherwise, and one with features of an operator's own.
    let before = "UPDATE device_tiers SET version = 1, features = '{}' WHERE tier_id <= 3;
                  UPDATE device_tiers SET version = 2 WHERE tier_id = 2;
                  UPDATE device_tiers SET version = 2, features = '{\"ota\": true}'
                  WHERE tier_id = 3";
    world.db.batch_execute(before).await.expect("the release before");
    let migration = include_str!("../../../migrations/V33__tier_features.sql");
    world.db.batch_execute(migration).await.expect("migrated");
    let kept = [brought[0].clone(), (2, String::new()), (3, "ota".to_owned())];
    assert_eq!(features(&api, Who::Operator, TIERS).await, kept);
    assert_eq!(api.get(Who::Operator, &format!("{TIERS}/1")).await.expect(200)["version"], 2);
}

#[tokio::test]
async fn a_device_tier_is_added_read_and_changed() {
    let world = World::new().await;
    let api = world.api().await;
    let body = json!({"name": "gold", "display_name": "Gold", "features": {"retention_days": 365,
    "dashboards": true}, "sort_order": 4,
                      "addon_monthly_price_cents": 1900,
                      "addon_stripe_price_id": "price_gold_slot_month"});
    let reply = api.write("POST", TIERS, body.clone()).await;
    assert_eq!(
        reply.header("location"),
        "/api/v1/operator/device-tiers/4",
        "1 to 3 are the migration's"
    );
    let gold = reply.expect(201);
    assert_eq!(
        (&gold["features"], &gold["is_active"], &gold["addon_annual_price_cents"]),
        (&body["features"], &json!(true), &Value::Null)
    );
    assert_eq!(api.get(Who::Operator, &format!("{TIERS}/4")).await.expect(200), gold);
    assert_eq!(
        api.write("POST", TIERS, body).await.problem(409, "tier_exists"),
        "Tier name 'gold' already exists"
    );
    let changed = api
        .write(
            "PUT",
            &format!("{TIERS}/4"),
            json!({"is_active": false, "features": {}, "addon_monthly_price_cents": null}),
        )
        .await;
    assert_eq!(changed.header("etag"), "\"2\"");
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["is_active"], &changed["features"], &changed["addon_monthly_price_cents"]),
        (&json!(false), &json!({}), &Value::Null)
    );
    api.send(
        Who::Admin,
        "PUT",
        &format!("{TIERS}/4"),
        &[("if-match", "\"1\"")],
        Some(json!({"sort_order": 1})),
    )
    .await
    .problem(412, "version_changed");
    assert_eq!(
        api.write("PUT", &format!("{TIERS}/99"), json!({"sort_order": 1}))
            .await
            .problem(404, "tier_not_found"),
        "Device tier not found"
    );
    api.get(Who::Operator, &format!("{TIERS}/99")).await.problem(404, "tier_not_found");
    assert_eq!(
        api.write("PUT", &format!("{TIERS}/4"), json!({})).await.problem(400, "no_fields"),
        "No fields to update"
    );
    let faults = api
        .write("POST", TIERS, json!({"name": "9lives", "display_name": "", "features": [1]}))
        .await
        .faults();
    assert_eq!(
        faults,
        [
            "display_name must not be empty",
            "features must be an object, not a list",
            "name must match ^[a-z][a-z0-9_-]{0,49}$"
        ]
    );
    let large = json!({"features": {"text": "x".repeat(20_000)}});
    assert_eq!(
        api.write("PUT", &format!("{TIERS}/4"), large).await.faults(),
        ["features must be at most 16384 bytes as JSON, not 20011"]
    );
    let nul = json!({"features": {"a": ["\u{0}"]}});
    assert_eq!(
        api.write("PUT", &format!("{TIERS}/4"), nul).await.faults(),
        ["features must not contain control characters"]
    );
    assert_eq!(audit(&world).await, ["DEVICE_TIER_CREATED", "DEVICE_TIER_UPDATED"]);
}
