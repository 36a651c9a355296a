//! The instants at which something happens because time passes.

use anyhow::Result;
use jiff::SignedDuration;
use jiff::Timestamp;
use tokio_postgres::Client;

use super::Journey;

const HOUR: i64 = 3_600;

/// Whether the hourly run is at this instant.
pub(super) fn is_hour(at: Timestamp) -> bool {
    at.as_second() % HOUR == 0 && at.subsec_nanosecond() == 0
}

/// The first full hour that is not before this instant.
fn hour_from(at: Timestamp) -> Timestamp {
    let into = SignedDuration::from_secs(at.as_second().rem_euclid(HOUR))
        + SignedDuration::from_nanos(at.subsec_nanosecond().into());
    if into.is_zero() { at } else { at - into + SignedDuration::from_secs(HOUR) }
}

/// Whether the outbox has something to do now.
pub(super) async fn has_due_step(db: &Client, at: Timestamp) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM outbox_steps s
               LEFT JOIN outbox_steps before ON before.step_id = s.after_step_id
               WHERE s.status = 'pending' AND s.next_attempt_at <= $1
               AND coalesce(s.claimed_until <= $1, true)
               AND coalesce(before.status = 'done', true))";
    Ok(db.query_one(sql, &[&at]).await?.get(0))
}

/// Everything that the minute's run finds by its time: steps that are tried later, and events that
/// have waited for 72 hours.
const MINUTELY: &str = "
    SELECT min(due) FROM (
        SELECT min(next_attempt_at) AS due FROM outbox_steps
        WHERE status = 'pending' AND next_attempt_at > $1
        UNION ALL
        SELECT min(recorded_at) + interval '72 hours 1 second' FROM stripe_events
        WHERE status = 'waiting' AND event_type NOT LIKE 'checkout.session.%'
        AND recorded_at + interval '72 hours 1 second' > $1) minutely";

/// Everything that the hourly run finds by its time: ends, notices, and the digest of a day. What
/// it tidies is tidied by the next of these, within a day. The rules are in docs/renewals.md; one
/// that is missing here is found by the test that compares a journey with one of every hour.
const HOURLY: &str = "
    SELECT min(due) FROM (
        SELECT CASE
            WHEN status = 'GRACE' THEN grace_end
            WHEN parent_subscription_id IS NOT NULL AND stripe_subscription_id IS NULL THEN NULL
            WHEN stripe_subscription_id IS NULL OR hold_reason IS NOT NULL THEN term_end
            ELSE greatest(term_end, stripe_pending_until,
                          CASE WHEN parent_subscription_id IS NOT NULL THEN stripe_paid_until END)
                 + interval '72 hours'
            END AS due
        FROM subscriptions WHERE status IN ('ACTIVE', 'TRIAL', 'GRACE')
        UNION ALL
        SELECT CASE WHEN noticed_term_end = term_end THEN next_notice_at ELSE $1 END
        FROM subscriptions
        WHERE status IN ('ACTIVE', 'TRIAL') AND parent_subscription_id IS NULL
        UNION ALL
        SELECT date_trunc('day', $1 - interval '6 hours', 'UTC') + interval '30 hours') hourly";

/// The next instant of a journey after `at`, given when Stripe does something next.
pub(super) async fn next(
    db: &Client,
    at: Timestamp,
    stripe: Option<Timestamp>,
    journey: Journey,
) -> Result<Timestamp> {
    let minutely: Option<Timestamp> = db.query_one(MINUTELY, &[&at]).await?.get(0);
    let after = at + SignedDuration::from_nanos(1_000);
    let hour = if journey.every_hour {
        Some(after)
    } else {
        db.query_one(HOURLY, &[&at]).await?.get::<_, Option<Timestamp>>(0)
    };
    // What is due already was not done by the last hour's run: it is the next one's.
    let hour = hour.map(|due| hour_from(due.max(after)));
    let stripe = stripe.map(|due| due.max(after));
    let all = [stripe, minutely, hour, Some(journey.to)];
    Ok(all.into_iter().flatten().min().unwrap_or(journey.to).min(journey.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn the_hour_of_an_instant_is_the_first_that_is_not_before_it() {
        for (instant, hour) in [
            ("2027-01-01T10:00:00Z", "2027-01-01T10:00:00Z"),
            ("2027-01-01T10:00:00.000001Z", "2027-01-01T11:00:00Z"),
            ("2027-01-01T10:59:59.9Z", "2027-01-01T11:00:00Z"),
            ("2027-12-31T23:30:00Z", "2028-01-01T00:00:00Z"),
        ] {
            assert_eq!(hour_from(at(instant)), at(hour), "{instant}");
            assert_eq!(is_hour(at(instant)), instant == hour, "{instant}");
        }
    }
}
