//! `addon_orders`, and what the families of paid ones renew.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::model::{Order, Quote, RenewingSlots};
use crate::Result;
use crate::base::ids::{AddonOrderId, Currency, StripeSessionId, SubscriptionId, TenantId};
use crate::db::{Executor, Transaction, query, query_one, query_opt};
use crate::domain::families::subscription::LIVE;
use crate::domain::prices::model::Interval;

const ORDER: &str = "order_id, tenant_id, parent_subscription_id, interval, term_end,
                     remaining_days, period_days, lines, amount_cents, currency,
                     stripe_checkout_session_id, status, subscription_id, expires_at, created_at";

fn order(row: &Row) -> Result<Order> {
    let subscription =
        |column| row.get::<_, Option<&str>>(column).map(SubscriptionId::parse).transpose();
    let Json(lines) = row.try_get("lines")?;
    Ok(Order {
        order_id: row.try_get("order_id")?,
        tenant_id: row.try_get("tenant_id")?,
        quote: Quote {
            parent_subscription_id: row.try_get("parent_subscription_id")?,
            term_end: row.get("term_end"),
            interval: row.try_get("interval")?,
            remaining_days: row.get::<_, i32>("remaining_days").into(),
            period_days: row.get::<_, i32>("period_days").into(),
            lines,
            amount_cents: row.get("amount_cents"),
            currency: row.try_get("currency")?,
        },
        stripe_checkout_session_id: row.try_get("stripe_checkout_session_id")?,
        status: row.try_get("status")?,
        subscription_id: subscription("subscription_id")?,
        expires_at: row.get("expires_at"),
        created_at: row.get("created_at"),
    })
}

/// Inserts an open order. `request_key` is the idempotency key of its request.
pub(crate) async fn insert(tx: &Transaction, new: &Order, request_key: Option<&str>) -> Result<()> {
    let days = |days: i64| i32::try_from(days).unwrap_or(i32::MAX);
    let quote = &new.quote;
    tx.write(
        "INSERT INTO addon_orders (order_id, tenant_id, parent_subscription_id, interval, term_end,
         remaining_days, period_days, lines, amount_cents, currency, request_key, expires_at,
         created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
        &[
            &new.order_id,
            &new.tenant_id,
            &quote.parent_subscription_id,
            &quote.interval,
            &quote.term_end,
            &days(quote.remaining_days),
            &days(quote.period_days),
            &Json(&quote.lines),
            &quote.amount_cents,
            &quote.currency,
            &request_key,
            &new.expires_at,
            &new.created_at,
        ],
    )
    .await
}

/// The order that the same request, repeated within a day, left before.
pub(crate) async fn of_request(
    tx: &Transaction,
    tenant: &TenantId,
    request_key: &str,
    now: Timestamp,
) -> Result<Option<Order>> {
    let since = now - SignedDuration::from_hours(24);
    let sql = format!(
        "SELECT {ORDER} FROM addon_orders WHERE tenant_id = $1 AND request_key = $2
         AND created_at > $3 ORDER BY created_at DESC LIMIT 1"
    );
    query_opt(tx, &sql, &[&tenant, &request_key, &since]).await?.as_ref().map(order).transpose()
}

/// The order of this id.
pub(crate) async fn find(db: &impl Executor, id: &AddonOrderId) -> Result<Option<Order>> {
    query_opt(db, &format!("SELECT {ORDER} FROM addon_orders WHERE order_id = $1"), &[&id])
        .await?
        .as_ref()
        .map(order)
        .transpose()
}

/// The same, locked until the transaction ends.
pub(crate) async fn lock(tx: &Transaction, id: &AddonOrderId) -> Result<Option<Order>> {
    query_opt(
        tx,
        &format!("SELECT {ORDER} FROM addon_orders WHERE order_id = $1 FOR UPDATE"),
        &[&id],
    )
    .await?
    .as_ref()
    .map(order)
    .transpose()
}

/// Notes which checkout the order became.
pub(crate) async fn set_session(
    tx: &Transaction,
    id: &AddonOrderId,
    session: &StripeSessionId,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE addon_orders SET stripe_checkout_session_id = $2, updated_at = $3
               WHERE order_id = $1 AND stripe_checkout_session_id IS NULL";
    tx.write(sql, &[&id, &session, &now]).await
}

