//! What is due when, to the microsecond.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{days, instant, mails, offline, run, state, world_at};

const MICRO: SignedDuration = SignedDuration::from_micros(1);

#[tokio::test]
async fn a_notice_is_due_exactly_at_its_threshold_whatever_the_calendar_says() {
    // The terms have a leap day in them, and one end on it.
    let now = instant("2028-01-15T10:30:00.000001Z");
    let world = world_at("2028-01-15T10:30:00.000001Z").await;
    let mut expected = BTreeMap::new();
    let before = [
        ("90", "none"),
        ("60", "RENEWAL_90"),
        ("30", "RENEWAL_60"),
        ("14", "RENEWAL_30"),
        ("7", "RENEWAL_14"),
        ("1", "RENEWAL_7"),
    ];
    for (threshold, previous) in before {
        let end = now + days(threshold.parse().expect("a number"));
        for (name, end, kind) in [
            ("on", end, format!("RENEWAL_{threshold}")),
            ("late", end - MICRO, format!("RENEWAL_{threshold}")),
            ("early", end + MICRO, previous.to_owned()),
        ] {
            let id = format!("{name}-{threshold}");
            offline(&world, &id, "MAIN", "ACTIVE", end - days(366), end).await;
            if kind != "none" {
                expected.insert(id, vec![kind]);
            }
        }
    }
    // A threshold counts where it is at most half the term.
    for (id, term, left, kind) in [
        ("half", 28, 14, Some("RENEWAL_14")),
        ("less", 27, 14, None),
        ("month", 30, 7, Some("RENEWAL_7")),
        ("two-days", 2, 1, Some("RENEWAL_1")),
        ("one-day", 1, 1, None),
        ("over", 366, 0, None),
    ] {
        offline(&world, id, "MAIN", "ACTIVE", now + days(left - term), now + days(left)).await;
        expected.extend(kind.map(|kind| (id.to_owned(), vec![kind.to_owned()])));
    }
    // Only what gives access, and is a root, has notices.
    offline(&world, "suspended", "MAIN", "SUSPENDED", now - days(300), now + days(30)).await;
    offline(&world, "trial", "TRIAL", "ACTIVE", now - days(7), now + days(7)).await;
    expected.insert("trial".to_owned(), vec!["RENEWAL_7".to_owned()]);
    let addon = "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type,
                 parent_subscription_id, status, device_limit, term_start, term_end, created_by)
                 SELECT generate_subscription_id(), tenant_id, 'ADDON', subscription_id, 'ACTIVE',
                 1, term_start, term_end, 'test' FROM subscriptions WHERE tenant_id = 'on-30'";
    world.db.execute(addon, &[]).await.expect("an ADDON");
    let summary = run(&world).await;
    let mut left = mails(&world).await;
    assert_eq!(left.remove("over"), Some(vec!["GRACE".to_owned()]), "its end has come instead");
    assert_eq!(left, expected);
    assert_eq!(summary["left"]["notices"], 0);
    let left: i64 =
        summary["notices"].as_object().expect("by kind").values().filter_map(Value::as_i64).sum();
    assert_eq!(usize::try_from(left), Ok(expected.len()));
    // Each once.
    assert_eq!(run(&world).await["notices"], json!({}));
}

/// Trap 33.
#[tokio::test]
async fn of_missed_notices_only_the_nearest_is_left_and_another_term_begins_the_series_again() {
    let world = world_at("2026-06-01T00:00:00Z").await;
    let end = instant("2026-12-01T00:00:00Z");
    offline(&world, "acme", "MAIN", "ACTIVE", end - days(365), end).await;
    let at = async |left: SignedDuration| {
        world.clock.stop_at(end - left);
        run(&world).await;
        mails(&world).await.remove("acme").unwrap_or_default()
    };
    assert_eq!(at(days(91)).await, Vec::<String>::new());
    assert_eq!(at(days(90)).await, ["RENEWAL_90"]);
    assert_eq!(at(days(61)).await, ["RENEWAL_90"]);
    // No run for a month and a half: 60 and 30 are past.
    assert_eq!(at(days(13)).await, ["RENEWAL_90", "RENEWAL_14"]);
    // Created late, so to say: another one of eight days.
    offline(&world, "late", "MAIN", "ACTIVE", end - days(200), end).await;
    assert_eq!(at(days(5)).await, ["RENEWAL_90", "RENEWAL_14", "RENEWAL_7"]);
    assert_eq!(mails(&world).await["late"], ["RENEWAL_7"]);
    // Extended by a year: nothing is due, and the year's own series comes.
    let later = end + days(365);
    world
        .db
        .execute(
            "UPDATE subscriptions SET term_start = term_end, term_end = $1
                      WHERE tenant_id = 'acme'",
            &[&later],
        )
        .await
        .expect("extended");
    assert_eq!(at(days(4)).await.len(), 3);
    assert_eq!(at(days(30 - 365)).await[3..], ["RENEWAL_30"]);
    // Made shorter: the nearest for the new end.
    let earlier = later - days(20);
    world
        .db
        .execute("UPDATE subscriptions SET term_end = $1 WHERE tenant_id = 'acme'", &[&earlier])
        .await
        .expect("shortened");
    assert_eq!(at(days(29 - 365)).await[4..], ["RENEWAL_14"]);
    // And back: what was left for that end is not left again.
    world
        .db
        .execute("UPDATE subscriptions SET term_end = $1 WHERE tenant_id = 'acme'", &[&later])
        .await
        .expect("extended");
    assert_eq!(at(days(28 - 365)).await.len(), 5);
    assert_eq!(at(days(14 - 365)).await[5..], ["RENEWAL_14"]);
}

