//! What is due of `subscriptions`, in pages and chunks; `renewal_runs`, `renewal_approvals` and
//! `renewal_cursors`.
//!
//! A chunk is locked without waiting: what another holds at this moment, a tenant's row included,
//! is for the next run. So no run waits for another, and none can deadlock.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::model::{Approval, Counts, PATIENCE};
use super::operator::model::RunStatus;
use crate::base::ids::{StripeSubscriptionId, SubscriptionId, TenantId};
use crate::base::paging::Page;
use crate::db::{Executor, Transaction, execute, query_one, query_opt, query_planned};
use crate::domain::families::rows::{COLUMNS, subscription};
use crate::domain::families::subscription::{LIVE, Status, Subscription};
use crate::{Error, Result};

/// What is looked through for changes: each part is in the order of one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueSet {
    /// Terms of this status that have ended.
    Ended(Status),
    /// Graces that have ended.
    GraceOver,
}

impl DueSet {
    /// All of them.
    pub const ALL: [Self; 3] =
        [Self::Ended(Status::Active), Self::Ended(Status::Trial), Self::GraceOver];

    /// The instant that counts, and the condition on `$1`, now.
    fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Ended(Status::Trial) => ("s.term_end", "s.status = 'TRIAL' AND s.term_end <= $1"),
            Self::Ended(_) => ("s.term_end", "s.status = 'ACTIVE' AND s.term_end <= $1"),
            Self::GraceOver => ("s.grace_end", "s.status = 'GRACE' AND s.grace_end <= $1"),
        }
    }
}

/// An ADDON without a Stripe subscription of its own ends with its parent; one that is paid at
/// Stripe when that is no longer so, because its term is cut to its parent's. Its own GRACE ends
/// like any.
const OF_ITS_OWN: &str = "(s.parent_subscription_id IS NULL OR s.status = 'GRACE'
                           OR s.stripe_subscription_id IS NOT NULL
                              AND coalesce(s.stripe_paid_until, s.term_end) <= $1)";
/// Not Stripe-managed, or synced with Stripe in this run: `$2` are those that were.
const DECIDED: &str = "(s.stripe_subscription_id IS NULL OR s.hold_reason IS NOT NULL OR \
                       s.subscription_id = ANY($2))";
/// No payment of it is under way (docs/adr/0014-paused-pending-unpaid.md). A hold leaves to an
/// operator what that means.
const NOT_PENDING: &str = "(s.status = 'GRACE' OR s.hold_reason IS NOT NULL
                            OR s.stripe_pending_until IS NULL
                            OR s.stripe_pending_until <= $1)";
/// When the notices of a subscription are looked at next.
const NOTICE_DUE: &str = "CASE WHEN s.noticed_term_end = s.term_end THEN s.next_notice_at ELSE \
                          '-infinity'::timestamptz END";
const NOTICED: &str = "s.status IN ('ACTIVE', 'TRIAL') AND s.parent_subscription_id IS NULL";
/// The locks of a chunk. The tenant's is the one that a foreign key takes.
const LOCKS: &str = "FOR NO KEY UPDATE OF s SKIP LOCKED FOR KEY SHARE OF t SKIP LOCKED";

/// After which the next chunk of a part begins.
pub type Position = Option<(Timestamp, SubscriptionId)>;

fn or_beginning(after: Option<&(Timestamp, SubscriptionId)>) -> (Timestamp, &str) {
    after.map_or((Timestamp::UNIX_EPOCH, ""), |(at, id)| (*at, id.as_str()))
}

/// Up to `limit` of those that are due, in order; locked where `locks`.
pub async fn due(
    db: &impl Executor,
    part: DueSet,
    now: Timestamp,
    refreshed: &[&str],
    after: &Position,
    limit: i64,
    locks: bool,
) -> Result<Vec<Subscription>> {
    let (at, condition) = part.sql();
    let locks = if locks { LOCKS } else { "" };
    let sql = format!(
        "SELECT {COLUMNS} FROM subscriptions s JOIN tenants t ON t.tenant_id = s.tenant_id
         WHERE {condition} AND {OF_ITS_OWN} AND {NOT_PENDING} AND {DECIDED} AND ({at}, s.subscription_id) > ($3, $4)
         ORDER BY {at}, s.subscription_id LIMIT $5 {locks}"
    );
    let (instant, id) = or_beginning(after.as_ref());
    query_planned(
        db,
        &sql,
        &[
            (&now, Type::TIMESTAMPTZ),
            (&refreshed, Type::TEXT_ARRAY),
            (&instant, Type::TIMESTAMPTZ),
            (&id, Type::TEXT),
            (&limit, Type::INT8),
        ],
    )
    .await?
    .iter()
    .map(subscription)
    .collect()
}

