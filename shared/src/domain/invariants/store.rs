//! What breaks an invariant. What is in grace, over, waiting or pending is found by an index; only
//! ADDONs are all read, with their roots.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::types::{ToSql, Type};

use super::model::{EXAMPLES, Invariant, MONEY_OVERDUE, RUN_OVERDUE, TICK_OVERDUE, WORD_OVERDUE};
use crate::Result;
use crate::db::{Executor, query_planned};

const GRACE_WITHOUT_END: &str =
    "SELECT subscription_id AS id FROM subscriptions WHERE status = 'GRACE' AND grace_end IS NULL";

/// An ADDON ends with its parent: one without a Stripe subscription of its own is judged there; one
/// with has paid until its own end, though its term is cut to its parent's. A payment that is under
/// way counts as one that comes.
const LIVE_PAST_END: &str = "
    SELECT subscription_id AS id
    FROM (SELECT subscription_id, greatest(term_end, CASE WHEN parent_subscription_id IS NOT NULL
    THEN stripe_paid_until END, CASE WHEN hold_reason IS NULL THEN stripe_pending_until END)
    AS ended,
                 parent_subscription_id, stripe_subscription_id, hold_reason
          FROM subscriptions WHERE status IN ('ACTIVE', 'TRIAL') AND term_end < $1
          UNION ALL
          SELECT subscription_id, grace_end, parent_subscription_id, stripe_subscription_id,
          hold_reason
          FROM subscriptions WHERE status = 'GRACE' AND grace_end < $1) live
    WHERE (parent_subscription_id IS NULL OR stripe_subscription_id IS NOT NULL)
      AND ended < CASE WHEN stripe_subscription_id IS NOT NULL AND hold_reason IS NULL THEN $2
      ELSE $1 END";

const ADDON_PAST_ROOT: &str = "
    SELECT a.subscription_id AS id FROM subscriptions a JOIN subscriptions r
    ON r.subscription_id = a.parent_subscription_id
    WHERE a.parent_subscription_id IS NOT NULL AND a.stripe_subscription_id IS NULL
    AND a.status IN ('TRIAL', 'ACTIVE', 'GRACE')
      AND (a.term_end > r.term_end OR r.status = 'EXPIRED')";

/// What an event waits for is what `events::store::ready` looks for, or the outcome of its
/// checkout's payment.
const EVENTS_STUCK: &str = "
    SELECT e.event_id AS id FROM stripe_events e
    WHERE e.status = 'waiting' AND e.recorded_at < $1
      AND CASE WHEN e.event_type LIKE 'checkout.session.%'
               THEN e.recorded_at < $3
                    OR EXISTS (SELECT FROM stripe_events paid WHERE paid.object_id = e.object_id
                    AND paid.status = 'applied' AND paid.updated_at < $1
                               AND paid.event_type LIKE 'checkout.session.async_payment_%')
               WHEN e.recorded_at < $2 THEN true
               WHEN e.stripe_subscription_id IS NULL
               THEN EXISTS (SELECT FROM tenants t WHERE t.stripe_customer_id = e.customer_id
               AND t.updated_at < $1)
                    OR EXISTS (SELECT FROM stripe_customer_aliases a
                    WHERE a.stripe_customer_id = e.customer_id AND a.created_at < $1)
               ELSE EXISTS (SELECT FROM subscriptions s
               WHERE s.stripe_subscription_id = e.stripe_subscription_id
               AND s.created_at < $1) END";

/// Since its cause, or since an operator retried it; where it waits for another, since that
/// was done.
const STEPS_STUCK: &str = "
    SELECT s.step_id AS id FROM outbox_steps s LEFT JOIN outbox_steps before
    ON before.step_id = s.after_step_id
    WHERE s.status = 'pending' AND (s.attempts > 0 OR s.next_attempt_at < $1)
    AND coalesce(before.status = 'done', true)
      AND greatest(s.created_at, s.retried_at, before.updated_at) < $1";

/// How often it is broken at `now`, and the first examples. Those that a comparison with the
/// devices finds are not asked here.
pub(super) async fn find(
    db: &impl Executor,
    invariant: Invariant,
    now: Timestamp,
) -> Result<(i64, Vec<String>)> {
    let ago = |overdue: &[SignedDuration]| {
        overdue.iter().map(|overdue| now - *overdue).collect::<Vec<_>>()
    };
    let (sql, times) = match invariant {
        Invariant::SlotsUsedDiffers | Invariant::DeviceCountDiffers => return Ok((0, Vec::new())),
        Invariant::GraceWithoutEnd => (GRACE_WITHOUT_END, Vec::new()),
        Invariant::LivePastEnd => (LIVE_PAST_END, ago(&[RUN_OVERDUE, WORD_OVERDUE])),
        Invariant::AddonPastRoot => (ADDON_PAST_ROOT, Vec::new()),
        Invariant::EventsStuck => (EVENTS_STUCK, ago(&[TICK_OVERDUE, WORD_OVERDUE, MONEY_OVERDUE])),
        Invariant::StepsStuck => (STEPS_STUCK, ago(&[TICK_OVERDUE])),
    };
    let sql = format!(
        "SELECT id::text, count(*) OVER () FROM ({sql}) broken ORDER BY broken.id LIMIT {EXAMPLES}"
    );
    let times: Vec<_> =
        times.iter().map(|time| (time as &(dyn ToSql + Sync), Type::TIMESTAMPTZ)).collect();
    let rows = query_planned(db, &sql, &times).await?;
    Ok((rows.first().map_or(0, |row| row.get(1)), rows.iter().map(|row| row.get(0)).collect()))
}