/// Traps 15, 30 and 31.
#[tokio::test]
async fn a_term_ends_at_its_end_and_grace_at_its_own_to_the_microsecond() {
    let now = instant("2026-03-01T00:00:00Z");
    let world = world_at("2026-03-01T00:00:00Z").await;
    for (id, kind, status, end) in [
        ("main-on", "MAIN", "ACTIVE", now),
        ("main-early", "MAIN", "ACTIVE", now + MICRO),
        ("main-late", "MAIN", "TRIAL", now - MICRO),
        ("main-older", "MAIN", "ACTIVE", now - days(100)),
        ("trial-on", "TRIAL", "ACTIVE", now),
        ("trial-early", "TRIAL", "ACTIVE", now + MICRO),
        ("temporary-on", "TEMPORARY", "ACTIVE", now - days(1)),
        ("suspended", "MAIN", "SUSPENDED", now - days(1)),
        ("expired", "MAIN", "EXPIRED", now - days(1)),
    ] {
        offline(&world, id, kind, status, now - days(200), end).await;
    }
    for (id, end) in [("grace-on", now), ("grace-early", now + MICRO), ("grace-late", now - MICRO)]
    {
        offline(&world, id, "MAIN", "ACTIVE", now - days(60), now - days(14)).await;
        world
            .db
            .execute(
                "UPDATE subscriptions SET status = 'GRACE', grace_end = $2 WHERE tenant_id = $1",
                &[&id, &end],
            )
            .await
            .expect("in grace");
    }
    let first = run(&world).await;
    assert_eq!(first["changes"], json!({"GRACE": 3, "SUSPENDED": 2, "EXPIRED": 2}), "{first}");
    let fourteen = now + days(14);
    for (id, status, grace_end) in [
        ("main-on", "GRACE", Some(fourteen)),
        ("main-early", "ACTIVE", None),
        ("main-late", "GRACE", Some(fourteen - MICRO)),
        // No grace is shorter than three days from now on.
        ("main-older", "GRACE", Some(now + days(3))),
        ("trial-on", "EXPIRED", None),
        ("trial-early", "ACTIVE", None),
        ("temporary-on", "EXPIRED", None),
        ("suspended", "SUSPENDED", None),
        ("expired", "EXPIRED", None),
        ("grace-on", "SUSPENDED", None),
        ("grace-early", "GRACE", Some(now + MICRO)),
        ("grace-late", "SUSPENDED", None),
    ] {
        assert_eq!(state(&world, id).await, (status.to_owned(), grace_end), "{id}");
    }
    // Each change has its audit row, with both states, and its mail.
    let sql = "SELECT event_type, actor_type, actor_id, previous_state->>'status' AS was,
               new_state->>'status' AS is, (new_state->>'version')::int AS version
               FROM subscription_audit WHERE tenant_id = 'main-on'";
    let row = json!({"event_type": "STATUS_GRACE", "actor_type": "system", "actor_id": "renewal",
    "was": "ACTIVE", "is": "GRACE", "version": 2});
    assert_eq!(world.rows(sql).await, [row]);
    assert_eq!(world.count("subscription_audit WHERE actor_id = 'renewal'").await, 7);
    let left = mails(&world).await;
    assert_eq!(
        (&left["main-on"], &left["trial-on"], &left["grace-on"]),
        (&vec!["GRACE".to_owned()], &vec!["EXPIRED".to_owned()], &vec!["SUSPENDED".to_owned()])
    );
    // A microsecond later it is the others' time.
    world.clock.stop_at(now + MICRO);
    assert_eq!(run(&world).await["changes"], json!({"GRACE": 1, "SUSPENDED": 1, "EXPIRED": 1}));
    assert_eq!(run(&world).await["changes"], json!({}));
}

#[tokio::test]
async fn what_another_holds_at_that_moment_is_left_and_a_payment_that_commits_then_counts() {
    let now = instant("2026-03-01T00:00:00Z");
    let world = world_at("2026-03-01T00:00:00Z").await;
    for id in ["paying", "deleting", "due"] {
        offline(&world, id, "MAIN", "ACTIVE", now - days(30), now).await;
    }
    let other = tests::connect(&world.settings["DATABASE_NAME"]).await;
    other
        .batch_execute(
            "BEGIN; SELECT FROM subscriptions WHERE tenant_id = 'paying' FOR NO KEY UPDATE",
        )
        .await
        .expect("locked");
    let third = tests::connect(&world.settings["DATABASE_NAME"]).await;
    third
        .batch_execute("BEGIN; SELECT FROM tenants WHERE tenant_id = 'deleting' FOR UPDATE")
        .await
        .expect("locked");
    let summary = run(&world).await;
    assert_eq!(
        (&summary["changes"], &summary["left"]["graces"]),
        (&json!({"GRACE": 1}), &json!(2)),
        "the run waits for no one: {summary}"
    );
    other
        .batch_execute(
            "UPDATE subscriptions SET term_end = term_end + interval '30 days'
                         WHERE tenant_id = 'paying'; COMMIT",
        )
        .await
        .expect("paid");
    third
        .batch_execute(
            "UPDATE subscriptions SET status = 'EXPIRED' WHERE tenant_id = 'deleting'; COMMIT",
        )
        .await
        .expect("deleted");
    assert_eq!(run(&world).await["changes"], json!({}));
    assert_eq!(state(&world, "paying").await.0, "ACTIVE");
}