/// The instant by which a part is in order.
#[must_use]
pub fn position(part: DueSet, subscription: &Subscription) -> (Timestamp, SubscriptionId) {
    let at = match part {
        DueSet::Ended(_) => subscription.term_end,
        DueSet::GraceOver => subscription.grace_end.unwrap_or(subscription.term_end),
    };
    (at, subscription.subscription_id.clone())
}

/// What is due in all, Stripe's own to decide aside.
pub async fn count_due(db: &impl Executor, now: Timestamp, refreshed: &[&str]) -> Result<Counts> {
    let of_part = |part: DueSet, column: &str| {
        let (_, condition) = part.sql();
        format!(
            "SELECT {column} AS change FROM subscriptions s WHERE {condition} AND {OF_ITS_OWN}
             AND {NOT_PENDING} AND {DECIDED}"
        )
    };
    let ended =
        "CASE WHEN s.subscription_type IN ('TRIAL', 'TEMPORARY') THEN 'expiry' ELSE 'grace' END";
    let [active, trial, grace] = DueSet::ALL;
    let sql = format!(
        "SELECT count(*) FILTER (WHERE change = 'expiry'), count(*) FILTER (WHERE change = 'grace'),
         count(*) FILTER (WHERE change = 'suspension')
         FROM ({} UNION ALL {} UNION ALL {}) due",
        of_part(active, ended),
        of_part(trial, ended),
        of_part(grace, "'suspension'")
    );
    let rows =
        query_planned(db, &sql, &[(&now, Type::TIMESTAMPTZ), (&refreshed, Type::TEXT_ARRAY)])
            .await?;
    let count = |of: usize| rows.first().map_or(0, |row| row.get(of));
    Ok(Counts { expiries: count(0), graces: count(1), suspensions: count(2) })
}

/// Subscriptions that give access: counted up to `limit`, because more make no difference.
pub async fn count_live(db: &impl Executor, limit: i64) -> Result<i64> {
    let sql =
        "SELECT count(*) FROM (SELECT FROM subscriptions WHERE status = ANY($1) LIMIT $2) live";
    Ok(query_one(db, sql, &[&LIVE.as_slice(), &limit]).await?.get(0))
}

/// A subscription whose sync is overdue.
pub struct Overdue {
    /// The end that has passed.
    pub at: Timestamp,
    /// Which.
    pub id: SubscriptionId,
    /// Whose.
    pub tenant: TenantId,
    /// At Stripe.
    pub stripe: StripeSubscriptionId,
}

/// Those whose sync is overdue, in order.
pub async fn overdue(
    db: &impl Executor,
    now: Timestamp,
    after: &Position,
    limit: i64,
) -> Result<Vec<Overdue>> {
    let managed = "s.stripe_subscription_id IS NOT NULL AND s.hold_reason IS NULL";
    let sql = format!(
        "SELECT at, subscription_id, tenant_id, stripe_subscription_id
         FROM (SELECT s.term_end AS at, s.subscription_id, s.tenant_id, s.stripe_subscription_id
         FROM subscriptions s
               WHERE s.status IN ('ACTIVE', 'TRIAL') AND s.term_end <= $2 AND {managed}
                     AND (s.parent_subscription_id IS NULL
                     OR coalesce(s.stripe_paid_until, s.term_end) <= $2)
                     AND coalesce(s.stripe_pending_until <= $2, true)
               UNION ALL
               SELECT s.grace_end, s.subscription_id, s.tenant_id, s.stripe_subscription_id
               FROM subscriptions s
               WHERE s.status = 'GRACE' AND s.grace_end <= $1 AND {managed}) due
         WHERE (at, subscription_id) > ($3, $4) ORDER BY at, subscription_id LIMIT $5"
    );
    let (instant, id) = or_beginning(after.as_ref());
    let rows = query_planned(
        db,
        &sql,
        &[
            (&now, Type::TIMESTAMPTZ),
            (&(now - PATIENCE), Type::TIMESTAMPTZ),
            (&instant, Type::TIMESTAMPTZ),
            (&id, Type::TEXT),
            (&limit, Type::INT8),
        ],
    )
    .await?;
    let read = |row: &Row| {
        let (id, tenant, stripe) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Overdue { at: row.get(0), id, tenant, stripe })
    };
    rows.iter().map(read).collect()
}