/// Ends a locked order: paid, with its ADDON, or expired.
pub(crate) async fn close(tx: &Transaction, order: &Order, now: Timestamp) -> Result<()> {
    tx.write("UPDATE addon_orders SET status = $2, subscription_id = $3, stripe_checkout_session_id = $4,
         updated_at = $5 WHERE order_id = $1",
        &[
            &order.order_id,
            &order.status,
            &order.subscription_id,
            &order.stripe_checkout_session_id,
            &now,
        ],
    ).await
}

/// How a subscription is paid: the interval of its Stripe price, where that price is mapped, and
/// its currency; that of all else where Stripe has not said so.
pub(crate) async fn paid_in(
    db: &impl Executor,
    id: &SubscriptionId,
) -> Result<(Option<Interval>, Currency)> {
    let sql = "SELECT p.interval, coalesce(s.stripe_currency, p.currency, default_currency())
               FROM subscriptions s LEFT JOIN stripe_prices p
               ON p.stripe_price_id = s.stripe_price_id WHERE s.subscription_id = $1";
    let row = query_one(db, sql, &[&id]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Every tier that was ever ordered for this parent, with the slots of it that renew: of live
/// ADDONs that were ordered here and have no Stripe subscription of their own. Never more than were
/// ordered, though an operator may have given more.
pub(crate) async fn renewing_slots(
    db: &impl Executor,
    parent: &SubscriptionId,
    (interval, currency): (Interval, &Currency),
) -> Result<Vec<RenewingSlots>> {
    let sql = "SELECT line.tier_id,
                      coalesce(sum(least(line.additional_slots,
                      a.slot_limit)) FILTER (WHERE s.status = ANY($2)
                      AND s.stripe_subscription_id IS NULL), 0)::bigint AS slots,
                      (SELECT p.stripe_price_id FROM stripe_prices p WHERE p.tier_id = line.tier_id
                      AND p.interval = $3
                      AND CASE WHEN $4 = default_currency() THEN p.is_current
                          ELSE p.is_further AND p.currency = $4 END) AS price
               FROM addon_orders o
               JOIN subscriptions s ON s.subscription_id = o.subscription_id
               CROSS JOIN LATERAL jsonb_to_recordset(o.lines) AS line (tier_id integer,
               additional_slots integer)
               LEFT JOIN subscription_tier_allocations a ON a.subscription_id = o.subscription_id
               AND a.tier_id = line.tier_id
               WHERE o.parent_subscription_id = $1 AND o.status = 'paid'
               GROUP BY line.tier_id ORDER BY line.tier_id";
    let rows = query(db, sql, &[&parent, &LIVE.as_slice(), &interval, &currency]).await?;
    rows.iter()
        .map(|row| {
            let price = row.try_get("price")?;
            Ok(RenewingSlots { tier: row.get("tier_id"), slots: row.get("slots"), price })
        })
        .collect()
}

/// Slots of one ADDON that renew.
pub(crate) struct OrderedSlots {
    pub addon: SubscriptionId,
    pub tier: i32,
    pub slots: i32,
}

/// The same for each live ADDON, those that were ordered last first.
pub(crate) async fn ordered_slots(
    db: &impl Executor,
    parent: &SubscriptionId,
) -> Result<Vec<OrderedSlots>> {
    let sql = "SELECT o.subscription_id, line.tier_id,
                      least(line.additional_slots, a.slot_limit) AS slots
               FROM addon_orders o
               JOIN subscriptions s ON s.subscription_id = o.subscription_id
               CROSS JOIN LATERAL jsonb_to_recordset(o.lines) AS line (tier_id integer,
               additional_slots integer)
               JOIN subscription_tier_allocations a ON a.subscription_id = o.subscription_id
               AND a.tier_id = line.tier_id
               WHERE o.parent_subscription_id = $1 AND o.status = 'paid' AND s.status = ANY($2)
               AND s.stripe_subscription_id IS NULL ORDER BY o.created_at DESC, o.order_id";
    let rows = query(db, sql, &[&parent, &LIVE.as_slice()]).await?;
    rows.iter()
        .map(|row| {
            let addon = row.try_get("subscription_id")?;
            Ok(OrderedSlots { addon, tier: row.get("tier_id"), slots: row.get("slots") })
        })
        .collect()
}

/// Whether any slot of a family renews.
pub(crate) async fn renews_slots(db: &impl Executor, parent: &SubscriptionId) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM addon_orders o JOIN subscriptions s
               ON s.subscription_id = o.subscription_id
                              WHERE o.parent_subscription_id = $1 AND o.status = 'paid'
                              AND s.status = ANY($2) AND s.stripe_subscription_id IS NULL)";
    Ok(query_one(db, sql, &[&parent, &LIVE.as_slice()]).await?.get(0))
}
