//! `idempotency_keys`.

use jiff::Timestamp;
use serde_json::Value;

use super::model::Key;
use crate::Result;
use crate::db::{Executor, Transaction, execute, query_one, query_opt};

/// Tries to lock the key until this transaction ends. False if another transaction holds it.
pub(super) async fn try_lock(tx: &Transaction, key: &Key) -> Result<bool> {
    let row =
        query_one(tx, "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", &[&key.scope()])
            .await?;
    Ok(row.get(0))
}

/// The request of the key and its answer, if it was kept since then.
pub(super) async fn find(
    tx: &Transaction,
    key: &Key,
    since: Timestamp,
) -> Result<Option<(Vec<u8>, Value)>> {
    let row = query_opt(
        tx,
        "SELECT request, answer FROM idempotency_keys
             WHERE subject = $1 AND tenant_id IS NOT DISTINCT FROM $2 AND route = $3 AND key = $4
             AND created_at > $5",
        &[&key.subject, &key.tenant, &key.route, &key.text, &since],
    )
    .await?;
    Ok(row.map(|row| (row.get("request"), row.get("answer"))))
}

/// Keeps an answer, and replaces an expired one.
pub(super) async fn insert(
    tx: &Transaction,
    key: &Key,
    answer: &Value,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "INSERT INTO idempotency_keys (subject, tenant_id, route, key, request, answer, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT ON CONSTRAINT idempotency_keys_scope
         DO UPDATE SET request = excluded.request, answer = excluded.answer,
         created_at = excluded.created_at",
        &[&key.subject, &key.tenant, &key.route, &key.text, &key.request, &answer, &now],
    )
    .await
}

/// Deletes up to `limit` answers that were kept before then, oldest first. An answer that is being
/// replaced is a new one, and stays.
pub(super) async fn delete_until(db: &impl Executor, until: Timestamp, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM idempotency_keys WHERE created_at <= $1
               AND ctid = ANY(ARRAY(SELECT ctid FROM idempotency_keys WHERE created_at <= $1
               ORDER BY created_at LIMIT $2))";
    execute(db, sql, &[&until, &limit]).await
}
