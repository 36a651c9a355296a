//! `subscriptions`.

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;

use super::subscription::{LIVE, Status, Subscription};
use crate::Result;
use crate::base::ids::{
    PlanId, StripePriceId, StripeSessionId, StripeSubscriptionId, SubscriptionId, TenantId,
};
use crate::db::{execute, query, query_one, query_opt};
use crate::domain::events::stripe_state::StripeState;

/// The columns of a `Subscription`, of a table called `s`.
pub const COLUMNS: &str = "s.subscription_id, s.tenant_id, s.subscription_type,
    s.parent_subscription_id, s.status, s.plan_id, s.device_limit, s.active_device_count,
    s.term_start, s.term_end, s.grace_end, s.description, s.stripe_subscription_id,
    s.stripe_status, s.stripe_price_id, s.stripe_period_end, s.stripe_paid_until,
    s.stripe_cancel_at, s.stripe_collection_paused, s.stripe_sync, s.hold_reason, s.held_by,
    s.held_at, s.created_by, s.version, s.created_at, s.updated_at";

/// Reads them.
pub fn subscription(row: &Row) -> Result<Subscription> {
    Ok(Subscription {
        subscription_id: row.try_get("subscription_id")?,
        tenant_id: row.try_get("tenant_id")?,
        subscription_type: row.try_get("subscription_type")?,
        parent_subscription_id: row.try_get("parent_subscription_id")?,
        status: row.try_get("status")?,
        plan_id: row.try_get("plan_id")?,
        device_limit: row.get("device_limit"),
        active_device_count: row.get("active_device_count"),
        term_start: row.get("term_start"),
        term_end: row.get("term_end"),
        grace_end: row.get("grace_end"),
        description: row.get("description"),
        stripe_subscription_id: row.try_get("stripe_subscription_id")?,
        stripe_status: row.get("stripe_status"),
        stripe_price_id: row.try_get("stripe_price_id")?,
        stripe_period_end: row.get("stripe_period_end"),
        stripe_paid_until: row.get("stripe_paid_until"),
        stripe_cancel_at: row.get("stripe_cancel_at"),
        stripe_collection_paused: row.get("stripe_collection_paused"),
        stripe_sync: row.get("stripe_sync"),
        hold_reason: row.get("hold_reason"),
        held_by: row.get("held_by"),
        held_at: row.get("held_at"),
        created_by: row.get("created_by"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// The next id.
pub async fn next_id(tx: &Transaction<'_>, now: Timestamp) -> Result<SubscriptionId> {
    SubscriptionId::parse(
        query_one(tx, "SELECT generate_subscription_id($1)", &[&now]).await?.get(0),
    )
}

/// Inserts a subscription that no checkout made.
pub async fn insert(tx: &Transaction<'_>, new: &Subscription) -> Result<()> {
    execute(
        tx,
        "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type,
         parent_subscription_id, status, plan_id, device_limit, term_start, term_end, description,
         created_by, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        &[
            &new.subscription_id,
            &new.tenant_id,
            &new.subscription_type,
            &new.parent_subscription_id,
            &new.status,
            &new.plan_id,
            &new.device_limit,
            &new.term_start,
            &new.term_end,
            &new.description,
            &new.created_by,
            &new.version,
            &new.created_at,
            &new.updated_at,
        ],
    )
    .await?;
    Ok(())
}

/// Writes what may change of a subscription whose family is locked. Counts are not among it.
pub async fn save(tx: &Transaction<'_>, subscription: &Subscription) -> Result<()> {
    execute(
        tx,
        "UPDATE subscriptions SET status = $2, plan_id = $3, device_limit = $4, term_start = $5,
         term_end = $6, grace_end = $7, description = $8, stripe_status = $9, stripe_price_id = $10,
         stripe_period_end = $11, stripe_cancel_at = $12, stripe_collection_paused = $13,
         hold_reason = $14, held_by = $15, held_at = $16, version = $17, updated_at = $18,
         stripe_paid_until = $19, stripe_sync = $20
         WHERE subscription_id = $1",
        &[
            &subscription.subscription_id,
            &subscription.status,
            &subscription.plan_id,
            &subscription.device_limit,
            &subscription.term_start,
            &subscription.term_end,
            &subscription.grace_end,
            &subscription.description,
            &subscription.stripe_status,
            &subscription.stripe_price_id,
            &subscription.stripe_period_end,
            &subscription.stripe_cancel_at,
            &subscription.stripe_collection_paused,
            &subscription.hold_reason,
            &subscription.held_by,
            &subscription.held_at,
            &subscription.version,
            &subscription.updated_at,
            &subscription.stripe_paid_until,
            &subscription.stripe_sync,
        ],
    )
    .await?;
    Ok(())
}

/// A subscription, with how often Stripe's word of it was applied.
pub type Synced = (SubscriptionId, i64);

/// The subscription of ours that this Stripe subscription pays for.
pub async fn find_synced(
    db: &impl GenericClient,
    id: &StripeSubscriptionId,
) -> Result<Option<Synced>> {
    let sql =
        "SELECT subscription_id, stripe_sync FROM subscriptions WHERE stripe_subscription_id = $1";
    query_opt(db, sql, &[&id]).await?.map(|row| Ok((row.try_get(0)?, row.get(1)))).transpose()
}

/// Those of ours that these Stripe subscriptions pay for.
pub async fn find_paid_by(db: &impl GenericClient, ids: &[&str]) -> Result<Vec<Subscription>> {
    let sql =
        format!("SELECT {COLUMNS} FROM subscriptions s WHERE s.stripe_subscription_id = ANY($1)");
    query(db, &sql, &[&ids]).await?.iter().map(subscription).collect()
}

/// Counts one more application of Stripe's word, which changed nothing else.
pub async fn count_sync(tx: &Transaction<'_>, id: &SubscriptionId) -> Result<()> {
    execute(
        tx,
        "UPDATE subscriptions SET stripe_sync = stripe_sync + 1 WHERE subscription_id = $1",
        &[&id],
    )
    .await?;
    Ok(())
}

/// A subscription as a paid checkout makes it.
#[derive(Debug, Clone)]
pub struct Bought<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// An ADDON's MAIN, whose row is locked; none of a MAIN.
    pub parent: Option<&'a SubscriptionId>,
    /// With what access.
    pub status: Status,
    /// When grace ends; set exactly where the status is GRACE.
    pub grace_end: Option<Timestamp>,
    /// None: it did not resolve, or has slots of its own.
    pub plan: Option<&'a PlanId>,
    /// Devices that it allows.
    pub device_limit: i32,
    /// `[start, end)`, UTC.
    pub term: (Timestamp, Timestamp),
    /// Its own Stripe subscription, and the word of that; none where its MAIN's pays for it.
    pub stripe: Option<(&'a StripeSubscriptionId, &'a StripeState<'a>)>,
    /// The checkout that paid.
    pub session: &'a StripeSessionId,
}

/// Inserts it with the next id, and returns that with the row as JSON (for the audit).
pub async fn insert_bought(
    tx: &Transaction<'_>,
    new: &Bought<'_>,
    now: Timestamp,
) -> Result<(SubscriptionId, Value)> {
    let (id, word) = new.stripe.unzip();
    let sql = "INSERT INTO subscriptions (subscription_id, tenant_id, subscription_type,
               parent_subscription_id, status, grace_end, plan_id, device_limit, term_start,
               term_end, stripe_checkout_session_id, stripe_subscription_id, stripe_sync,
               stripe_price_id, stripe_status, stripe_period_end, stripe_cancel_at,
               stripe_collection_paused, description, created_by, created_at, updated_at,
               stripe_paid_until)
             VALUES (generate_subscription_id($16), $1, CASE WHEN $2::text IS NULL THEN 'MAIN'
             ELSE 'ADDON' END, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                     CASE WHEN $10::text IS NULL THEN 0
                     ELSE 1 END, $11, $12, $13, $14, $15, 'Bought at Stripe Checkout', 'stripe',
                     $16, $16, $17)
             RETURNING subscription_id, to_jsonb(subscriptions) AS state";
    let row = query_one(
        tx,
        sql,
        &[
            &new.tenant,
            &new.parent,
            &new.status,
            &new.grace_end,
            &new.plan,
            &new.device_limit,
            &new.term.0,
            &new.term.1,
            &new.session,
            &id,
            &word.and_then(|word| word.price).map(StripePriceId::as_str),
            &word.map(|word| word.status),
            &word.map(|word| word.period.1),
            &word.and_then(|word| word.cancel_at),
            &word.is_some_and(|word| word.is_collection_paused),
            &now,
            &word.and_then(|word| word.paid_term).map(|(_, end)| end),
        ],
    )
    .await?;
    Ok((row.try_get("subscription_id")?, row.get("state")))
}

/// The subscription that this checkout or this Stripe subscription already made, with its tenant.
pub async fn find_made_by(
    tx: &Transaction<'_>,
    session: &StripeSessionId,
    stripe: &StripeSubscriptionId,
) -> Result<Option<(TenantId, SubscriptionId)>> {
    let row = query_opt(
        tx,
        "SELECT tenant_id, subscription_id FROM subscriptions WHERE stripe_checkout_session_id = $1
         OR stripe_subscription_id = $2 LIMIT 1",
        &[&session, &stripe],
    )
    .await?;
    row.map(|row| Ok((row.try_get("tenant_id")?, row.try_get("subscription_id")?))).transpose()
}

/// A live MAIN of the same plan that the tenant has since `since`: probably bought twice.
pub async fn find_recent_twin(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    plan: &PlanId,
    since: Timestamp,
) -> Result<Option<SubscriptionId>> {
    let row = query_opt(
        tx,
        "SELECT subscription_id FROM subscriptions
             WHERE tenant_id = $1 AND plan_id = $2 AND subscription_type = 'MAIN'
             AND status = ANY($3) AND created_at >= $4
             ORDER BY created_at DESC LIMIT 1",
        &[&tenant, &plan, &LIVE.as_slice(), &since],
    )
    .await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// The tenant's subscriptions that give access, by id. Where the tenant is locked, no other gets to
/// give it one.
pub async fn live_subscriptions(
    tx: &Transaction<'_>,
    id: &TenantId,
) -> Result<Vec<(SubscriptionId, Status)>> {
    let rows = query(
        tx,
        "SELECT subscription_id, status FROM subscriptions WHERE tenant_id = $1 AND status = ANY($2)
         ORDER BY subscription_id",
        &[&id, &LIVE.as_slice()],
    )
    .await?;
    rows.iter().map(|row| Ok((row.try_get("subscription_id")?, row.try_get("status")?))).collect()
}
