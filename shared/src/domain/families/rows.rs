//! `subscriptions` and `subscription_tier_allocations`.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::family::Allocation;
use super::stripe_slots::StripeSlots;
use super::subscription::{Hold, LIVE, Status, StripeItem, StripeLink, Subscription};
use crate::Result;
use crate::base::ids::{
    Currency, PlanId, StripePriceId, StripeSessionId, StripeSubscriptionId, SubscriptionId,
    TenantId,
};
use crate::db::{Executor, Fields, Transaction, query, query_one, query_opt};

crate::row! {
    mod columns: subscription: Subscription, "subscriptions" as "s", fresh subscription_id,
    once {
        tenant_id,
        subscription_type,
        parent_subscription_id,
        stripe_checkout_session_id,
        stripe_subscription_id = subscription.stripe_id(),
        created_by,
        created_at,
    }
    changes {
        status,
        plan_id,
        quantity,
        device_limit,
        limits = subscription.limits.as_ref().map(Json),
        term_start,
        term_end,
        grace_end,
        description,
        stripe_status = stripe(subscription, |link| &link.status),
        stripe_price_id = stripe(subscription, |link| &link.price_id),
        stripe_period_end = stripe(subscription, |link| &link.period_end),
        stripe_paid_until = stripe(subscription, |link| &link.paid_until),
        stripe_pending_until = stripe(subscription, |link| &link.pending_until),
        stripe_cancel_at = stripe(subscription, |link| &link.cancel_at),
        stripe_currency = stripe(subscription, |link| &link.currency),
        stripe_collection_paused =
            stripe(subscription, |link| &link.collection_paused).unwrap_or(&false),
        stripe_items = stripe(subscription, |link| &link.items).map(Json),
        stripe_slots = subscription.stripe.as_ref().and_then(|link| link.slots.as_ref()).map(Json),
        stripe_sync = stripe(subscription, |link| &link.sync).unwrap_or(&0),
        hold_reason = hold(subscription, |hold| &hold.reason),
        held_by = hold(subscription, |hold| &hold.by),
        held_at = hold(subscription, |hold| &hold.at),
        version,
        updated_at,
    }
    read { active_device_count }
}

pub(crate) use self::columns::COLUMNS;

fn stripe<T>(subscription: &Subscription, field: impl Fn(&StripeLink) -> &T) -> Option<&T> {
    subscription.stripe.as_ref().map(field)
}

fn hold<T>(subscription: &Subscription, field: impl Fn(&Hold) -> &T) -> Option<&T> {
    subscription.hold.as_ref().map(field)
}

/// Reads the row of a query for `COLUMNS`.
pub(crate) fn subscription(row: &Row) -> Result<Subscription> {
    let mut fields = Fields::of(row);
    let subscription_id = fields.get("subscription_id")?;
    let tenant_id = fields.get("tenant_id")?;
    let subscription_type = fields.get("subscription_type")?;
    let parent_subscription_id = fields.get("parent_subscription_id")?;
    let stripe_checkout_session_id = fields.get("stripe_checkout_session_id")?;
    let stripe_id: Option<StripeSubscriptionId> = fields.get("stripe_subscription_id")?;
    Ok(Subscription {
        subscription_id,
        tenant_id,
        subscription_type,
        parent_subscription_id,
        stripe_checkout_session_id,
        created_by: fields.get("created_by")?,
        created_at: fields.get("created_at")?,
        status: fields.get("status")?,
        plan_id: fields.get("plan_id")?,
        quantity: fields.get("quantity")?,
        device_limit: fields.get("device_limit")?,
        limits: fields.get::<Option<Json<_>>>("limits")?.map(|Json(limits)| limits),
        term_start: fields.get("term_start")?,
        term_end: fields.get("term_end")?,
        grace_end: fields.get("grace_end")?,
        description: fields.get("description")?,
        stripe: stripe_id.map(|id| stripe_link(&mut fields, id)).transpose()?,
        hold: hold_of(&mut fields)?,
        version: fields.get("version")?,
        updated_at: fields.get("updated_at")?,
        active_device_count: fields.get("active_device_count")?,
    })
}

