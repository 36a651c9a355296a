//! What is due is said twice: in Rust for one subscription, and in SQL for all of them at once.
//! Both must say the same of random rows, at the boundaries and a microsecond off them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::base::ids::{StripeSubscriptionId, SubscriptionId, TenantId};
use shared::base::paging::Page;
use shared::domain::families::subscription::{
    Hold, Status, StripeLink, Subscription, SubscriptionType,
};
use shared::domain::invariants;
use shared::domain::invariants::model::{EXAMPLES, Invariant, RUN_OVERDUE, WORD_OVERDUE};
use shared::domain::renewals::model::{PATIENCE, change_due, next_change, plan_notice};
use shared::domain::renewals::store;
use shared::domain::renewals::store::DueSet;
use tests::{Luck, World};

/// Each seed is a database of its own.
const SEEDS: [u64; 4] = [1, 2, 3, 4];
const ROWS: usize = 400;
const NOW: &str = "2026-06-15T12:00:00Z";
const MICRO: SignedDuration = SignedDuration::from_micros(1);

/// A subscription, and what the columns say that only the notices use.
struct Case {
    subscription: Subscription,
    noticed_term_end: Option<Timestamp>,
    next_notice_at: Option<Timestamp>,
}

impl Case {
    fn row(&self) -> Value {
        let mut row = json!(self.subscription);
        row["stripe_sync"] = json!(0);
        row["noticed_term_end"] = json!(self.noticed_term_end);
        row["next_notice_at"] = json!(self.next_notice_at);
        row
    }
}

/// A limit away from `now`, exactly or a microsecond off, or any hour of a few months.
fn instant(luck: &mut Luck, now: Timestamp) -> Timestamp {
    let day = SignedDuration::from_hours(24);
    let limits =
        [SignedDuration::ZERO, PATIENCE, RUN_OVERDUE, WORD_OVERDUE, day, day * 14, day * 90];
    let limit = luck.of(&limits);
    let at = if luck.percent(70) { now - limit } else { now + limit };
    match luck.below(6) {
        0 | 1 => at,
        2 => at + MICRO,
        3 => at - MICRO,
        _ => {
            let hours = i64::try_from(luck.below(24 * 200)).expect("few") - 24 * 130;
            now + SignedDuration::from_hours(hours)
        }
    }
}

fn stripe_link(luck: &mut Luck, number: usize, term_end: Timestamp, now: Timestamp) -> StripeLink {
    let optional = |luck: &mut Luck| match luck.below(5) {
        0 | 1 => None,
        2 => Some(term_end),
        3 => Some(term_end + SignedDuration::from_hours(24 * 10)),
        _ => Some(instant(luck, now)),
    };
    StripeLink {
        id: StripeSubscriptionId::parse(&format!("sub_{number}")).expect("an id"),
        status: None,
        price_id: None,
        period_end: None,
        paid_until: optional(luck),
        pending_until: optional(luck),
        cancel_at: optional(luck),
        currency: None,
        collection_paused: false,
        items: Vec::new(),
        slots: None,
        sync: 0,
    }
}