/// Up to `limit` of those whose notices are to be looked at; locked.
pub async fn unnoticed(tx: &Transaction, now: Timestamp, limit: i64) -> Result<Vec<Subscription>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM subscriptions s JOIN tenants t ON t.tenant_id = s.tenant_id
         WHERE {NOTICED} AND {NOTICE_DUE} <= $1 ORDER BY {NOTICE_DUE}, s.subscription_id
         LIMIT $2 {LOCKS}"
    );
    query_planned(tx, &sql, &[(&now, Type::TIMESTAMPTZ), (&limit, Type::INT8)])
        .await?
        .iter()
        .map(subscription)
        .collect()
}

/// The same for who only looks: without a lock, by id.
pub async fn unnoticed_after(
    db: &impl Executor,
    now: Timestamp,
    after: &str,
    limit: i64,
) -> Result<Vec<Subscription>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM subscriptions s WHERE {NOTICED} AND {NOTICE_DUE} <= $1
         AND s.subscription_id > $2 ORDER BY s.subscription_id LIMIT $3"
    );
    query_planned(
        db,
        &sql,
        &[(&now, Type::TIMESTAMPTZ), (&after, Type::TEXT), (&limit, Type::INT8)],
    )
    .await?
    .iter()
    .map(subscription)
    .collect()
}

/// How many are to be looked at.
pub async fn count_unnoticed(db: &impl Executor, now: Timestamp) -> Result<i64> {
    let sql =
        format!("SELECT count(*) FROM subscriptions s WHERE {NOTICED} AND {NOTICE_DUE} <= $1");
    Ok(query_planned(db, &sql, &[(&now, Type::TIMESTAMPTZ)])
        .await?
        .first()
        .map_or(0, |row| row.get(0)))
}

/// What happens by itself until `until`, the first first, of all or of one tenant or subscription:
/// subscriptions with their tenants' names.
pub async fn forecast(
    db: &impl Executor,
    until: Timestamp,
    tenant: Option<&TenantId>,
    subscription_id: Option<&SubscriptionId>,
    page: &Page<(Timestamp, SubscriptionId)>,
) -> Result<Vec<(Subscription, String)>> {
    let (instant, id) = or_beginning(page.after.as_ref());
    let fetch = page.fetch();
    let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![
        (&until, Type::TIMESTAMPTZ),
        (&instant, Type::TIMESTAMPTZ),
        (&id, Type::TEXT),
        (&fetch, Type::INT8),
        (&page.offset, Type::INT8),
    ];
    let mut of = String::new();
    if let Some(tenant) = &tenant {
        params.push((tenant, Type::TEXT));
        of = format!("{of} AND s.tenant_id = ${}", params.len());
    }
    if let Some(subscription) = &subscription_id {
        params.push((subscription, Type::TEXT));
        of = format!("{of} AND s.subscription_id = ${}", params.len());
    }
    let sql = format!(
        "SELECT {COLUMNS}, t.name AS tenant_name
         FROM (SELECT at, subscription_id
               FROM ((SELECT term_end AS at, s.subscription_id FROM subscriptions s
                      WHERE s.status IN ('ACTIVE', 'TRIAL') AND s.term_end <= $1 AND {OF_ITS_OWN}
                      {of} AND (s.term_end, s.subscription_id) > ($2, $3)
                      ORDER BY s.term_end, s.subscription_id LIMIT $4::bigint + $5::bigint)
                     UNION ALL
                     (SELECT grace_end, s.subscription_id FROM subscriptions s
                      WHERE s.status = 'GRACE' AND s.grace_end <= $1
                      {of} AND (s.grace_end, s.subscription_id) > ($2, $3)
                      ORDER BY s.grace_end, s.subscription_id
                      LIMIT $4::bigint + $5::bigint)) both_kinds
               ORDER BY at, subscription_id LIMIT $4 OFFSET $5) due
         JOIN subscriptions s ON s.subscription_id = due.subscription_id JOIN tenants t
         ON t.tenant_id = s.tenant_id ORDER BY due.at, due.subscription_id"
    );
    let rows = query_planned(db, &sql, &params).await?;
    rows.iter().map(|row| Ok((subscription(row)?, row.get("tenant_name")))).collect()
}

