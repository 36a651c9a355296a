//! What the run reads from Stripe first, and what it repairs.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tests::company::{Company, START};
use tests::text;

use super::{days, instant, run};

const DAY: i64 = 86_400;

/// Its word is lost for days: the run finds it in Stripe's list, whichever way is shorter.
#[tokio::test]
async fn stripe_is_read_before_anyone_gets_grace_and_who_cannot_be_read_stays() {
    let mut company = Company::new().await;
    company.pass(27).await;
    let silent = |company: &mut Company, seconds: i64| {
        let now = company.world.clock.pass(seconds);
        company.world.stripe.advance_to(now);
        drop(company.new_events());
    };
    // Renewed and paid at Stripe, no event came, and Stripe's list is of no help either. For
    // 72 hours it is waited for, and then asked for.
    for (hours, asked) in [(36, 0), (71, 0), (72, 1)] {
        let passed = company.world.clock.now().as_second() - instant(START).as_second();
        silent(&mut company, 28 * DAY + hours * 3600 - passed);
        let lost = "INSERT INTO renewal_cursors (part, position, updated_at)
                    VALUES ('drift', 'sub_gone', now()) ON CONFLICT (part) DO UPDATE
                    SET position = 'sub_gone'";
        company.world.db.execute(lost, &[]).await.expect("a position that Stripe does not know");
        let before = company.world.stripe.requests().len();
        let summary = company.world.renewals.handle(json!({})).await.expect("a run");
        assert_eq!(summary.errors.keys().collect::<Vec<_>>(), [&"drift"], "{:?}", summary.errors);
        let failed = "renewal_runs WHERE status = 'failed' AND run_id = ";
        let run = summary.run_id.expect("a run's number");
        assert_eq!(company.world.count(&format!("{failed}{run}")).await, 1);
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

    // Wrong key: 404 for all. Past its end by more than 72 hours it stays, and is flagged
    // (trap 52).
    let other = Company::new().await;
    let start = instant(START);
    other.world.clock.stop_at(start + days(40));
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
async fn a_change_whose_event_never_came_is_found_in_stripes_list_but_not_against_a_hold() {
    let mut company = Company::new().await;
    company.world.stripe.edit_subscription(&company.stripe.clone(), |subscription| {
        subscription["status"] = json!("unpaid");
    });
    drop(company.new_events());
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

    // A customer pays one of our prices, and no checkout ever came: an hour later it is flagged,
    // once.
    let world = &company.world;
    let session = world.checkout(
        "price_pro_month",
        &[("company_name", "Lost"), ("admin_email", "lost@lost.example")],
    );
    world.stripe.pay(&session, tests::payer("lost@lost.example")).expect("paid");
    drop(company.new_events());
    for (hours, unknown) in [(0, 0), (26, 1), (27, 1)] {
        company.world.clock.stop_at(instant(START) + SignedDuration::from_hours(hours));
        assert_eq!(run(&company.world).await["drift"]["unknown"], unknown, "after {hours} hours");
    }
    assert_eq!(company.flags().await, ["stripe_subscription_unknown"]);
}

#[tokio::test]
async fn the_last_hours_events_that_never_came_are_put_on_the_queue_by_the_run() {
    let mut company = Company::new().await;
    let now = company.world.clock.pass(600);
    company.world.stripe.advance_to(now);
    company.world.stripe.pause_collection(&company.stripe, Some("void")).expect("paused");
    drop(company.new_events());
    company.world.clock.pass(600);
    let summary = run(&company.world).await;
    assert_eq!(summary["backfilled"], 1, "{summary}");
    assert_eq!(company.world.queued().await, 1);
    assert_eq!(company.world.drain().await, 0);
    assert_eq!(run(&company.world).await["backfilled"], 0);
}