/// One tenant's subscriptions; its first is a MAIN, so that there is a parent.
fn cases(seed: u64, now: Timestamp) -> Vec<Case> {
    let mut luck = Luck(seed);
    let tenant = TenantId::parse("acme").expect("an id");
    let types = [
        SubscriptionType::Main,
        SubscriptionType::Addon,
        SubscriptionType::Trial,
        SubscriptionType::Temporary,
    ];
    let statuses =
        [Status::Trial, Status::Active, Status::Grace, Status::Suspended, Status::Expired];
    let days = [1, 2, 14, 28, 59, 60, 61, 120, 180, 365];
    let mut mains: Vec<SubscriptionId> = Vec::new();
    let mut cases = Vec::new();
    for number in 0..ROWS {
        let id =
            SubscriptionId::parse(&format!("SUB-2026-{:06}", 100_000 + number)).expect("an id");
        let kind = if number == 0 { SubscriptionType::Main } else { luck.of(&types) };
        let end = instant(&mut luck, now);
        let start = end - SignedDuration::from_hours(24 * luck.of(&days));
        let mut it = Subscription::new(id, tenant.clone(), kind, (start, end), "test", now);
        it.status = luck.of(&statuses);
        it.grace_end = (it.status == Status::Grace).then(|| instant(&mut luck, now));
        it.parent_subscription_id = (kind == SubscriptionType::Addon).then(|| luck.of(&mains));
        it.stripe = luck.percent(60).then(|| stripe_link(&mut luck, number, end, now));
        it.hold = luck.percent(25).then(|| Hold {
            reason: "by hand".to_owned(),
            by: "operator-1".to_owned(),
            at: now,
        });
        if kind == SubscriptionType::Main {
            mains.push(it.subscription_id.clone());
        }
        // Looked at by a run before, for this term or for another, or never.
        let looked =
            now - SignedDuration::from_hours(i64::try_from(luck.below(24 * 60)).expect("few"));
        let (noticed_term_end, next_notice_at) = match luck.below(4) {
            0 => (None, None),
            1 => (Some(end - SignedDuration::from_hours(24)), Some(now + MICRO)),
            _ => (Some(end), plan_notice(&it, looked).next),
        };
        cases.push(Case { subscription: it, noticed_term_end, next_notice_at });
    }
    cases
}

/// When a term or grace ends by itself; Stripe then has `PATIENCE` more where it decides.
fn ends(it: &Subscription) -> Option<Timestamp> {
    let waits = it.is_stripe_managed() && it.status != Status::Grace;
    next_change(it).map(|(at, _)| if waits { at - PATIENCE } else { at })
}

/// The rows that only one side names.
fn compare<'a>(
    seed: u64,
    what: &str,
    cases: &[Case],
    sql: impl IntoIterator<Item = &'a SubscriptionId>,
    rust: impl Fn(&Case) -> bool,
) -> Vec<String> {
    let sql: BTreeSet<&SubscriptionId> = sql.into_iter().collect();
    let differs = |case: &&Case| sql.contains(&case.subscription.subscription_id) != rust(case);
    cases
        .iter()
        .filter(differs)
        .map(|case| {
            let only = if rust(case) { "Rust" } else { "SQL" };
            format!("seed {seed}, {what}: only {only} names {}", case.row())
        })
        .collect()
}

