//! `outbox_steps`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::model::{KeycloakUser, LEASE};
use crate::ids::TenantId;
use crate::{Error, Result};

/// A claimed step.
#[derive(Debug)]
pub struct Step {
    /// Its number.
    pub id: i64,
    /// What to do.
    pub kind: String,
    /// For whom.
    pub tenant: TenantId,
    /// With what.
    pub payload: Value,
    /// What the step before it yielded.
    pub before: Option<Value>,
    /// This claim: a later one voids it.
    pub claim: i64,
    /// Tries, this one included.
    pub attempts: i32,
    /// When its cause was committed, or a person had it tried again.
    pub since: Timestamp,
}

/// Leaves the two steps of a new tenant's first login: the user, then the mail. `cause` makes a repeated commit the same steps.
pub async fn insert_first_login(tx: &Transaction<'_>, tenant: &TenantId, cause: &str, user: &KeycloakUser, now: Timestamp) -> Result<()> {
    let payload = serde_json::to_value(user).map_err(|error| Error::Internal(error.to_string()))?;
    let user = insert(tx, "keycloak_user", tenant, None, cause, &payload, now).await?;
    insert(tx, "welcome_mail", tenant, Some(user), cause, &json!({}), now).await?;
    Ok(())
}

async fn insert(tx: &Transaction<'_>, kind: &str, tenant: &TenantId, after: Option<i64>, cause: &str, payload: &Value, now: Timestamp) -> Result<i64> {
    let row = tx
        .query_one(
            "INSERT INTO outbox_steps (kind, tenant_id, after_step_id, dedup_key, payload, next_attempt_at, created_at, updated_at)
             VALUES ($1, $2, $3, $1 || ':' || $4, $5, $6, $6, $6) RETURNING step_id",
            &[&kind, &tenant.as_str(), &after, &cause, &payload, &now],
        )
        .await?;
    Ok(row.get(0))
}

/// Claims the step that has been due longest, and whose predecessor is done. One statement: a worker that dies holds it for the lease.
pub async fn claim_due(db: &Client, now: Timestamp) -> Result<Option<Step>> {
    let row = db
        .query_opt(
            "UPDATE outbox_steps SET claim = claim + 1, claimed_until = $2, next_attempt_at = $2, attempts = attempts + 1, updated_at = $1
             WHERE step_id = (
                 SELECT due.step_id FROM outbox_steps due
                 LEFT JOIN outbox_steps before ON before.step_id = due.after_step_id
                 WHERE due.status = 'pending' AND due.next_attempt_at <= $1 AND coalesce(due.claimed_until <= $1, true)
                   AND coalesce(before.status = 'done', true)
                 ORDER BY due.next_attempt_at, due.step_id
                 LIMIT 1
                 FOR UPDATE OF due SKIP LOCKED)
             RETURNING step_id, kind, tenant_id, payload, claim, attempts, coalesce(retried_at, created_at) AS since,
                       (SELECT result FROM outbox_steps before WHERE before.step_id = outbox_steps.after_step_id) AS before",
            &[&now, &(now + LEASE)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Step {
        id: row.get("step_id"),
        kind: row.get("kind"),
        tenant: TenantId::parse(row.get("tenant_id"))?,
        payload: row.get("payload"),
        before: row.get("before"),
        claim: row.get("claim"),
        attempts: row.get("attempts"),
        since: row.get("since"),
    }))
}

/// Records that a step is done. False where another worker holds it by now: that one's word counts.
pub async fn finish(tx: &Transaction<'_>, step: &Step, result: &Value, now: Timestamp) -> Result<bool> {
    let updated = tx
        .execute(
            "UPDATE outbox_steps SET status = 'done', result = $3, claimed_until = NULL, last_error = NULL, updated_at = $4
             WHERE step_id = $1 AND claim = $2 AND status = 'pending'",
            &[&step.id, &step.claim, &result, &now],
        )
        .await?;
    Ok(updated == 1)
}

/// Records that a try failed: again at `next_attempt`, or, without one, never by itself. False as in `finish`.
pub async fn fail(tx: &Transaction<'_>, step: &Step, error: &str, next_attempt: Option<Timestamp>, now: Timestamp) -> Result<bool> {
    let updated = tx
        .execute(
            "UPDATE outbox_steps SET status = CASE WHEN $4::timestamptz IS NULL THEN 'failed' ELSE status END, next_attempt_at = coalesce($4, next_attempt_at),
                    claimed_until = NULL, last_error = $3, updated_at = $5
             WHERE step_id = $1 AND claim = $2 AND status = 'pending'",
            &[&step.id, &step.claim, &error, &next_attempt, &now],
        )
        .await?;
    Ok(updated == 1)
}

/// Makes an unfinished step due now, with a new mail address where one is given, and its time anew. Returns its tenant and what it was.
pub async fn retry(tx: &Transaction<'_>, id: i64, email: Option<&str>, now: Timestamp) -> Result<Option<(TenantId, Value)>> {
    let row = tx
        .query_opt(
            "UPDATE outbox_steps new SET status = 'pending', next_attempt_at = $3, claimed_until = NULL, claim = new.claim + 1, retried_at = $3, updated_at = $3,
                    payload = CASE WHEN $2::text IS NULL THEN new.payload ELSE jsonb_set(new.payload, '{email}', to_jsonb($2)) END
             FROM (SELECT step_id, status, last_error FROM outbox_steps WHERE step_id = $1 AND status IN ('pending', 'failed') FOR UPDATE) old
             WHERE new.step_id = old.step_id
             RETURNING new.tenant_id, jsonb_build_object('status', old.status, 'last_error', old.last_error) AS old",
            &[&id, &email, &now],
        )
        .await?;
    row.map(|row| Ok((TenantId::parse(row.get("tenant_id"))?, row.get("old")))).transpose()
}

/// Ends an unfinished step, and those that wait for it, undone. Returns its tenant and what it was.
pub async fn dismiss(tx: &Transaction<'_>, id: i64, now: Timestamp) -> Result<Option<(TenantId, Value)>> {
    let row = tx
        .query_opt(
            "WITH old AS (SELECT step_id, tenant_id, status, last_error FROM outbox_steps WHERE step_id = $1 AND status IN ('pending', 'failed') FOR UPDATE),
                  ended AS (UPDATE outbox_steps SET status = 'dismissed', claim = claim + 1, claimed_until = NULL, updated_at = $2
                            WHERE status IN ('pending', 'failed') AND (step_id IN (SELECT step_id FROM old) OR after_step_id IN (SELECT step_id FROM old)))
             SELECT tenant_id, jsonb_build_object('status', status, 'last_error', last_error) AS old FROM old",
            &[&id, &now],
        )
        .await?;
    row.map(|row| Ok((TenantId::parse(row.get("tenant_id"))?, row.get("old")))).transpose()
}
