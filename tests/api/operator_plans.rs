//! `operator-plans`: the catalogue.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::{World, text};

const PLANS: &str = "/api/v1/operator/plans";
const TIERS: &str = "/api/v1/operator/device-tiers";

async fn audit(world: &World) -> Vec<String> {
    let rows = world
        .rows("SELECT event_type, actor_type, tenant_id FROM subscription_audit ORDER BY id")
        .await;
    assert!(
        rows.iter().all(|row| row["actor_type"] == "admin" && row["tenant_id"] == Value::Null),
        "{rows:?}"
    );
    rows.iter().map(|row| text(&row["event_type"])).collect()
}

/// A plan as a test adds it.
async fn team(api: &Api) -> Value {
    let body = json!({"plan_id": "team", "name": "Team", "device_limit": 50,
        "limits": {"alert_rules": 50, "users": 10}, "sort_order": 2,
                      "stripe_price_id": "price_team_month", "monthly_price_cents": 9900});
    api.write("POST", PLANS, body).await.expect(201)
}

#[tokio::test]
async fn a_plan_is_added_read_and_changed_and_each_change_is_audited() {
    let world = World::new().await;
    let api = world.api().await;
    let reply = api.write("POST", PLANS, json!({"plan_id": "tiny", "name": "Tiny"})).await;
    assert_eq!(
        (reply.header("etag"), reply.header("location")),
        ("\"1\"", "/api/v1/operator/plans/tiny")
    );
    let tiny = reply.expect(201);
    let defaults = json!({"description": "", "device_limit": 0, "limits": {},
        "stripe_price_id": null, "stripe_annual_price_id": null,
                          "monthly_price_cents": null, "annual_price_cents": null,
                          "is_active": true, "sort_order": 0, "version": 1});
    for (name, value) in defaults.as_object().expect("an object") {
        assert_eq!(tiny[name], *value, "{name}");
    }
    let team = team(&api).await;
    assert_eq!(api.get(Who::Operator, &format!("{PLANS}/team")).await.expect(200), team);
    // Absent keeps, null clears, a value replaces.
    let change = json!({"name": "Teams", "monthly_price_cents": null, "limits": {"users": 12}});
    let reply = api.write("PUT", &format!("{PLANS}/team"), change).await;
    assert_eq!(reply.header("etag"), "\"2\"");
    let changed = reply.expect(200);
    assert_eq!(changed["status"], "ok");
    for (name, value) in [
        ("name", json!("Teams")),
        ("monthly_price_cents", Value::Null),
        ("limits", json!({"users": 12})),
        ("device_limit", json!(50)),
    ] {
        assert_eq!(changed[name], value, "{name}");
    }
    assert_eq!(changed["stripe_price_id"], "price_team_month");
    // What is so already is no change: no version, no audit row.
    let same = api.write("PUT", &format!("{PLANS}/team"), json!({"name": "Teams"})).await;
    assert_eq!((same.header("etag"), &same.body["updated_at"]), ("\"2\"", &changed["updated_at"]));
    assert_eq!(audit(&world).await, ["PLAN_CREATED", "PLAN_CREATED", "PLAN_UPDATED"]);
    let row = world
        .row(
            "SELECT previous_state, new_state FROM subscription_audit
                         WHERE event_type = 'PLAN_UPDATED'",
        )
        .await;
    assert_eq!(
        (&row["previous_state"], &row["new_state"]["name"], &row["new_state"]["version"]),
        (&team, &json!("Teams"), &json!(2))
    );
}

