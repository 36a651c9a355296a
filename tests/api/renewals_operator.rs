//! `operations`, the routes of the hourly run: what operators read and decide.

use futures::future::join_all;
use serde_json::{Value, json};
use tests::World;
use tests::api::{Api, Who};

const RUNS: &str = "/api/v1/operator/renewals/runs";
const BREAKER: &str = "/api/v1/operator/renewals/breaker";
const AHEAD: &str = "/api/v1/operator/renewals";
const UPCOMING: &str = "/api/v1/customer/billing/upcoming";
const RUN: &str = "/api/v1/operator/renewals/run";

#[tokio::test]
async fn runs_are_listed_newest_first_and_paged() {
    let world = World::new().await;
    let api = world.api().await;
    assert_eq!(
        api.get(Who::Operator, RUNS).await.expect(200),
        json!({"runs": [], "count": 0, "next_cursor": null})
    );
    world
        .db
        .batch_execute(
            "INSERT INTO renewal_runs (started_at, as_of, requested_by, status, counted, summary,
             finished_at) VALUES
                 ('2026-11-01T01:00:00Z', '2026-11-01T01:00:00Z', NULL, 'done', 3,
                 '{\"graces\": 3}', '2026-11-01T01:00:09Z'),
                 ('2026-11-01T03:00:00Z', '2027-11-01T00:00:00Z', 'operator-1', 'stopped', 0, '{}',
                 '2026-11-01T03:00:09Z'),
                 ('2026-11-01T02:00:00Z', '2026-11-01T02:00:00Z', NULL, 'failed', 0, NULL, NULL),
                 -- Of one moment: the higher number first.
                 ('2026-11-01T03:00:00Z', '2026-11-01T03:00:00Z', NULL, 'running', 0, NULL, NULL)",
        )
        .await
        .expect("runs");
    let whole = api.get(Who::Operator, RUNS).await.expect(200);
    let expected = json!({
        "run_id": 1, "started_at": "2026-11-01T01:00:00Z", "as_of": "2026-11-01T01:00:00Z",
        "requested_by": null, "status": "done", "counted": 3,
        "summary": {"graces": 3}, "finished_at": "2026-11-01T01:00:09Z"
    });
    assert_eq!(whole["runs"][3], expected);
    assert_eq!(api.get(Who::Operator, &format!("{RUNS}/1")).await.expect(200), expected);
    api.get(Who::Operator, &format!("{RUNS}/99")).await.problem(404, "run_not_found");
    api.get(Who::Operator, &format!("{RUNS}/first")).await.problem(404, "not_found");
    assert_eq!(
        (&whole["runs"][1]["requested_by"], &whole["runs"][1]["as_of"]),
        (&json!("operator-1"), &json!("2027-11-01T00:00:00Z"))
    );
    let seen = api.pages(Who::Operator, &format!("{RUNS}?limit=1"), "runs").await;
    let seen: Vec<_> = seen.iter().map(|run| &run["run_id"]).collect();
    assert_eq!(seen, [4, 2, 3, 1]);
    assert_eq!(
        api.get(Who::Operator, &format!("{RUNS}?limit=0&status=done")).await.faults(),
        ["limit must be from 1 to 500", "status is not a field of this request"]
    );
    world
        .db
        .execute("UPDATE renewal_runs SET status = 'done' WHERE run_id = 4", &[])
        .await
        .expect("ended");
    assert_eq!(
        api.get(Who::Operator, &format!("{RUNS}?limit=1")).await.expect(200)["runs"][0]["status"],
        "done"
    );
}

/// A word that goes so many seconds ahead of the database's clock.
async fn word(world: &World, seconds: i64, max_count: i64) -> Value {
    let until = world
        .row(&format!(
            "SELECT to_char((now() + interval '1 second' * {seconds}) AT TIME ZONE
                            'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') AS until"
        ))
        .await;
    json!({"approve_until": until["until"], "max_count": max_count,
        "note": "Checked: a month of trials ends"})
}

