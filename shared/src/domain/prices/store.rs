//! `stripe_prices`.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::model::{Correction, Interval, Mapping, Price, PriceOf};
use crate::Result;
use crate::base::ids::{Currency, PlanId, StripePriceId};
use crate::db::{Executor, Transaction, query_keys, query_one, query_opt};

/// The advisory lock of the mapping. The number is arbitrary, but nothing else may use it.
const LOCK: i64 = 0x7075_6c73_6501;

/// Lets one transaction at a time change the mapping: two that swap prices would otherwise
/// deadlock.
pub(crate) async fn lock(tx: &Transaction) -> Result<()> {
    tx.write("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await
}

/// Lets no transaction change the mapping before this one ends: what it makes by a price that is
/// not mapped is there when the price is mapped.
pub(crate) async fn lock_shared(tx: &Transaction) -> Result<()> {
    tx.write("SELECT pg_advisory_xact_lock_shared($1)", &[&LOCK]).await
}

fn columns(of: &PriceOf) -> (Option<&str>, Option<i32>) {
    match of {
        PriceOf::Plan(plan) => (Some(plan.as_str()), None),
        PriceOf::Tier(tier) => (None, Some(*tier)),
    }
}

fn price_of(row: &Row) -> Result<PriceOf> {
    Ok(match row.get::<_, Option<i32>>("tier_id") {
        Some(tier) => PriceOf::Tier(tier),
        None => PriceOf::Plan(row.try_get("plan_id")?),
    })
}

/// Prices, and what they belong to.
pub(crate) type Known = Vec<(StripePriceId, PriceOf)>;

/// What these prices belong to; without those that are not mapped.
pub(crate) async fn find(tx: &Transaction, ids: &[StripePriceId]) -> Result<Known> {
    Ok(find_with_unread(tx, ids).await?.0)
}

/// The same, and those of them whose currency was not read from Stripe yet.
pub(crate) async fn find_with_unread(
    tx: &Transaction,
    ids: &[StripePriceId],
) -> Result<(Known, Vec<StripePriceId>)> {
    let ids: Vec<&str> = ids.iter().map(StripePriceId::as_str).collect();
    let sql = |given: &str| {
        format!(
            "SELECT stripe_price_id, plan_id, tier_id, is_currency_read FROM stripe_prices
             WHERE stripe_price_id {given}"
        )
    };
    let (mut known, mut unread) = (Vec::new(), Vec::new());
    for row in query_keys(tx, sql, &ids, &[]).await? {
        let id: StripePriceId = row.try_get("stripe_price_id")?;
        if !row.get::<_, bool>("is_currency_read") {
            unread.push(id.clone());
        }
        known.push((id, price_of(&row)?));
    }
    Ok((known, unread))
}

/// The currency of all that names none.
pub(crate) async fn default_currency(db: &impl Executor) -> Result<Currency> {
    Ok(query_one(db, "SELECT default_currency()", &[]).await?.try_get(0)?)
}

/// What Stripe says that a price is in, if it was read.
pub(crate) async fn read_currency(
    tx: &Transaction,
    price: &StripePriceId,
) -> Result<Option<Currency>> {
    let sql = "SELECT currency FROM stripe_prices WHERE stripe_price_id = $1 AND is_currency_read";
    query_opt(tx, sql, &[&price]).await?.map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Keeps what Stripe says that a price is in, once. `None` if that is what it was taken for. A
/// present price then sells in that currency, unless another one does; the cents that were shown
/// for it stay its own.
pub(crate) async fn save_read_currency(
    tx: &Transaction,
    price: &StripePriceId,
    currency: &Currency,
) -> Result<Option<Correction>> {
    let row = query_opt(
        tx,
        "WITH before AS (
             SELECT stripe_price_id AS id, coalesce(currency, default_currency()) AS taken_for,
                    is_current OR is_further AS is_sold,
                    coalesce(cents, (SELECT CASE p.interval WHEN 'month' THEN monthly_price_cents
                                            ELSE annual_price_cents END
                                     FROM subscription_plans s WHERE s.plan_id = p.plan_id),
                                    (SELECT CASE p.interval WHEN 'month'
                                            THEN addon_monthly_price_cents
                                            ELSE addon_annual_price_cents END
                                     FROM device_tiers t WHERE t.tier_id = p.tier_id)) AS cents,
                    EXISTS (SELECT FROM stripe_prices o WHERE o.stripe_price_id <> $1
                            AND o.plan_id IS NOT DISTINCT FROM p.plan_id
                            AND o.tier_id IS NOT DISTINCT FROM p.tier_id
                            AND o.interval = p.interval
                            AND CASE WHEN $2 = default_currency() THEN o.is_current
                                ELSE o.is_further AND o.currency = $2 END) AS is_taken
             FROM stripe_prices p WHERE stripe_price_id = $1 AND NOT is_currency_read FOR UPDATE)
         UPDATE stripe_prices p SET currency = $2, is_currency_read = true,
             is_current = is_sold AND NOT is_taken AND $2 = default_currency(),
             is_further = is_sold AND NOT is_taken AND $2 <> default_currency(),
             cents = CASE WHEN $2 = default_currency() THEN NULL ELSE before.cents END
         FROM before WHERE p.stripe_price_id = before.id AND NOT p.is_currency_read
         RETURNING plan_id, tier_id, taken_for, is_sold",
        &[&price, &currency],
    )
    .await?;
    let Some(row) = row else { return Ok(None) };
    let taken_for: Currency = row.try_get("taken_for")?;
    if taken_for == *currency {
        return Ok(None);
    }
    Ok(Some(Correction { of: price_of(&row)?, taken_for, is_sold: row.get("is_sold") }))
}

/// Makes the present price in the default currency a former one, unless it is this one.
pub(crate) async fn retire_others(
    tx: &Transaction,
    of: &PriceOf,
    interval: Interval,
    price: Option<&StripePriceId>,
) -> Result<()> {
    let (plan, tier) = columns(of);
    tx.write(
        "UPDATE stripe_prices SET is_current = false
         WHERE plan_id IS NOT DISTINCT FROM $1 AND tier_id IS NOT DISTINCT FROM $2 AND interval = $3
         AND is_current AND stripe_price_id IS DISTINCT FROM $4",
        &[&plan, &tier, &interval, &price],
    )
    .await
}

/// Makes the present prices in further currencies former ones, but these.
pub(crate) async fn retire_further(tx: &Transaction, of: &PriceOf, kept: &[&Price]) -> Result<()> {
    let (plan, tier) = columns(of);
    let texts = |text: fn(&Price) -> &str| kept.iter().map(|price| text(price)).collect::<Vec<_>>();
    let ids = texts(|price| price.stripe_price_id.as_ref().map_or("", StripePriceId::as_str));
    let intervals = texts(|price| price.interval.as_str());
    let currencies = texts(|price| price.currency.as_str());
    tx.write(
        "UPDATE stripe_prices p SET is_further = false
         WHERE plan_id IS NOT DISTINCT FROM $1 AND tier_id IS NOT DISTINCT FROM $2 AND is_further
         AND NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[], $5::text[])
                         AS kept (id, interval, currency) WHERE kept.id = p.stripe_price_id
                         AND kept.interval = p.interval AND kept.currency = p.currency)",
        &[&plan, &tier, &ids, &intervals, &currencies],
    )
    .await
}