#[tokio::test]
async fn every_refusal_of_a_plan_says_what_a_person_would_understand() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let put =
        async |path: &str, body: Value| api.write("PUT", &format!("{PLANS}/{path}"), body).await;
    assert_eq!(
        api.write("POST", PLANS, json!({"plan_id": "team", "name": "Again"}))
            .await
            .problem(409, "plan_exists"),
        "Plan 'team' already exists"
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{PLANS}/none")).await.problem(404, "plan_not_found"),
        "Plan not found"
    );
    assert_eq!(
        put("none", json!({"name": "x"})).await.problem(404, "plan_not_found"),
        "Plan not found"
    );
    assert_eq!(put("team", json!({})).await.problem(400, "no_fields"), "No fields to update");
    let bad = json!({
        "plan_id": "No Good", "device_limit": -1, "limits": {"Users": 1, "alert_rules": "many",
        "users": -2}, "stripe_price_id": 5, "monthly_price_cents": 9.5,
        "is_active": "yes", "sort_order": 1e30, "colour": "red",
    });
    assert_eq!(
        api.write("POST", PLANS, bad).await.faults(),
        [
            "colour is not a field of this request",
            "device_limit must be from 0 to 1000000000",
            "is_active must be true or false, not text",
            "limits.Users must be named in lower case: a letter, then letters, digits and \
             underscores, at most 50",
            "limits.alert_rules must be a whole number, not text",
            "limits.users must be from 0 to 1000000000",
            "monthly_price_cents must be a whole number, not a number",
            "plan_id must match ^[a-z0-9_-]{1,50}$",
            "sort_order must be from -1000000 to 1000000",
            "stripe_price_id must be text, not a whole number",
            "name is required",
        ]
    );
    assert_eq!(
        put("team", json!({"name": null, "description": "a\u{0}b", "plan_id": "other"}))
            .await
            .faults(),
        [
            "description must not contain control characters",
            "name must be text, not null",
            "plan_id is not a field of this request"
        ]
    );
    assert_eq!(
        put("team", json!({"name": "x".repeat(101)})).await.faults(),
        ["name must have at most 100 characters, not 101"]
    );
    assert_eq!(put("team", json!({"name": "  "})).await.faults(), ["name must not be empty"]);
    assert_eq!(put("team", json!([1])).await.faults(), ["body must be an object, not a list"]);
    assert_eq!(audit(&world).await, ["PLAN_CREATED"], "nothing was changed");
}

#[tokio::test]
async fn of_two_editors_the_second_with_an_old_etag_is_told_and_nothing_is_lost() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let path = format!("{PLANS}/team");
    let put = async |tag: &str, body: Value| {
        api.send(Who::Admin, "PUT", &path, &[("if-match", tag)], Some(body)).await
    };
    // At the same moment, both from version 1: one of them.
    let both =
        join_all([put("\"1\"", json!({"name": "A"})), put("\"1\"", json!({"name": "B"}))]).await;
    let mut statuses: Vec<u16> = both.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let winner = both.iter().find(|reply| reply.status == 200).expect("one").body["name"].clone();
    let detail = put("\"1\"", json!({"device_limit": 1})).await.problem(412, "version_changed");
    assert!(detail.contains("version 2"), "{detail}");
    for tag in ["W/\"2\"", "2", "\"\"", "\"2"] {
        put(tag, json!({"device_limit": 1})).await.problem(412, "version_changed");
    }
    let plan = api.get(Who::Operator, &path).await.expect(200);
    assert_eq!(
        (&plan["name"], &plan["device_limit"], &plan["version"]),
        (&winner, &json!(50), &json!(2))
    );
    assert_eq!(put("\"7\", \"2\"", json!({"device_limit": 60})).await.status, 200, "one of a list");
    assert_eq!(put("*", json!({"device_limit": 70})).await.status, 200, "any");
    assert_eq!(
        audit(&world).await,
        ["PLAN_CREATED", "PLAN_UPDATED", "PLAN_UPDATED", "PLAN_UPDATED"]
    );
}

/// Trap 40.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_makes_one_plan_however_often_and_at_once() {
    let world = World::new().await;
    let api = world.api().await;
    let body = json!({"plan_id": "team", "name": "Team"});
    let post = async |who, key: &str, body: &Value| {
        api.send(who, "POST", PLANS, &[("idempotency-key", key)], Some(body.clone())).await
    };
    let replies = join_all((0..20).map(|_| post(Who::Admin, "key-1", &body))).await;
    let first = replies.iter().find(|reply| reply.status == 201).expect("one was made").clone();
    for reply in &replies {
        if reply.status == 201 {
            assert_eq!(
                (&reply.body, reply.header("etag"), reply.header("location")),
                (&first.body, first.header("etag"), first.header("location"))
            );
        } else {
            reply.problem(409, "request_in_progress");
            assert!(!reply.header("retry-after").is_empty());
        }
    }
    assert_eq!(audit(&world).await, ["PLAN_CREATED"]);
    // The first answer again, also after the plan has changed.
    api.write("PUT", &format!("{PLANS}/team"), json!({"name": "Other"})).await.expect(200);
    assert_eq!(post(Who::Admin, "key-1", &body).await.expect(201), first.body);
    let other = json!({"plan_id": "team2", "name": "Team"});
    assert_eq!(
        post(Who::Admin, "key-1", &other).await.faults(),
        ["idempotency-key was used for another request"]
    );
    // Another caller, another route, another key: another request.
    let someone =
        world.keycloak.sign(&world.keycloak.claims(&["operator_admin"], None)).expect("a token");
    post(Who::Token(&someone), "key-1", &body).await.problem(409, "plan_exists");
    let tier = json!({"name": "gold", "display_name": "Gold"});
    api.send(Who::Admin, "POST", TIERS, &[("idempotency-key", "key-1")], Some(tier))
        .await
        .expect(201);
    // A refusal changed nothing and is not kept: the same key may try again.
    post(Who::Admin, "key-2", &json!({"plan_id": "team", "name": "Again"}))
        .await
        .problem(409, "plan_exists");
    post(Who::Admin, "key-2", &json!({"plan_id": "team3", "name": "Team"})).await.expect(201);
    for key in ["", "with blank", &"x".repeat(256)] {
        assert_eq!(
            post(Who::Admin, key, &other).await.faults(),
            ["idempotency-key must be 1 to 255 visible ASCII characters"],
            "{key}"
        );
    }
    // After a day the key is free again.
    world
        .db
        .execute(
            "UPDATE idempotency_keys SET created_at = created_at - interval '24 hours 1 minute'",
            &[],
        )
        .await
        .expect("aged");
    post(Who::Admin, "key-1", &other).await.expect(201);
    assert_eq!(post(Who::Admin, "key-1", &other).await.expect(201)["plan_id"], "team2");
}