async fn approve(api: &Api, key: &str, body: &Value) -> tests::api::Reply {
    api.send(Who::Admin, "POST", BREAKER, &[("idempotency-key", key)], Some(body.clone())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_for_the_breaker_is_recorded_once_with_who_gave_it() {
    let world = World::new().await;
    let api = world.api().await;
    let body = word(&world, 7 * 86_400 - 60, 1_000_000).await;
    let replies = join_all((0..8).map(|_| approve(&api, "first", &body))).await;
    let made: Vec<&Value> =
        replies.iter().filter(|reply| reply.status == 201).map(|reply| &reply.body).collect();
    assert!(
        !made.is_empty()
            && replies
                .iter()
                .all(|reply| reply.status == 201 || reply.body["code"] == "request_in_progress")
    );
    assert!(made.iter().all(|again| again == &made[0]), "one answer: {made:?}");
    let (approval, row) = (
        made[0],
        world
            .row("SELECT approval_id, approved_by, max_count, used, note FROM renewal_approvals")
            .await,
    );
    for field in ["approval_id", "approved_by", "max_count", "used", "note"] {
        assert_eq!(approval[field], row[field], "{field}");
    }
    assert_eq!(
        (&approval["approve_until"], &approval["max_count"], &approval["used"]),
        (&body["approve_until"], &json!(1_000_000), &json!(0))
    );
    let audit = world
        .row(
            "SELECT actor_type, actor_id, tenant_id, host(ip_address) AS ip, new_state
              FROM subscription_audit WHERE event_type = 'RENEWAL_BREAKER_APPROVED'",
        )
        .await;
    assert_eq!(
        (&audit["actor_type"], &audit["actor_id"], &audit["tenant_id"]),
        (&json!("admin"), &approval["approved_by"], &Value::Null)
    );
    assert_eq!((&audit["ip"], &audit["new_state"]), (&json!(tests::api::SOURCE_IP), approval));
    // Another word is another row: the last one counts.
    assert_eq!(
        approve(&api, "first", &word(&world, 60, 2).await).await.faults(),
        ["idempotency-key was used for another request"]
    );
    let second = approve(&api, "second", &word(&world, 60, 1).await).await.expect(201);
    assert!(second["approval_id"].as_i64() > approval["approval_id"].as_i64());
    assert_eq!(world.count("renewal_approvals").await, 2);
    assert_eq!(world.count("subscription_audit").await, 2);
}

#[tokio::test]
async fn every_refusal_of_an_approval_names_its_field_and_records_nothing() {
    let world = World::new().await;
    let api = world.api().await;
    assert_eq!(
        approve(&api, "a", &word(&world, -1, 5).await).await.faults(),
        ["approve_until must be in the future"]
    );
    assert_eq!(
        approve(&api, "a", &word(&world, 7 * 86_400 + 60, 5).await).await.faults(),
        ["approve_until must be at most 7 days ahead"]
    );
    let faults = approve(
        &api,
        "a",
        &json!({"approve_until": "2026-11-22T00:00:00", "max_count": 0, "note": " ", "by": "me"}),
    )
    .await
    .faults();
    let expected = [
        "approve_until must be a time with an offset, such as 2026-01-31T09:30:00Z",
        "by is not a field of this request",
        "max_count must be from 1 to 1000000",
        "note must not be empty",
    ];
    assert_eq!(faults, expected);
    assert_eq!(
        approve(&api, "a", &json!({"max_count": 1_000_001})).await.faults(),
        ["max_count must be from 1 to 1000000", "approve_until is required", "note is required"]
    );
    api.send(Who::Operator, "POST", BREAKER, &[], Some(word(&world, 60, 5).await))
        .await
        .problem(403, "operator_admin_required");
    assert_eq!(
        (world.count("renewal_approvals").await, world.count("subscription_audit").await),
        (0, 0)
    );
}

#[tokio::test]
async fn what_is_to_come_is_listed_with_when_why_and_which_mails_before() {
    let world = World::new().await;
    let api = world.api().await;
    world
        .db
        .batch_execute(
            "UPDATE subscriptions SET status = 'EXPIRED';
             INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme');
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
             grace_end, device_limit, term_start, term_end, stripe_subscription_id,
             stripe_cancel_at, hold_reason, held_by, held_at, created_by)
             SELECT 'SUB-2025-000' || n, 'acme', kind, status, CASE WHEN status = 'GRACE'
             THEN now() + ends * interval '1 day' END, 1, now() - interval '400 days',
                    now() + ends * interval '1 day', stripe, CASE WHEN cancels
                    THEN now() + ends * interval '1 day' END,
                    CASE WHEN held THEN 'a promise' END, CASE WHEN held THEN 'op' END, CASE
                    WHEN held THEN now() END, 'test'
             FROM (VALUES (1, 'MAIN', 'ACTIVE', 20.5, NULL, false, false),
             (2, 'TRIAL', 'ACTIVE', -1, NULL, false, false),
             (3, 'MAIN', 'GRACE', 3, NULL, false, false),
                          (4, 'MAIN', 'ACTIVE', 5, 'sub_4', false, false),
                          (5, 'MAIN', 'ACTIVE', 6, 'sub_5', true, false),
                          (6, 'MAIN', 'ACTIVE', 7, 'sub_6', false, true),
                          (7, 'MAIN', 'ACTIVE', 29.9, NULL, false, false),
                          (8, 'MAIN', 'ACTIVE', 30.1, NULL, false, false),
                          (9, 'MAIN', 'SUSPENDED', 1, NULL, false, false)) AS all_of_them (n, kind,
                          status, ends, stripe, cancels, held)",
        )
        .await
        .expect("subscriptions");
    let ahead = api.get(Who::Operator, AHEAD).await.expect(200);
    let told: Vec<_> = ahead["renewals"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| (it["subscription_id"].clone(), it["change"].clone()))
        .collect();
    let expected = [
        (2, "expiry"),
        (3, "suspension"),
        (4, "renewal"),
        (5, "cancellation"),
        (6, "grace"),
        (1, "grace"),
        (7, "grace"),
    ];
    assert_eq!(
        told,
        expected.map(|(n, change)| (json!(format!("SUB-2025-000{n}")), json!(change)))
    );
    let kinds: Vec<_> = ahead["renewals"][5]["notices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|notice| notice["kind"].clone())
        .collect();
    assert_eq!(kinds, ["RENEWAL_14", "RENEWAL_7", "RENEWAL_1"]);
    assert!(ahead["renewals"].as_array().expect("a list").iter().all(|it| it["tenant_name"]
        == "Acme"
        && !it["why"].as_str().expect("a sentence").is_empty()));
    assert_eq!(
        api.get(Who::Operator, &format!("{AHEAD}?within_days=0")).await.expect(200)["count"],
        1,
        "what is overdue"
    );
    assert_eq!(
        api.get(Who::Operator, &format!("{AHEAD}?within_days=31")).await.expect(200)["count"],
        8
    );
    let seen = api.pages(Who::Operator, &format!("{AHEAD}?limit=2"), "renewals").await;
    assert_eq!(json!(seen), ahead["renewals"]);
    assert_eq!(api.get(Who::Customer("acme"), AHEAD).await.status, 403);

    let bolts = "INSERT INTO tenants (tenant_id, name) VALUES ('bolt', 'Bolt');
         INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
             device_limit, term_start, term_end, created_by)
         VALUES ('SUB-2025-0010', 'bolt', 'MAIN', 'ACTIVE', 1, now() - interval '1 day',
             now() + interval '2000 days', 'test')";
    world.db.batch_execute(bolts).await.expect("another company's");
    let of = async |filter: &str| {
        let list = api.get(Who::Operator, &format!("{AHEAD}?{filter}")).await.expect(200);
        list["renewals"].clone()
    };
    assert_eq!(of("tenant_id=acme").await, ahead["renewals"]);
    assert_eq!(of("tenant_id=bolt").await, json!([]), "later than 30 days");
    assert_eq!(of("tenant_id=bolt&within_days=3660").await[0]["tenant_name"], "Bolt");
    assert_eq!(of("subscription_id=SUB-2025-0003").await, json!([ahead["renewals"][1]]));
    assert_eq!(of("subscription_id=SUB-2025-0003&tenant_id=bolt").await, json!([]));

    // The same to those that it is about, without the words that are for operators.
    let upcoming = async |who: &str, query: &str| {
        api.pages(Who::Customer(who), &format!("{UPCOMING}?{query}"), "upcoming").await
    };
    let acmes = upcoming("acme", "limit=3").await;
    assert_eq!(acmes.len(), 8, "however far ahead");
    for (own, told) in acmes.iter().zip(ahead["renewals"].as_array().expect("a list")) {
        for field in ["subscription_id", "subscription_type", "status", "at", "change", "notices"] {
            assert_eq!(own[field], told[field], "{field}");
        }
        assert_eq!(own.as_object().expect("an object").len(), 6, "{own}");
    }
    let bolts = upcoming("bolt", "limit=500").await;
    assert_eq!(bolts.len(), 1, "of the own company alone: {bolts:?}");
    assert_eq!(bolts[0]["subscription_id"], "SUB-2025-0010");
}

#[tokio::test]
async fn the_breaker_says_by_which_numbers_it_is_open_and_which_approval_stands() {
    let world = World::new().await;
    let api = world.api().await;
    world.db.execute("UPDATE subscriptions SET status = 'EXPIRED'", &[]).await.expect("ended");
    let state = async || api.get(Who::Operator, BREAKER).await.expect(200);
    let quiet = json!({"open": false, "due": 0, "counted": 0, "live": 0, "approval": null});
    assert_eq!(state().await, quiet);
    world
        .db
        .batch_execute(
            "INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme');
             INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
                 device_limit, term_start, term_end, created_by)
             SELECT 'SUB-2025-' || lpad(n::text, 4, '0'), 'acme', 'TRIAL', 'TRIAL', 1,
                    now() - interval '30 days',
                    now() + CASE WHEN n <= 9 THEN -1 ELSE 9 END * interval '1 day', 'test'
             FROM generate_series(1, 40) n",
        )
        .await
        .expect("trials, some of them over");
    let few = json!({"open": false, "due": 9, "counted": 0, "live": 40, "approval": null});
    assert_eq!(state().await, few, "up to ten are never too many");
    world
        .db
        .execute(
            "INSERT INTO renewal_runs (started_at, as_of, status, counted)
                  VALUES (now(), now(), 'done', 2)",
            &[],
        )
        .await
        .expect("an earlier run of the day");
    let open = json!({"open": true, "due": 9, "counted": 2, "live": 40, "approval": null});
    assert_eq!(state().await, open, "with those of the last day they are");
    let too_low = approve(&api, "low", &word(&world, 3_600, 8).await).await.expect(201);
    let still = state().await;
    assert_eq!(still["open"], true);
    assert_eq!(still["approval"], too_low);
    let enough = approve(&api, "high", &word(&world, 3_600, 9).await).await.expect(201);
    let approved = state().await;
    assert_eq!(approved["open"], false);
    assert_eq!(approved["approval"], enough);
    let over = "UPDATE renewal_approvals SET approve_until = now() - interval '1 second'";
    world.db.execute(over, &[]).await.expect("its time is over");
    assert_eq!(state().await, open);
    api.get(Who::Customer("acme"), BREAKER).await.problem(403, "operator_required");
}