/// The columns of a price of a further currency; those in the default currency have neither.
fn further(price: &Price, is_further: bool) -> (Option<&Currency>, Option<i64>) {
    if is_further { (Some(&price.currency), price.cents) } else { (None, None) }
}

/// Maps a price that is new or a former one of the same plan or tier. Returns whether it is new;
/// none if it is mapped to another one.
pub(crate) async fn make_current(
    tx: &Transaction,
    of: &PriceOf,
    (id, price, is_further): (&StripePriceId, &Price, bool),
    now: Timestamp,
) -> Result<Option<bool>> {
    let (plan, tier) = columns(of);
    let (currency, cents) = further(price, is_further);
    let row = query_opt(
        tx,
        "INSERT INTO stripe_prices (stripe_price_id, plan_id, tier_id, interval, created_at,
         is_current, is_further, currency, cents)
         VALUES ($1, $2, $3, $4, $5, NOT $6, $6, $7, $8)
             ON CONFLICT (stripe_price_id) DO UPDATE SET is_current = excluded.is_current,
             is_further = excluded.is_further, cents = excluded.cents,
             currency = CASE WHEN stripe_prices.is_currency_read THEN stripe_prices.currency
                        ELSE excluded.currency END
             WHERE stripe_prices.plan_id IS NOT DISTINCT FROM excluded.plan_id
             AND stripe_prices.tier_id IS NOT DISTINCT FROM excluded.tier_id
               AND stripe_prices.interval = excluded.interval
             RETURNING xmax = 0",
        &[&id, &plan, &tier, &price.interval, &now, &is_further, &currency, &cents],
    )
    .await?;
    Ok(row.map(|row| row.get(0)))
}

/// What the price stands for, if that is a plan: another one, or this one by an interval in which it
/// is sold no more.
pub(crate) async fn find_movable(
    tx: &Transaction,
    price: &StripePriceId,
    to: &PlanId,
) -> Result<Option<Mapping>> {
    let row = query_opt(
        tx,
        "SELECT plan_id, interval, is_current OR is_further AS is_current FROM stripe_prices
         WHERE stripe_price_id = $1 AND plan_id IS NOT NULL
         AND (plan_id <> $2 OR NOT (is_current OR is_further))",
        &[&price, &to],
    )
    .await?;
    row.map(|row| {
        Ok(Mapping {
            price: price.clone(),
            of: PriceOf::Plan(row.try_get("plan_id")?),
            interval: row.try_get("interval")?,
            is_current: row.get("is_current"),
        })
    })
    .transpose()
}

/// Has a mapped price stand for another plan or interval, as the present one.
pub(crate) async fn reassign(
    tx: &Transaction,
    to: &PlanId,
    (id, price, is_further): (&StripePriceId, &Price, bool),
) -> Result<()> {
    let (currency, cents) = further(price, is_further);
    tx.write("UPDATE stripe_prices SET plan_id = $2, interval = $3, is_current = NOT $4, is_further = $4,
         currency = CASE WHEN is_currency_read THEN currency ELSE $5 END, cents = $6
         WHERE stripe_price_id = $1",
        &[&id, &to, &price.interval, &is_further, &currency, &cents],
    ).await
}
