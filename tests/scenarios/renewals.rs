//! The hourly run: what is due when, to the microsecond, for whom, and why not (docs/renewals.md).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::base::clock::Clock;
use tests::company::{Company, START};
use tests::{World, text};

const DAY: i64 = 86_400;

fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

const MICRO: SignedDuration = SignedDuration::from_micros(1);

/// A world in which it is this time, until it is set again.
async fn world_at(now: &str) -> (World, Arc<AtomicI64>) {
    let mut world = World::new().await;
    // Those of the seed are of another time.
    world.db.execute("UPDATE subscriptions SET status = 'EXPIRED'", &[]).await.expect("ended");
    let clock = Arc::new(AtomicI64::new(0));
    set(&clock, instant(now));
    let moved = Arc::clone(&clock);
    world.renewals.renewal.applier.clock = Clock::from_fn(move || {
        Timestamp::from_microsecond(moved.load(Ordering::SeqCst)).expect("an instant")
    });
    (world, clock)
}

fn set(clock: &AtomicI64, now: Timestamp) {
    clock.store(now.as_microsecond(), Ordering::SeqCst);
}

/// One run by the schedule.
async fn run(world: &World) -> Value {
    let summary = world.renewals.handle(json!({})).await.expect("a run");
    let summary = serde_json::to_value(summary).expect("JSON");
    assert_eq!(summary["errors"], json!({}), "{summary}");
    summary
}

/// What nobody but operators pays for: a subscription of a tenant of its own, of the same name.
async fn offline(
    world: &World,
    id: &str,
    kind: &str,
    status: &str,
    start: Timestamp,
    end: Timestamp,
) {
    let tenant = "INSERT INTO tenants (tenant_id, name, billing_email)
                  VALUES ($1, $1, $1 || '@example.com') ON CONFLICT DO NOTHING";
    world.db.execute(tenant, &[&id]).await.expect("a tenant");
    let sql = "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type, status,
               device_limit, term_start, term_end, created_by)
               VALUES (generate_subscription_id(), $1, $2, $3, 10, $4, $5, 'test')";
    world.db.execute(sql, &[&id, &kind, &status, &start, &end]).await.expect("a subscription");
}

/// Kinds of mail that were left, by tenant, in their order.
async fn mails(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut mails: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in world
        .rows(
            "SELECT tenant_id, payload->>'mail' AS mail FROM outbox_steps
                           WHERE kind = 'mail' AND tenant_id IS NOT NULL ORDER BY step_id",
        )
        .await
    {
        mails.entry(text(&row["tenant_id"])).or_default().push(text(&row["mail"]));
    }
    mails
}