fn stripe_link(fields: &mut Fields<'_>, id: StripeSubscriptionId) -> Result<StripeLink> {
    let status = fields.get("stripe_status")?;
    let price_id: Option<StripePriceId> = fields.get("stripe_price_id")?;
    // The release before kept the price alone.
    let one = price_id.as_ref().map(|id| StripeItem { price_id: id.clone(), quantity: 1 });
    Ok(StripeLink {
        id,
        status,
        price_id,
        period_end: fields.get("stripe_period_end")?,
        paid_until: fields.get("stripe_paid_until")?,
        pending_until: fields.get("stripe_pending_until")?,
        cancel_at: fields.get("stripe_cancel_at")?,
        currency: fields.get("stripe_currency")?,
        collection_paused: fields.get("stripe_collection_paused")?,
        items: fields
            .get::<Option<Json<Vec<StripeItem>>>>("stripe_items")?
            .map_or_else(|| one.into_iter().collect(), |Json(items)| items),
        slots: fields.get::<Option<Json<_>>>("stripe_slots")?.map(|Json(slots)| slots),
        sync: fields.get("stripe_sync")?,
    })
}

fn hold_of(fields: &mut Fields<'_>) -> Result<Option<Hold>> {
    let reason: Option<String> = fields.get("hold_reason")?;
    let hold = |reason| Ok(Hold { reason, by: fields.get("held_by")?, at: fields.get("held_at")? });
    reason.map(hold).transpose()
}

/// The next id.
pub(crate) async fn next_id(tx: &Transaction, now: Timestamp) -> Result<SubscriptionId> {
    SubscriptionId::parse(
        query_one(tx, "SELECT generate_subscription_id($1)", &[&now]).await?.get(0),
    )
}

/// Inserts a subscription.
pub(crate) async fn insert(tx: &Transaction, new: &Subscription) -> Result<()> {
    columns::add(tx, new).await
}

/// Writes what may change of a subscription whose family is locked. Counts are not among it.
pub(crate) async fn save(tx: &Transaction, subscription: &Subscription) -> Result<()> {
    columns::save(tx, subscription).await
}

/// A subscription, and how many snapshots were applied to it.
pub(crate) type Synced = (SubscriptionId, i64);

/// The subscription of ours that this Stripe subscription pays for.
pub(crate) async fn find_synced(
    db: &impl Executor,
    id: &StripeSubscriptionId,
) -> Result<Option<Synced>> {
    let sql =
        "SELECT subscription_id, stripe_sync FROM subscriptions WHERE stripe_subscription_id = $1";
    query_opt(db, sql, &[&id]).await?.map(|row| Ok((row.try_get(0)?, row.get(1)))).transpose()
}

/// Those of ours that these Stripe subscriptions pay for.
pub(crate) async fn find_paid_by(db: &impl Executor, ids: &[&str]) -> Result<Vec<Subscription>> {
    let sql =
        format!("SELECT {COLUMNS} FROM subscriptions s WHERE s.stripe_subscription_id = ANY($1)");
    query(db, &sql, &[&ids]).await?.iter().map(subscription).collect()
}

/// Saves what is known of the slots at Stripe of a locked MAIN. A snapshot that was read before
/// must be read again: it counts as one more that was applied.
pub(crate) async fn save_stripe_slots(
    tx: &Transaction,
    root: &SubscriptionId,
    slots: &StripeSlots,
) -> Result<()> {
    let sql = "UPDATE subscriptions SET stripe_slots = $2, stripe_sync = stripe_sync + 1
               WHERE subscription_id = $1";
    tx.write(sql, &[&root, &Json(slots)]).await
}

/// Counts a snapshot that was applied and changed nothing else.
pub(crate) async fn count_sync(tx: &Transaction, id: &SubscriptionId) -> Result<()> {
    tx.write(
        "UPDATE subscriptions SET stripe_sync = stripe_sync + 1 WHERE subscription_id = $1",
        &[&id],
    )
    .await
}

