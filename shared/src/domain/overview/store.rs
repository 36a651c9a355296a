//! Counts, each over an index and up to a bound.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::model::{Ending, MOST, OpenEvents, OpenSteps};
use crate::Result;
use crate::db::{Executor, query, query_one};
use crate::domain::families::subscription::Status;

/// How long a step may be due before it is late: the outbox runs each minute.
const LATE: SignedDuration = SignedDuration::from_mins(10);

/// Counts what a condition lets through, as a sub-select.
fn count(from: &str) -> String {
    format!("(SELECT count(*) FROM (SELECT FROM {from} LIMIT {MOST}) counted)")
}

/// Open flags by kind.
pub(super) async fn flags(db: &impl Executor) -> Result<BTreeMap<String, i64>> {
    let sql = format!(
        "SELECT kind, count(*) FROM (SELECT kind FROM flags WHERE resolved_at IS NULL
         LIMIT {MOST}) open GROUP BY kind"
    );
    let rows = query(db, &sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Events that are not done.
pub(super) async fn events(db: &impl Executor) -> Result<OpenEvents> {
    let of = |status: &str| count(&format!("stripe_events WHERE status = '{status}'"));
    let sql = format!("SELECT {}, {}", of("failed"), of("waiting"));
    let row = query_one(db, &sql, &[]).await?;
    Ok(OpenEvents { failed: row.get(0), waiting: row.get(1) })
}

/// Steps that are not done.
pub(super) async fn steps(db: &impl Executor, now: Timestamp) -> Result<OpenSteps> {
    let failed = count("outbox_steps WHERE status = 'failed'");
    let late = count("outbox_steps WHERE status = 'pending' AND next_attempt_at < $1");
    let row = query_one(db, &format!("SELECT {failed}, {late}"), &[&(now - LATE)]).await?;
    Ok(OpenSteps { failed: row.get(0), pending_late: row.get(1) })
}

/// Subscriptions by status.
pub(super) async fn subscriptions(db: &impl Executor) -> Result<BTreeMap<String, i64>> {
    let of =
        |status: &Status| count(&format!("subscriptions WHERE status = '{}'", status.as_str()));
    let counts: Vec<String> = Status::ALL.iter().map(of).collect();
    let row = query_one(db, &format!("SELECT {}", counts.join(", ")), &[]).await?;
    let counted = Status::ALL.iter().enumerate();
    Ok(counted.map(|(at, status)| (status.as_str().to_owned(), row.get(at))).collect())
}

/// Terms that end within some days.
pub(super) async fn ending(db: &impl Executor, now: Timestamp) -> Result<Ending> {
    let within = |place: usize| {
        count(&format!(
            "subscriptions WHERE status IN ('ACTIVE', 'TRIAL') AND term_end <= ${place}"
        ))
    };
    let [day, week, month] = [1, 7, 30].map(|days| now + SignedDuration::from_hours(24 * days));
    let sql = format!("SELECT {}, {}, {}", within(1), within(2), within(3));
    let row = query_one(db, &sql, &[&day, &week, &month]).await?;
    Ok(Ending { d1: row.get(0), d7: row.get(1), d30: row.get(2) })
}

/// Counts that an operator set.
pub(super) async fn counted_by_hand(db: &impl Executor) -> Result<i64> {
    let by_hand = count("subscription_tier_allocations WHERE counted_by_hand");
    Ok(query_one(db, &format!("SELECT {by_hand}"), &[]).await?.get(0))
}
