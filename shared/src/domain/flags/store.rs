//! `flags`.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::model::{About, Flag, FlagFilter, FlagKind, FlagRow};
use crate::Result;
use crate::base::ids::{StripeEventId, SubscriptionId, TenantId};
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Transaction, query, query_opt};

const COLUMNS: &str = "flag_id, kind, tenant_id, subscription_id, stripe_event_id, detail,
                       created_at, resolved_at, resolved_by, resolution_note";

fn flag(row: &Row) -> Result<FlagRow> {
    let text = |column| row.get::<_, Option<&str>>(column);
    Ok(FlagRow {
        flag_id: row.get("flag_id"),
        kind: row.get("kind"),
        tenant_id: text("tenant_id").map(TenantId::parse).transpose()?,
        subscription_id: text("subscription_id").map(SubscriptionId::parse).transpose()?,
        stripe_event_id: text("stripe_event_id").map(StripeEventId::parse).transpose()?,
        detail: row.get("detail"),
        created_at: row.get("created_at"),
        resolved_at: row.get("resolved_at"),
        resolved_by: row.get("resolved_by"),
        resolution_note: row.get("resolution_note"),
    })
}

/// Raises a flag, unless its event has raised it before.
pub(crate) async fn raise(tx: &Transaction, flag: &Flag<'_>, now: Timestamp) -> Result<()> {
    tx.write(
        "INSERT INTO flags (kind, tenant_id, subscription_id, stripe_event_id, detail, created_at,
         subject) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (kind, stripe_event_id) WHERE stripe_event_id IS NOT NULL DO NOTHING",
        &[
            &flag.kind.as_str(),
            &flag.tenant,
            &flag.subscription,
            &flag.stripe_event,
            &flag.detail,
            &now,
            &flag.subject,
        ],
    )
    .await
}

/// Raises a flag that no event tells of, unless one that says the same is open.
pub(crate) async fn raise_while_open(
    tx: &Transaction,
    flag: &Flag<'_>,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "INSERT INTO flags (kind, tenant_id, subscription_id, detail, created_at, subject)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE NOT EXISTS (SELECT FROM flags WHERE resolved_at IS NULL AND kind = $1
         AND subscription_id IS NOT DISTINCT FROM $3 AND detail = $4)",
        &[&flag.kind.as_str(), &flag.tenant, &flag.subscription, &flag.detail, &now, &flag.subject],
    )
    .await
}

/// A page of the flags that the filter lets through, newest first, and one more.
pub(crate) async fn list(
    db: &impl Executor,
    filter: &FlagFilter,
    page: &Page<(Timestamp, i64)>,
) -> Result<Vec<FlagRow>> {
    let mut conditions = Conditions::default();
    conditions.equal("kind", filter.kind.clone());
    conditions.equal("tenant_id", filter.tenant_id.clone());
    conditions.equal("subscription_id", filter.subscription_id.clone());
    if let Some(resolved) = filter.status.resolved() {
        conditions.plain(if resolved { "resolved_at IS NOT NULL" } else { "resolved_at IS NULL" });
    }
    if let Some((at, id)) = page.after {
        conditions.and_two("(created_at, flag_id) < (?, ?)", at, id);
    }
    conditions
        .page(db, &format!("SELECT {COLUMNS} FROM flags"), "created_at DESC, flag_id DESC", page)
        .await?
        .iter()
        .map(flag)
        .collect()
}

/// The flag of this number.
pub(crate) async fn find(db: &impl Executor, id: i64) -> Result<Option<FlagRow>> {
    let sql = format!("SELECT {COLUMNS} FROM flags WHERE flag_id = $1");
    query_opt(db, &sql, &[&id]).await?.as_ref().map(flag).transpose()
}

/// The flag of this number, locked.
pub(crate) async fn lock(tx: &Transaction, id: i64) -> Result<Option<FlagRow>> {
    let sql = format!("SELECT {COLUMNS} FROM flags WHERE flag_id = $1 FOR UPDATE");
    let row = query_opt(tx, &sql, &[&id]).await?;
    row.as_ref().map(flag).transpose()
}

/// Writes how a locked flag ended.
pub(crate) async fn save_resolution(tx: &Transaction, flag: &FlagRow) -> Result<()> {
    tx.write(
        "UPDATE flags SET resolved_at = $2, resolved_by = $3, resolution_note = $4
         WHERE flag_id = $1",
        &[&flag.flag_id, &flag.resolved_at, &flag.resolved_by, &flag.resolution_note],
    )
    .await
}

/// Ends the open flags of these kinds that are about this, and returns them as they are now.
pub(crate) async fn resolve_open(
    tx: &Transaction,
    kinds: &[FlagKind],
    about: About<'_>,
    by: &str,
    note: &str,
    now: Timestamp,
) -> Result<Vec<FlagRow>> {
    let (column, id) = match about {
        About::Subscription(id) => ("subscription_id", id.as_str()),
        About::Subject(id) => ("subject", id),
    };
    let sql = format!(
        "UPDATE flags SET resolved_at = $3, resolved_by = $4, resolution_note = $5
         WHERE resolved_at IS NULL AND kind = ANY($1) AND {column} = $2 RETURNING {COLUMNS}"
    );
    query(tx, &sql, &[&kinds, &id, &now, &by, &note]).await?.iter().map(flag).collect()
}