/// The request runs while another holds the plan: whoever repeats it meanwhile is told to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_repeated_while_the_first_still_runs_is_told_to_wait() {
    let world = World::new().await;
    let api = world.api().await;
    // The first waits for the lock on the prices.
    let mut blocker = tests::connect(&world.settings["DATABASE_NAME"]).await;
    let tx = blocker.transaction().await.expect("a transaction");
    tx.batch_execute("LOCK TABLE stripe_prices").await.expect("locked");
    let body = json!({"plan_id": "slow", "name": "Slow", "stripe_price_id": "price_slow"});
    let post =
        || api.send(Who::Admin, "POST", PLANS, &[("idempotency-key", "k")], Some(body.clone()));
    let first = post();
    let second = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let reply = post().await;
        reply.problem(409, "request_in_progress");
        tx.rollback().await.expect("released");
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.expect(201), post().await.expect(201));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stripe_price_belongs_to_one_thing_and_a_replaced_one_stays_mapped() {
    let world = World::new().await;
    let api = world.api().await;
    team(&api).await;
    let put = async |body: Value| api.write("PUT", &format!("{PLANS}/team"), body).await;
    let mapped = "SELECT stripe_price_id, interval, is_current FROM stripe_prices
                  WHERE plan_id = 'team' ORDER BY stripe_price_id";
    put(json!({"stripe_price_id": "price_team_new", "stripe_annual_price_id": "price_team_year"}))
        .await
        .expect(200);
    assert_eq!(
        world.rows(mapped).await,
        [
            json!({"stripe_price_id": "price_team_month", "interval": "month",
                "is_current": false}),
            json!({"stripe_price_id": "price_team_new", "interval": "month", "is_current": true}),
            json!({"stripe_price_id": "price_team_year", "interval": "year", "is_current": true}),
        ]
    );
    // Another plan's, another interval's, a tier's slots': taken, and nothing of the request is
    // done.
    for body in [
        json!({"name": "X", "stripe_price_id": "price_pro_month"}),
        json!({"name": "X", "stripe_price_id": "price_team_year"}),
        json!({"name": "X", "stripe_annual_price_id": "price_basic_slot_month"}),
    ] {
        put(body).await.problem(409, "price_taken");
    }
    let tier = json!({"name": "gold", "display_name": "Gold",
        "addon_stripe_price_id": "price_team_month"});
    api.write("POST", TIERS, tier).await.problem(409, "price_taken");
    assert_eq!(api.get(Who::Operator, &format!("{PLANS}/team")).await.expect(200)["name"], "Team");
    // Back to the former one, then to none: both stay mapped.
    assert_eq!(
        put(json!({"stripe_price_id": "price_team_month"})).await.expect(200)["stripe_price_id"],
        "price_team_month"
    );
    assert_eq!(
        put(json!({"stripe_price_id": null})).await.expect(200)["stripe_price_id"],
        Value::Null
    );
    assert_eq!(world.rows(mapped).await.iter().filter(|row| row["is_current"] == true).count(), 1);
    assert_eq!(world.rows(mapped).await.len(), 3);
    // A customer on a former price of a retired plan still resolves.
    put(json!({"is_active": false})).await.expect(200);
    world.stripe.add_price(simulators::stripe::Price {
        id: "price_team_month".to_owned(),
        product: "prod_team".to_owned(),
        unit_amount: 9_900,
        interval: simulators::stripe::Interval::Month,
        nickname: "Team".to_owned(),
    });
    let session = world.checkout(
        "price_team_month",
        &[("company_name", "Late Payer"), ("admin_email", "late@payer.example")],
    );
    world.stripe.pay(&session, tests::payer("late@payer.example")).expect("paid");
    world.receive(&[&world.event("checkout.session.completed")]).await;
    assert_eq!(
        world
            .row("SELECT plan_id, device_limit FROM subscriptions WHERE tenant_id = 'late-payer'")
            .await,
        json!({"plan_id": "team", "device_limit": 50})
    );
}

