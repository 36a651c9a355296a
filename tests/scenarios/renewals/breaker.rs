//! The breaker and the dry run: what a run does not do.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{days, instant, offline, run, world_at};

/// Trap 34.
#[tokio::test]
async fn a_clock_a_year_ahead_suspends_no_one_until_an_operator_says_so() {
    let now = instant("2026-03-01T00:00:00Z");
    let world = world_at("2026-03-01T00:00:00Z").await;
    for n in 0..40 {
        let kind = if n % 4 == 0 { "TRIAL" } else { "MAIN" };
        offline(&world, &format!("t{n}"), kind, "ACTIVE", now - days(100), now + days(100 + n))
            .await;
    }
    world.clock.stop_at(now + days(365));
    let summary = run(&world).await;
    assert_eq!(
        (&summary["breaker"], &summary["changes"]),
        (&json!({"due": 40, "live": 40, "approved": 0}), &json!({}))
    );
    assert_eq!(
        summary["left"],
        json!({"expiries": 10, "graces": 30, "suspensions": 0, "notices": 0})
    );
    assert_eq!(world.count("subscriptions WHERE status = 'ACTIVE'").await, 40);
    run(&world).await;
    assert_eq!(
        world.rows("SELECT kind, resolved_at FROM flags").await,
        [json!({"kind": "renewal_breaker", "resolved_at": null})],
        "an alarm, and not one an hour"
    );
    // The clock is right again: nothing happened.
    world.clock.stop_at(now);
    assert_eq!(run(&world).await["breaker"], Value::Null);

    // It is a year later indeed. A word for fewer than are due, one that has run out, and one for
    // all.
    world.clock.stop_at(now + days(365));
    let approve = async |until: i64, count: i32| {
        let sql = "INSERT INTO renewal_approvals (approved_at, approved_by, approve_until,
                   max_count, note) VALUES ($1, 'op', $2, $3, 'checked')";
        let at = now + days(365);
        world
            .db
            .execute(sql, &[&at, &(at + SignedDuration::from_secs(until)), &count])
            .await
            .expect("approved");
    };
    approve(3600, 39).await;
    assert_eq!(run(&world).await["breaker"]["approved"], 39);
    approve(0, 1000).await;
    assert_eq!(run(&world).await["breaker"]["approved"], 0);
    approve(3600, 45).await;
    let summary = run(&world).await;
    assert_eq!(
        (&summary["breaker"], &summary["changes"]),
        (&Value::Null, &json!({"EXPIRED": 10, "GRACE": 30}))
    );
    assert_eq!(world.row("SELECT max(used) AS used FROM renewal_approvals").await["used"], 40);
    // What an operator has approved is not held against the next day's.
    offline(&world, "next", "MAIN", "ACTIVE", now, now + days(364)).await;
    assert_eq!(run(&world).await["changes"], json!({"GRACE": 1}));
}

#[tokio::test]
async fn the_breaker_sees_a_day_and_not_an_hour() {
    let now = instant("2026-03-01T00:00:00Z");
    let world = world_at("2026-03-01T00:00:00Z").await;
    for n in 0..60 {
        offline(
            &world,
            &format!("t{n}"),
            "MAIN",
            "ACTIVE",
            now - days(100),
            now + SignedDuration::from_hours(n / 4) + days(if n < 20 { 0 } else { 300 }),
        )
        .await;
    }
    let mut graces = 0;
    for hour in 0..5 {
        world.clock.stop_at(now + SignedDuration::from_hours(hour));
        let summary = run(&world).await;
        graces += summary["changes"]["GRACE"].as_i64().unwrap_or(0);
        // Four an hour: after eight of ten the third four are too many.
        assert_eq!(summary["breaker"].is_null(), hour < 2, "hour {hour}: {summary}");
    }
    assert_eq!(graces, 8);
    // A day later those of the first hours are forgotten, and twelve at once are still too many.
    world.clock.stop_at(now + days(2));
    assert_eq!(run(&world).await["breaker"]["due"], 12);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_announces_what_the_run_then_does() {
    let now = instant("2026-03-01T00:00:00Z");
    let world = world_at("2026-02-01T00:00:00Z").await;
    for n in 0..30_i64 {
        let (kind, end) = (
            ["MAIN", "TRIAL", "TEMPORARY"][usize::try_from(n % 3).expect("small")],
            now + days(if n < 9 { -n } else { n * 4 }),
        );
        offline(&world, &format!("t{n}"), kind, "ACTIVE", now - days(300), end).await;
    }
    let grace =
        "UPDATE subscriptions SET status = 'GRACE', grace_end = term_end + interval '1 hour'
                 WHERE tenant_id = 't6'";
    world.db.execute(grace, &[]).await.expect("in grace");
    let tables = [
        "subscriptions",
        "outbox_steps",
        "subscription_audit",
        "flags",
        "renewal_runs",
        "renewal_cursors",
    ];
    let all = async || {
        let mut all = Vec::new();
        for table in tables {
            all.extend(world.rows(&format!("SELECT * FROM {table} ORDER BY 1")).await);
        }
        all
    };
    let before = all().await;
    let event = json!({"dry_run": true, "as_of": now.to_string()});
    let announced =
        serde_json::to_value(world.renewals.handle(event).await.expect("a dry run")).expect("JSON");
    assert_eq!(all().await, before, "nothing is changed");
    let done = world.renewals.handle(json!({"as_of": now.to_string()})).await.expect("a run");
    let done = serde_json::to_value(done).expect("JSON");
    assert_eq!(
        (&announced["changes"], &announced["notices"]),
        (&done["changes"], &done["notices"])
    );
    assert_eq!(done["changes"], json!({"GRACE": 2, "SUSPENDED": 1, "EXPIRED": 6}));
    for one in announced["announced"].as_array().expect("a list") {
        let sql = format!(
            "SELECT subscription_id, tenant_id, status, grace_end FROM subscriptions
             WHERE subscription_id = {}",
            one["subscription_id"].to_string().replace('"', "'")
        );
        let is = world.row(&sql).await;
        assert_eq!(
            (&is["status"], is["grace_end"].is_null()),
            (&one["status"], one["grace_end"].is_null()),
            "{one}"
        );
    }
    assert_eq!(announced["announced"].as_array().map(Vec::len), Some(9));
    // Elsewhere an hour cannot be made up, but announced.
    let mut world = world;
    world.renewals.renewal.may_rehearse = false;
    let refused =
        world.renewals.handle(json!({"as_of": now.to_string()})).await.expect_err("refused");
    assert_eq!(refused.to_string(), "as_of needs dry_run: this deployment is no local or test one");
    assert!(
        world.renewals.handle(json!({"as_of": now.to_string(), "dry_run": true})).await.is_ok()
    );
}