async fn state(world: &World, id: &str) -> (String, Option<Timestamp>) {
    let row = world
        .db
        .query_one("SELECT status, grace_end FROM subscriptions WHERE tenant_id = $1", &[&id])
        .await
        .expect("a subscription");
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn a_notice_is_due_exactly_at_its_threshold_whatever_the_calendar_says() {
    // The terms have a leap day in them, and one end on it.
    let now = instant("2028-01-15T10:30:00.000001Z");
    let (world, _) = world_at("2028-01-15T10:30:00.000001Z").await;
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
    // Only what gives access, and is a root, is told.
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
    let told: i64 =
        summary["notices"].as_object().expect("by kind").values().filter_map(Value::as_i64).sum();
    assert_eq!(usize::try_from(told), Ok(expected.len()));
    // Told once.
    assert_eq!(run(&world).await["notices"], json!({}));
}

/// Trap 33.
#[tokio::test]
async fn of_missed_notices_only_the_nearest_is_left_and_another_term_begins_the_series_anew() {
    let (world, clock) = world_at("2026-06-01T00:00:00Z").await;
    let end = instant("2026-12-01T00:00:00Z");
    offline(&world, "acme", "MAIN", "ACTIVE", end - days(365), end).await;
    let at = async |left: SignedDuration| {
        set(&clock, end - left);
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
    // And back: what was told for that end is not told again.
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
    let (world, clock) = world_at("2026-03-01T00:00:00Z").await;
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
        // Nobody's grace is shorter than three days from now on.
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
    set(&clock, now + MICRO);
    assert_eq!(run(&world).await["changes"], json!({"GRACE": 1, "SUSPENDED": 1, "EXPIRED": 1}));
    assert_eq!(run(&world).await["changes"], json!({}));
}

#[tokio::test]
async fn what_another_holds_at_that_moment_is_left_and_a_payment_that_commits_then_counts() {
    let now = instant("2026-03-01T00:00:00Z");
    let (world, _) = world_at("2026-03-01T00:00:00Z").await;
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
        "nobody is waited for: {summary}"
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

/// Trap 34.
#[tokio::test]
async fn a_clock_a_year_ahead_suspends_nobody_until_an_operator_says_so() {
    let now = instant("2026-03-01T00:00:00Z");
    let (world, clock) = world_at("2026-03-01T00:00:00Z").await;
    for n in 0..40 {
        let kind = if n % 4 == 0 { "TRIAL" } else { "MAIN" };
        offline(&world, &format!("t{n}"), kind, "ACTIVE", now - days(100), now + days(100 + n))
            .await;
    }
    set(&clock, now + days(365));
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
    set(&clock, now);
    assert_eq!(run(&world).await["breaker"], Value::Null);

    // It is a year later indeed. A word for fewer than are due, one that has run out, and one for
    // all.
    set(&clock, now + days(365));
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
    let (world, clock) = world_at("2026-03-01T00:00:00Z").await;
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
        set(&clock, now + SignedDuration::from_hours(hour));
        let summary = run(&world).await;
        graces += summary["changes"]["GRACE"].as_i64().unwrap_or(0);
        // Four an hour: after eight of ten the third four are too many.
        assert_eq!(summary["breaker"].is_null(), hour < 2, "hour {hour}: {summary}");
    }
    assert_eq!(graces, 8);
    // A day later those of the first hours are forgotten, and twelve at once are still too many.
    set(&clock, now + days(2));
    assert_eq!(run(&world).await["breaker"]["due"], 12);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_announces_what_the_run_then_does() {
    let now = instant("2026-03-01T00:00:00Z");
    let (world, _) = world_at("2026-02-01T00:00:00Z").await;
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

#[tokio::test]
async fn a_customer_who_pays_by_wire_and_forgets_goes_from_notices_to_grace_to_suspended() {
    let start = instant("2027-01-31T09:00:00Z");
    let (mut world, clock) = world_at("2027-01-31T09:00:00Z").await;
    let smtp = world.mail().await;
    world.provisioning.outbox.applier.clock = world.renewals.renewal.applier.clock.clone();
    offline(&world, "wire", "MAIN", "ACTIVE", start, start + days(60)).await;
    let mut seen = Vec::new();
    for hour in 0..24 * 80 {
        set(&clock, start + SignedDuration::from_hours(hour) + SignedDuration::from_mins(17));
        if hour % 6 == 0 || (24 * 59..24 * 61).contains(&hour) {
            run(&world).await;
            assert_eq!(world.outbox().await["retried"], 0);
            let now = state(&world, "wire").await;
            if seen.last().is_none_or(|(_, before)| *before != now) {
                seen.push((hour, now));
            }
        }
    }
    let end = start + days(60);
    assert_eq!(
        seen,
        [
            (0, ("ACTIVE".to_owned(), None)),
            (24 * 60, ("GRACE".to_owned(), Some(end + days(14)))),
            (24 * 74, ("SUSPENDED".to_owned(), None))
        ]
    );
    assert_eq!(
        mails(&world).await["wire"],
        ["RENEWAL_30", "RENEWAL_14", "RENEWAL_7", "RENEWAL_1", "GRACE", "SUSPENDED"]
    );
    let sent: Vec<_> = smtp
        .taken()
        .iter()
        .filter(|mail| mail.to == "wire@example.com")
        .map(|mail| (mail.to.clone(), mail.header("Subject")))
        .collect();
    let subject =
        |text: &str| ("wire@example.com".to_owned(), format!("wire: your subscription {text}"));
    let ends = "ends on 1 April 2027";
    assert_eq!(
        sent,
        [
            subject(ends),
            subject(ends),
            subject(ends),
            subject(ends),
            (
                "wire@example.com".to_owned(),
                "wire: payment is missing, your subscription will be suspended on 15 April 2027"
                    .to_owned()
            ),
            subject("is suspended")
        ]
    );
    let trail = world
        .rows("SELECT event_type FROM subscription_audit WHERE tenant_id = 'wire' ORDER BY id")
        .await;
    let names: Vec<_> = trail.iter().map(|row| text(&row["event_type"])).collect();
    assert_eq!(
        names,
        [
            "MAIL_SENT",
            "MAIL_SENT",
            "MAIL_SENT",
            "MAIL_SENT",
            "STATUS_GRACE",
            "MAIL_SENT",
            "STATUS_SUSPENDED",
            "MAIL_SENT"
        ]
    );
    // A digest a day, whatever happened.
    assert_eq!(world.count("outbox_steps WHERE kind = 'mail' AND tenant_id IS NULL").await, 80);
}

#[tokio::test]
async fn who_pays_by_card_is_renewed_without_a_moment_of_grace() {
    let mut company = Company::new().await;
    company.pass(27).await;
    for hour in 0..24 * 4 {
        let now = company.now.fetch_add(3600, Ordering::SeqCst) + 3600;
        company.world.stripe.advance_to(Timestamp::from_second(now).expect("an instant"));
        // The run comes first: Stripe's word is under way for an hour.
        let summary = run(&company.world).await;
        assert_eq!(
            (&summary["changes"], &summary["notices"]),
            (&json!({}), &json!({})),
            "hour {hour}"
        );
        assert_eq!(company.status().await, "ACTIVE");
        company.tell().await;
    }
    let row = company.row("term_start, term_end").await;
    assert_eq!(
        (text(&row["term_start"]), text(&row["term_end"])),
        ("2026-02-28T10:00:00+00:00".to_owned(), "2026-03-31T10:00:00+00:00".to_owned())
    );
    assert_eq!(company.world.count("subscription_audit WHERE actor_id = 'renewal'").await, 0);
}

/// Its word is lost for days: the run finds it in Stripe's list, whichever way is shorter.
#[tokio::test]
async fn stripe_is_asked_before_anybody_gets_grace_and_who_cannot_be_asked_of_stays() {
    let mut company = Company::new().await;
    company.pass(27).await;
    let silent = |company: &mut Company, seconds: i64| {
        let now = company.now.fetch_add(seconds, Ordering::SeqCst) + seconds;
        company.world.stripe.advance_to(Timestamp::from_second(now).expect("an instant"));
        drop(company.news());
    };
    // Renewed and paid at Stripe, and nobody told us, and Stripe's list is of no help either. For
    // 72 hours it is waited for, and then asked for.
    for (hours, asked) in [(36, 0), (71, 0), (72, 1)] {
        let passed = company.now.load(Ordering::SeqCst) - instant(START).as_second();
        silent(&mut company, 28 * DAY + hours * 3600 - passed);
        let lost = "INSERT INTO renewal_cursors (part, position, updated_at)
                    VALUES ('drift', 'sub_gone', now()) ON CONFLICT (part) DO UPDATE
                    SET position = 'sub_gone'";
        company.world.db.execute(lost, &[]).await.expect("a position that Stripe does not know");
        let before = company.world.stripe.requests().len();
        let summary = company.world.renewals.handle(json!({})).await.expect("a run");
        assert_eq!(summary.errors.keys().collect::<Vec<_>>(), [&"drift"], "{:?}", summary.errors);
        let cursor = "SELECT position FROM renewal_cursors WHERE part = 'drift'";
        assert_eq!(
            company.world.row(cursor).await["position"],
            Value::Null,
            "from the beginning again"
        );
        let reads = company.world.stripe.requests()[before..]
            .iter()
            .filter(|(_, path)| path.starts_with("/v1/subscriptions/"))
            .count();
        assert_eq!(
            (summary.asked, reads, company.status().await.as_str()),
            (asked, usize::try_from(asked).expect("small"), "ACTIVE"),
            "after {hours} hours"
        );
        assert!(summary.changes.is_empty(), "{summary:?}");
    }
    assert_eq!(text(&company.row("term_end").await["term_end"]), "2026-03-31T10:00:00+00:00");

    // Wrong key: 404 for all. Past its end by more than 72 hours it stays, and a person is told
    // (trap 52).
    let other = Company::new().await;
    let start = instant(START);
    other.now.store((start + days(40)).as_second(), Ordering::SeqCst);
    other.world.stripe.fail_next_on("/v1/", 1000, 404);
    let summary =
        serde_json::to_value(other.world.renewals.handle(json!({})).await.expect("a run"))
            .expect("JSON");
    assert_eq!(
        (&summary["asked"], &summary["unreachable"], &summary["changes"]),
        (&json!(1), &json!(1), &json!({})),
        "{summary}"
    );
    assert_eq!(other.status().await, "ACTIVE");
    assert_eq!(other.flags().await, ["stripe_not_asked"]);
    other.world.stripe.fail_no_more();
    // Stripe stood still meanwhile, and says that it is active with a period that is over: nobody
    // has paid for more.
    let summary = run(&other.world).await;
    assert_eq!(
        (&summary["asked"], &summary["unreachable"], &summary["changes"]),
        (&json!(1), &json!(0), &json!({"GRACE": 1})),
        "{summary}"
    );
    let row = other.row("grace_end").await;
    assert_eq!(
        row["grace_end"], "2026-03-15T10:00:00+00:00",
        "the later of 14 days after the end and 3 days from now"
    );
}

#[tokio::test]
async fn news_that_never_came_is_found_in_stripes_list_but_not_against_a_hold() {
    let mut company = Company::new().await;
    company.world.stripe.edit_subscription(&company.stripe.clone(), |subscription| {
        subscription["status"] = json!("unpaid");
    });
    drop(company.news());
    let held =
        "UPDATE subscriptions SET hold_reason = 'a promise', held_by = 'op', held_at = now()";
    company.world.db.execute(held, &[]).await.expect("held");
    let summary = run(&company.world).await;
    assert_eq!(
        (&summary["drift"]["repaired"], &summary["drift"]["compared"]),
        (&json!(0), &json!(0)),
        "{summary}"
    );
    assert_eq!(company.status().await, "ACTIVE");
    company
        .world
        .db
        .execute("UPDATE subscriptions SET hold_reason = NULL, held_by = NULL, held_at = NULL", &[])
        .await
        .expect("released");
    let summary = run(&company.world).await;
    assert_eq!(
        (&summary["drift"]["repaired"], &summary["drift"]["compared"]),
        (&json!(1), &json!(1)),
        "{summary}"
    );
    assert_eq!(company.status().await, "SUSPENDED");
    let sql = "SELECT event_type, details->>'change' AS change FROM subscription_audit
               WHERE event_type LIKE 'STRIPE_DRIFT%'";
    assert_eq!(
        company.world.row(sql).await,
        json!({"event_type": "STRIPE_DRIFT_REPAIRED", "change": "STRIPE_SUBSCRIPTION_UPDATED"})
    );
    assert_eq!(run(&company.world).await["drift"]["repaired"], 0, "once");

    // Somebody pays one of our prices, and no checkout ever came: an hour later a person is told,
    // once.
    let world = &company.world;
    let session = world.checkout(
        "price_pro_month",
        &[("company_name", "Lost"), ("admin_email", "lost@lost.example")],
    );
    world.stripe.pay(&session, tests::payer("lost@lost.example")).expect("paid");
    drop(company.news());
    for (hours, unknown) in [(0, 0), (26, 1), (27, 1)] {
        company.now.store(
            (instant(START) + SignedDuration::from_hours(hours)).as_second(),
            Ordering::SeqCst,
        );
        assert_eq!(run(&company.world).await["drift"]["unknown"], unknown, "after {hours} hours");
    }
    assert_eq!(company.flags().await, ["stripe_subscription_unknown"]);
}

#[tokio::test]
async fn the_last_hours_events_that_never_came_are_put_on_the_queue_by_the_run() {
    let mut company = Company::new().await;
    company.now.fetch_add(600, Ordering::SeqCst);
    company.world.stripe.advance_to(
        Timestamp::from_second(company.now.load(Ordering::SeqCst)).expect("an instant"),
    );
    company.world.stripe.pause_collection(&company.stripe, Some("void")).expect("paused");
    drop(company.news());
    company.now.fetch_add(600, Ordering::SeqCst);
    let summary = run(&company.world).await;
    assert_eq!(summary["backfilled"], 1, "{summary}");
    assert_eq!(company.world.queued().await, 1);
    assert_eq!(company.world.drain().await, 0);
    assert_eq!(run(&company.world).await["backfilled"], 0);
}