/// Two plans that exchange their prices at once: no deadlock reaches a caller, and each price has
/// one owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_exchange_prices_at_once_wait_for_each_other() {
    let world = World::new().await;
    let api = world.api().await;
    for id in ["a", "b"] {
        api.write("POST", PLANS, json!({"plan_id": id, "name": id})).await.expect(201);
    }
    let replies = join_all((0..32).map(|n| {
        let (plan, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let body = json!({"stripe_price_id": format!("price_{plan}_{}", n % 4),
        "stripe_annual_price_id": format!("price_{other}_{}", n % 4)});
        let api = &api;
        async move { api.write("PUT", &format!("{PLANS}/{plan}"), body).await }
    }))
    .await;
    assert!(
        replies.iter().all(|reply| matches!(reply.status, 200 | 409)),
        "{:?}",
        replies.iter().map(|reply| reply.status).collect::<Vec<_>>()
    );
    assert!(replies.iter().any(|reply| reply.status == 200));
}

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

#[tokio::test]
async fn lists_page_by_offset_and_by_cursor_over_a_total_order() {
    let world = World::new().await;
    let api = world.api().await;
    for n in 0..7 {
        // Equal places in the order: the id decides.
        api.write(
            "POST",
            PLANS,
            json!({"plan_id": format!("p{n}"), "name": "P", "sort_order": n / 3}),
        )
        .await
        .expect(201);
    }
    let ids = |answer: &Value| {
        answer["plans"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|plan| text(&plan["plan_id"]))
            .collect::<Vec<_>>()
    };
    let all = api.get(Who::Operator, PLANS).await.expect(200);
    assert_eq!(
        (ids(&all).len(), &all["count"], &all["next_cursor"]),
        (10, &json!(10), &Value::Null)
    );
    assert_eq!(
        ids(&all),
        ["p0", "p1", "p2", "p3", "p4", "p5", "starter", "p6", "pro", "enterprise"]
    );
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(Who::Operator, &format!("{PLANS}?limit=3{cursor}")).await.expect(200);
        seen.extend(ids(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ids(&all));
    assert_eq!(
        ids(&api.get(Who::Operator, &format!("{PLANS}?limit=2&offset=8")).await.expect(200)),
        ["pro", "enterprise"]
    );
    assert_eq!(
        ids(&api.get(Who::Operator, &format!("{PLANS}?offset=10")).await.expect(200)),
        Vec::<String>::new()
    );
    for (query, fault) in [
        ("limit=501", "limit must be from 1 to 500"),
        ("limit=ten", "limit must be a whole number, not text"),
        ("offset=-1", "offset must be from 0 to 1000000000"),
        ("cursor=nonsense", "cursor must match what `next_cursor` of the page before said"),
        ("cursor=WzFd", "cursor is not a cursor of this list"),
    ] {
        assert_eq!(
            api.get(Who::Operator, &format!("{PLANS}?{query}")).await.faults(),
            [fault],
            "{query}"
        );
    }
    let tiers = api.get(Who::Operator, &format!("{TIERS}?limit=2")).await.expect(200);
    assert_eq!(
        tiers["tiers"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|tier| text(&tier["name"]))
            .collect::<Vec<_>>(),
        ["basic", "standard"]
    );
    // A cursor of one list in the other.
    let cursor = text(&all_cursor(&api).await);
    assert_eq!(
        api.get(Who::Operator, &format!("{TIERS}?cursor={cursor}")).await.faults(),
        ["cursor is not a cursor of this list"]
    );
}

async fn all_cursor(api: &Api) -> Value {
    api.get(Who::Operator, &format!("{PLANS}?limit=1")).await.expect(200)["next_cursor"].clone()
}
