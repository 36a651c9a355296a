//! What mails are made of; reads only.

use serde::Deserialize as _;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::model::{Digest, DigestPart, MailRow, Notice, Subject};
use crate::base::ids::SubscriptionId;
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, query_opt, query_planned};
use crate::domain::families::rows::{COLUMNS, subscription};
use crate::domain::families::subscription::LIVE;
use crate::{Error, Result};

/// How many lines a part of the digest has.
const LINES: i64 = 20;

/// What a mail about this root is made of.
pub(crate) async fn find(db: &impl Executor, root: &SubscriptionId) -> Result<Option<Subject>> {
    let sql = format!(
        "SELECT {COLUMNS}, t.name AS company, t.status AS tenant_status,
         coalesce(t.billing_email, t.contact_email) AS address, p.name AS plan,
                (SELECT coalesce(jsonb_agg(addon ORDER BY addon.subscription_id), '[]') FROM (
                     SELECT a.subscription_id, a.term_end, a.device_limit,
                            (SELECT coalesce(jsonb_agg(jsonb_build_object('tier', d.display_name,
                            'slot_limit', held.slot_limit) ORDER BY d.tier_id), '[]')
                             FROM subscription_tier_allocations held JOIN device_tiers d
                             ON d.tier_id = held.tier_id
                             WHERE held.subscription_id = a.subscription_id
                             AND held.slot_limit > 0) AS slots
                     FROM subscriptions a WHERE a.parent_subscription_id = s.subscription_id
                     AND a.status <> 'EXPIRED') addon) AS addons,
                EXISTS (SELECT FROM subscriptions m WHERE m.tenant_id = s.tenant_id
                        AND m.subscription_type = 'MAIN' AND m.status = ANY($2)) AS has_main
         FROM subscriptions s JOIN tenants t ON t.tenant_id = s.tenant_id LEFT
         JOIN subscription_plans p ON p.plan_id = s.plan_id
         WHERE s.subscription_id = $1"
    );
    let Some(row) = query_opt(db, &sql, &[&root, &LIVE.as_slice()]).await? else { return Ok(None) };
    Ok(Some(Subject {
        root: subscription(&row)?,
        company: row.get("company"),
        tenant_status: row.try_get("tenant_status")?,
        address: row.get("address"),
        plan: row.get("plan"),
        addons: serde_json::from_value(row.get::<_, Value>("addons"))
            .map_err(|error| Error::Internal(format!("addons: {error}")))?,
        has_main: row.get("has_main"),
    }))
}

/// The root of a subscription's family.
pub(crate) async fn root(
    db: &impl Executor,
    id: &SubscriptionId,
) -> Result<Option<SubscriptionId>> {
    let sql = "SELECT coalesce(parent_subscription_id, subscription_id) FROM subscriptions
               WHERE subscription_id = $1";
    query_opt(db, sql, &[&id]).await?.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// A page of the mails about this root, newest first, and one more.
pub(crate) async fn list(
    db: &impl Executor,
    root: &SubscriptionId,
    page: &Page<i64>,
) -> Result<Vec<MailRow>> {
    let mut conditions = Conditions::default();
    conditions.plain("kind = 'mail'");
    conditions.and("payload->>'subscription_id' = ?", root.as_str().to_owned());
    if let Some(id) = page.after {
        conditions.and("step_id < ?", id);
    }
    let select = "SELECT step_id, payload, status, result->>'to' AS \"to\",
                  result->>'message_id' AS message_id, result->>'skipped' AS skipped, attempts,
                  CASE WHEN status = 'pending' THEN next_attempt_at END AS next_attempt_at,
                  CASE WHEN status = 'done' AND result->>'sent' = 'true' THEN updated_at END
                  AS sent_at, last_error, created_at FROM outbox_steps";
    // Behind row-level security PostgreSQL does not see that the first is one value, and would sort
    // all of them by the second alone.
    let order = "payload->>'subscription_id', step_id DESC";
    conditions.page(db, select, order, page).await?.iter().map(mail).collect()
}

fn mail(row: &Row) -> Result<MailRow> {
    let Notice { mail, subscription_id, at } = Notice::deserialize(row.get::<_, Value>("payload"))
        .map_err(|error| Error::Internal(format!("payload: {error}")))?;
    Ok(MailRow {
        step_id: row.get("step_id"),
        mail,
        subscription_id,
        at,
        status: row.try_get("status")?,
        sent_at: row.get("sent_at"),
        to: row.get("to"),
        message_id: row.get("message_id"),
        skipped: row.get("skipped"),
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        last_error: row.get("last_error"),
        created_at: row.get("created_at"),
    })
}

/// A part of the digest: how many, and a line for each of the latest.
pub(crate) async fn part(
    db: &impl Executor,
    part: DigestPart,
    digest: &Digest,
) -> Result<(i64, Vec<String>)> {
    let became = |status: &str| {
        format!(
            "SELECT concat_ws(' ', tenant_id, subscription_id, 'by',
             coalesce(stripe_event_id, actor_id)) AS line, event_timestamp AS at, id
             FROM subscription_audit
             WHERE event_timestamp >= since AND event_timestamp < until
             AND subscription_id IS NOT NULL
               AND new_state->>'status' = '{status}' AND previous_state->>'status' <> '{status}'"
        )
    };
    let rows = match part {
        DigestPart::Flags => {
            "SELECT format('#%s %s %s: %s', flag_id, kind, coalesce(tenant_id, '-'),
                        detail) AS line, created_at AS at, flag_id AS id
             FROM flags WHERE resolved_at IS NULL"
                .to_owned()
        }
        DigestPart::FailedEvents => "SELECT concat_ws(' ', event_id, event_type,
             tenant_id) || coalesce(': ' || status_reason, '') AS line, recorded_at AS at,
             event_id AS id
             FROM stripe_events WHERE status = 'failed'"
            .to_owned(),
        DigestPart::StuckSteps => "SELECT format('#%s %s %s: %s, tries: %s', step_id, kind,
                             coalesce(tenant_id, '-'), status,
                             attempts) || coalesce(', ' || last_error, '') AS line,
                             created_at AS at, step_id AS id
             FROM outbox_steps
             WHERE status = 'failed' OR (status = 'pending'
             AND coalesce(retried_at, created_at) < until - interval '1 hour')"
            .to_owned(),
        DigestPart::Graces => became("GRACE"),
        DigestPart::Suspensions => became("SUSPENDED"),
        DigestPart::Corrections => {
            "SELECT concat_ws(' ', event_type, tenant_id, subscription_id) AS line,
                              event_timestamp AS at, id
             FROM subscription_audit
             WHERE event_timestamp >= since AND event_timestamp < until
               AND event_type IN ('TIER_SLOTS_RECONCILED', 'STRIPE_DRIFT_REPAIRED')"
                .to_owned()
        }
    };
    let sql = format!(
        "SELECT line, count(*) OVER () AS total
         FROM (VALUES ($1::timestamptz, $2::timestamptz)) bounds (since, until),
         LATERAL ({rows}) rows ORDER BY at DESC, id DESC LIMIT {LINES}"
    );
    let rows = query_planned(
        db,
        &sql,
        &[(&digest.from, Type::TIMESTAMPTZ), (&digest.to, Type::TIMESTAMPTZ)],
    )
    .await?;
    Ok((
        rows.first().map_or(0, |row| row.get("total")),
        rows.iter().map(|row| row.get("line")).collect(),
    ))
}