/// The tenant of the subscription that this checkout or this Stripe subscription already made.
pub(crate) async fn find_made_by(
    tx: &Transaction,
    session: &StripeSessionId,
    stripe: &StripeSubscriptionId,
) -> Result<Option<TenantId>> {
    let row = query_opt(
        tx,
        "SELECT tenant_id FROM subscriptions WHERE stripe_checkout_session_id = $1
         OR stripe_subscription_id = $2 LIMIT 1",
        &[&session, &stripe],
    )
    .await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Names the checkout of a subscription that was made without it.
pub(crate) async fn set_session(
    tx: &Transaction,
    stripe: &StripeSubscriptionId,
    session: &StripeSessionId,
) -> Result<()> {
    tx.write(
        "UPDATE subscriptions SET stripe_checkout_session_id = $2
         WHERE stripe_subscription_id = $1 AND stripe_checkout_session_id IS NULL",
        &[&stripe, &session],
    )
    .await
}

/// The next id, and a live MAIN of this plan that the tenant has since `since`: probably bought
/// twice. In one round trip.
pub(crate) async fn next_id_and_twin(
    tx: &Transaction,
    tenant: &TenantId,
    plan: Option<&PlanId>,
    since: Timestamp,
    now: Timestamp,
) -> Result<(SubscriptionId, Option<SubscriptionId>)> {
    let row = query_one(
        tx,
        "SELECT generate_subscription_id($5),
             (SELECT subscription_id FROM subscriptions
              WHERE tenant_id = $1 AND plan_id = $2 AND subscription_type = 'MAIN'
              AND status = ANY($3) AND created_at >= $4
              ORDER BY created_at DESC LIMIT 1)",
        &[&tenant, &plan, &LIVE.as_slice(), &since, &now],
    )
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// A MAIN that goes on at Stripe.
pub(crate) struct MainAtStripe {
    /// Ours.
    pub id: SubscriptionId,
    /// As Stripe spells it; empty where it was never read.
    pub stripe_status: String,
    /// What it is charged in; none where it was never read.
    pub currency: Option<Currency>,
}

/// The tenant's MAINs that go on at Stripe, whatever their status is here: Stripe charges for them,
/// or will as soon as it can. By id.
pub(crate) async fn mains_at_stripe(
    tx: &Transaction,
    tenant: &TenantId,
) -> Result<Vec<MainAtStripe>> {
    let sql = "SELECT subscription_id, coalesce(stripe_status, ''), stripe_currency
               FROM subscriptions WHERE tenant_id = $1 AND subscription_type = 'MAIN'
               AND stripe_subscription_id IS NOT NULL
               AND coalesce(stripe_status, '') NOT IN ('canceled', 'incomplete_expired')
               ORDER BY subscription_id";
    let read = |row: &Row| {
        let (id, currency) = (row.try_get(0)?, row.try_get(2)?);
        Ok(MainAtStripe { id, stripe_status: row.get(1), currency })
    };
    query(tx, sql, &[&tenant]).await?.iter().map(read).collect()
}

/// The tenant's subscriptions that give access, by id. Where the tenant is locked, no other gets to
/// give it one.
pub(crate) async fn live_subscriptions(
    tx: &Transaction,
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

/// The tenant's live trials, by id.
pub(crate) async fn live_trials(
    tx: &Transaction,
    tenant: &TenantId,
) -> Result<Vec<SubscriptionId>> {
    let sql = "SELECT subscription_id FROM subscriptions WHERE tenant_id = $1
               AND subscription_type = 'TRIAL' AND status = ANY($2) ORDER BY subscription_id";
    let rows = query(tx, sql, &[&tenant, &LIVE.as_slice()]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Saves the status and the end of grace of locked subscriptions.
pub(crate) async fn save_statuses(
    tx: &Transaction,
    after: &[Subscription],
    now: Timestamp,
) -> Result<()> {
    let ids: Vec<&str> = after.iter().map(|it| it.subscription_id.as_str()).collect();
    let statuses: Vec<&str> = after.iter().map(|it| it.status.as_str()).collect();
    let ends: Vec<Option<Timestamp>> = after.iter().map(|it| it.grace_end).collect();
    let versions: Vec<i64> = after.iter().map(|it| it.version).collect();
    let sql = "UPDATE subscriptions SET status = new.status, grace_end = new.grace_end,
               version = new.version, updated_at = $5
               FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[]) AS new (id,
               status, grace_end, version) WHERE subscription_id = new.id";
    tx.write(sql, &[&ids, &statuses, &ends, &versions, &now]).await
}

/// Saves when the notices of locked subscriptions are due next. It is no change of theirs: no new
/// version.
pub(crate) async fn save_notice_times(
    tx: &Transaction,
    notices: &[(&SubscriptionId, Option<Timestamp>)],
) -> Result<()> {
    let ids: Vec<&str> = notices.iter().map(|(id, _)| id.as_str()).collect();
    let next: Vec<Option<Timestamp>> = notices.iter().map(|(_, next)| *next).collect();
    let sql = "UPDATE subscriptions SET noticed_term_end = term_end, next_notice_at = new.next
               FROM unnest($1::text[], $2::timestamptz[]) AS new (id, next)
               WHERE subscription_id = new.id";
    tx.write(sql, &[&ids, &next]).await
}

/// Gives a new subscription the slots that so many of its plan bring, and returns them as
/// `[{tier_id, slot_limit}]`, by tier.
pub(crate) async fn insert_plan_defaults(
    tx: &Transaction,
    tenant: &TenantId,
    subscription: &SubscriptionId,
    (plan, quantity): (&PlanId, i32),
    now: Timestamp,
) -> Result<Value> {
    let row = query_one(
        tx,
        "WITH added AS (
                 INSERT INTO subscription_tier_allocations (tenant_id, subscription_id, tier_id,
                 slot_limit, created_at, updated_at)
                 SELECT $1, $2, tier_id, least(slot_limit * $5::bigint, 2147483647)::integer, $4, $4
                 FROM plan_tier_defaults WHERE plan_id = $3
                 RETURNING tier_id, slot_limit
             )
             SELECT coalesce(jsonb_agg(jsonb_build_object('tier_id', tier_id, 'slot_limit',
             slot_limit) ORDER BY tier_id), '[]') FROM added",
        &[&tenant, &subscription, &plan, &now, &i64::from(quantity)],
    )
    .await?;
    Ok(row.get(0))
}

/// Sets how many slots a member brings; only another limit is a new version.
pub(crate) async fn set_limit(
    tx: &Transaction,
    tenant: &TenantId,
    id: &SubscriptionId,
    tier: i32,
    slot_limit: i32,
    now: Timestamp,
) -> Result<()> {
    let sql = "INSERT INTO subscription_tier_allocations AS a (tenant_id, subscription_id, tier_id,
               slot_limit, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (subscription_id, tier_id) DO UPDATE
         SET slot_limit = excluded.slot_limit, version = a.version + 1,
         updated_at = excluded.updated_at
         WHERE a.slot_limit <> excluded.slot_limit";
    tx.write(sql, &[&tenant, &id, &tier, &slot_limit, &now]).await
}

/// Writes an allocation whose family is locked; another limit is a new version.
pub(crate) async fn save_allocation(
    tx: &Transaction,
    allocation: &Allocation,
    now: Timestamp,
) -> Result<()> {
    let Allocation { id, slot_limit, slots_used, counted_by_hand, .. } = allocation;
    tx.write(
        "UPDATE subscription_tier_allocations
         SET version = version + (slot_limit <> $2)::integer, slot_limit = $2, slots_used = $3,
         counted_by_hand = $4, updated_at = $5 WHERE id = $1",
        &[id, slot_limit, slots_used, counted_by_hand, &now],
    )
    .await
}

/// Removes an allocation whose family is locked.
pub(crate) async fn delete_allocation(tx: &Transaction, id: i64) -> Result<()> {
    tx.write("DELETE FROM subscription_tier_allocations WHERE id = $1", &[&id]).await
}

/// Corrects how many slots a row says are used, by the devices and not by hand.
pub(crate) async fn set_used(
    tx: &Transaction,
    id: &SubscriptionId,
    tier: i32,
    used: i64,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE subscription_tier_allocations
               SET slots_used = $3::bigint, counted_by_hand = false, updated_at = $4
               WHERE subscription_id = $1 AND tier_id = $2";
    tx.write(sql, &[&id, &tier, &used, &now]).await
}

/// Corrects how many devices are on a subscription.
pub(crate) async fn set_devices(
    tx: &Transaction,
    id: &SubscriptionId,
    devices: i64,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE subscriptions SET active_device_count = $2::bigint, updated_at = $3
               WHERE subscription_id = $1";
    tx.write(sql, &[&id, &devices, &now]).await
}