/// Begins a run, and returns its number.
pub async fn begin_run(
    db: &impl Executor,
    started: Timestamp,
    as_of: Timestamp,
    requested_by: Option<&str>,
) -> Result<i64> {
    let sql = "INSERT INTO renewal_runs (started_at, as_of, requested_by) VALUES ($1, $2, $3)
               RETURNING run_id";
    Ok(query_one(db, sql, &[&started, &as_of, &requested_by]).await?.get(0))
}

/// Ends a run.
pub async fn finish_run(
    db: &impl Executor,
    run: i64,
    status: RunStatus,
    summary: &impl Serialize,
    now: Timestamp,
) -> Result<()> {
    let summary =
        serde_json::to_value(summary).map_err(|error| Error::Internal(error.to_string()))?;
    let sql =
        "UPDATE renewal_runs SET status = $2, summary = $3, finished_at = $4 WHERE run_id = $1";
    execute(db, sql, &[&run, &status, &summary, &now]).await?;
    Ok(())
}

/// How many the runs of a day before `now` took access from, or gave grace, without an
/// approval.
pub async fn counted_lately(db: &impl Executor, now: Timestamp) -> Result<i64> {
    let sql = "SELECT coalesce(sum(counted), 0)::bigint FROM renewal_runs WHERE as_of > $1";
    Ok(query_one(db, sql, &[&(now - SignedDuration::from_hours(24))]).await?.get(0))
}

/// Counts a chunk's changes: against an approval, or for the breaker of the next day's runs. False
/// where the approval is used up.
pub async fn count(tx: &Transaction, run: i64, approval: Option<i64>, count: i64) -> Result<bool> {
    let (sql, id) = match approval {
        Some(approval) => (
            "UPDATE renewal_approvals SET used = used + $2::bigint::integer WHERE approval_id = $1
             AND used + $2::bigint <= max_count",
            approval,
        ),
        None => (
            "UPDATE renewal_runs SET counted = counted + $2::bigint::integer WHERE run_id = $1",
            run,
        ),
    };
    Ok(execute(tx, sql, &[&id, &count]).await? == 1)
}

/// The approval that counts at `now`: the last one, until it ends.
pub async fn approval(db: &impl Executor, now: Timestamp) -> Result<Option<Approval>> {
    let sql = "SELECT approval_id, (max_count - used)::bigint, approve_until > $1
               FROM renewal_approvals WHERE approved_at <= $1 ORDER BY approval_id DESC LIMIT 1";
    let row = query_opt(db, sql, &[&now]).await?;
    Ok(row.filter(|row| row.get(2)).map(|row| Approval { id: row.get(0), left: row.get(1) }))
}

/// Where a part goes on; none at its beginning.
pub async fn cursor(db: &impl Executor, part: &str) -> Result<Option<String>> {
    Ok(query_opt(db, "SELECT position FROM renewal_cursors WHERE part = $1", &[&part])
        .await?
        .and_then(|row| row.get(0)))
}

/// Notes it.
pub async fn save_cursor(
    db: &impl Executor,
    part: &str,
    position: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let sql = "INSERT INTO renewal_cursors (part, position, updated_at) VALUES ($1, $2, $3)
               ON CONFLICT (part) DO UPDATE SET position = $2, updated_at = $3";
    execute(db, sql, &[&part, &position, &now]).await?;
    Ok(())
}