#[tokio::test]
async fn a_run_is_only_rehearsed_unless_it_is_asked_for() {
    let world = World::new().await;
    let api = world.api().await;
    let rehearsed =
        api.write("POST", RUN, json!({"as_of": "2099-01-01T00:00:00Z"})).await.expect(200);
    assert_eq!(
        (&rehearsed["dry_run"], &rehearsed["as_of"]),
        (&json!(true), &json!("2099-01-01T00:00:00Z"))
    );
    assert_eq!((world.count("renewal_runs").await, world.runs_asked_for().await), (0, 0));
    assert_eq!(
        api.write("POST", RUN, json!({"dry_run": false, "as_of": "2099-01-01T00:00:00Z"}))
            .await
            .faults(),
        ["as_of needs dry_run"]
    );
    api.send(Who::Operator, "POST", RUN, &[], Some(json!({"dry_run": false})))
        .await
        .problem(403, "operator_admin_required");
    assert_eq!(
        api.write("POST", RUN, json!({"dry_run": false})).await.expect(202),
        json!({"status": "requested"})
    );
    assert_eq!(world.runs_asked_for().await, 1);
    assert_eq!(
        world
            .count(
                "subscription_audit WHERE event_type = 'RENEWAL_RUN_REQUESTED'
                            AND actor_type = 'admin'"
            )
            .await,
        1
    );
}