async fn differences(seed: u64) -> Vec<String> {
    let now: Timestamp = NOW.parse().expect("an instant");
    let world = World::new().await;
    let cases = cases(seed, now);
    let rows: Vec<Value> = cases.iter().map(Case::row).collect();
    world
        .db
        .batch_execute(
            "UPDATE subscriptions SET status = 'EXPIRED', grace_end = NULL;
             INSERT INTO tenants (tenant_id, name) VALUES ('acme', 'Acme')",
        )
        .await
        .expect("a tenant");
    let sql = "INSERT INTO subscriptions
               SELECT * FROM jsonb_populate_recordset(NULL::subscriptions, $1)";
    world.db.execute(sql, &[&json!(rows)]).await.expect("rows");
    let pool = &world.renewals.renewal.applier.db;
    let db = pool.connection().await.expect("a connection");
    let mut found = Vec::new();

    let overdue = store::overdue(&db, now, &None, i64::MAX).await.expect("overdue");
    found.extend(compare(
        seed,
        "overdue at Stripe",
        &cases,
        overdue.iter().map(|it| &it.id),
        |case| {
            let it = &case.subscription;
            it.is_stripe_managed() && next_change(it).is_some_and(|(at, _)| at <= now)
        },
    ));

    // Once with nothing read from Stripe, and once with every other overdue one.
    for every in [0, 2] {
        let read: Vec<&str> = overdue
            .iter()
            .enumerate()
            .filter(|(index, _)| every > 0 && index % every == 0)
            .map(|(_, it)| it.id.as_str())
            .collect();
        let changed =
            |it: &Subscription| change_due(it, now, read.contains(&it.subscription_id.as_str()));
        let mut due = Vec::new();
        for set in DueSet::ALL {
            due.extend(
                store::due(&db, set, now, &read, &None, i64::MAX, false).await.expect("due"),
            );
        }
        let what = format!("due, with {} read from Stripe", read.len());
        found.extend(compare(
            seed,
            &what,
            &cases,
            due.iter().map(|it| &it.subscription_id),
            |case| changed(&case.subscription).is_some(),
        ));
        let counts = store::count_due(&db, now, &read).await.expect("counts");
        let mut expected = BTreeMap::new();
        for after in cases.iter().filter_map(|case| changed(&case.subscription)) {
            *expected.entry(after.status.as_str()).or_default() += 1;
        }
        let counted = BTreeMap::from([
            ("EXPIRED", counts.expiries),
            ("GRACE", counts.graces),
            ("SUSPENDED", counts.suspensions),
        ]);
        if counted != expected {
            found.push(format!("seed {seed}, {what}: SQL counts {counted:?}, Rust {expected:?}"));
        }
    }

    for days in [0, 30] {
        let until = now + SignedDuration::from_hours(24 * days);
        let page = Page { limit: i64::try_from(ROWS).expect("few"), offset: 0, after: None };
        let forecast = store::forecast(&db, until, None, None, &page).await.expect("a forecast");
        let ids = forecast.iter().map(|(it, _)| &it.subscription_id);
        let what = format!("ends within {days} days");
        found.extend(compare(seed, &what, &cases, ids, |case| {
            // It is listed by its term, also while a payment is under way.
            let mut it = case.subscription.clone();
            if let Some(stripe) = &mut it.stripe {
                stripe.pending_until = None;
            }
            ends(&it).is_some_and(|at| at <= until)
        }));
    }

    let unnoticed = store::unnoticed_after(&db, now, "", i64::MAX).await.expect("notices");
    let ids = unnoticed.iter().map(|it| &it.subscription_id);
    found.extend(compare(seed, "notices to plan", &cases, ids, |case| {
        let it = &case.subscription;
        let planned = case.noticed_term_end == Some(it.term_end)
            && case.next_notice_at == plan_notice(it, now).next;
        matches!(it.status, Status::Active | Status::Trial)
            && it.parent_subscription_id.is_none()
            && !planned
    }));
    let count = store::count_unnoticed(&db, now).await.expect("a count");
    if usize::try_from(count) != Ok(unnoticed.len()) {
        found.push(format!("seed {seed}: {count} notices are counted, {} listed", unnoticed.len()));
    }

    // Of an invariant only the first examples are listed, and all are counted.
    let listed = invariants::list(pool, now).await.expect("invariants");
    let past_end = listed.invariants.iter().find(|it| it.name == Invariant::LivePastEnd);
    let expected: Vec<&str> = cases
        .iter()
        .map(|case| &case.subscription)
        .filter(|it| it.parent_subscription_id.is_none() || it.stripe.is_some())
        .filter(|it| {
            let overdue = if it.is_stripe_managed() { WORD_OVERDUE } else { RUN_OVERDUE };
            ends(it).is_some_and(|at| at < now - overdue)
        })
        .map(|it| it.subscription_id.as_str())
        .collect();
    let past_end = past_end.map(|it| (it.count, it.examples.clone())).unwrap_or_default();
    let first: Vec<&str> = expected.iter().copied().take(EXAMPLES).collect();
    if usize::try_from(past_end.0) != Ok(expected.len()) || past_end.1 != first {
        found.push(format!(
            "seed {seed}, live past its end: SQL counts {} from {:?}, Rust {} from {first:?}",
            past_end.0,
            past_end.1,
            expected.len()
        ));
    }
    found
}

#[tokio::test]
async fn rust_and_sql_agree_on_what_is_due_of_random_subscriptions() {
    let mut found = Vec::new();
    for seed in SEEDS {
        found.extend(differences(seed).await);
    }
    let first: Vec<String> = found.iter().take(10).cloned().collect();
    assert!(found.is_empty(), "{} differences, the first:\n{}", found.len(), first.join("\n"));
}
