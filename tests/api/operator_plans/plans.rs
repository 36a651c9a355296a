//! An operator adds, changes and lists plans.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::api::{Api, Who};
use tests::{World, text};

use super::{PLANS, TIERS, audit, team};

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
async fn every_refusal_of_a_plan_says_what_an_operator_would_understand() {
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
            "limits.alert_rules must be a whole number, true, false or null",
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
async fn of_two_editors_the_second_with_an_old_etag_is_refused_and_nothing_is_lost() {
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

/// The request runs while another holds the plan: whoever repeats it meanwhile has to wait.
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
    let seen = api.pages(Who::Operator, &format!("{PLANS}?limit=3"), "plans").await;
    assert_eq!(json!(seen), all["plans"]);
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
