//! What an operator does with device tiers.

use jiff::Timestamp;
use serde_json::json;

use super::model::{NewTier, Tier, TierUpdate, not_found};
use super::store;
use crate::base::caller::Person;
use crate::base::error::{Error, Result};
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::AuditEvent;
use crate::domain::idempotency::model::Key;
use crate::domain::prices::model::PriceOf;
use crate::domain::{audit, idempotency, outbox, prices};

/// A page of all tiers, also retired ones, in their order.
///
/// # Errors
/// `Database`.
pub async fn list(db: &Db, page: &Page<(i32, i32)>) -> Result<Slice<Tier>> {
    let tiers = store::list(&db.connection().await?, page, false).await?;
    Ok(page.cut(tiers, |tier| (tier.sort_order, tier.tier_id)))
}

/// One tier.
///
/// # Errors
/// `tier_not_found`.
pub async fn get(db: &Db, id: i32) -> Result<Tier> {
    store::find(&db.connection().await?, id).await?.ok_or_else(not_found)
}

/// Adds a tier, with the Stripe prices of its slots.
///
/// # Errors
/// `Conflict`: `tier_exists`, `price_taken`, `price_currency`; `Invalid`; those of the idempotency
/// key.
pub async fn create(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    new: NewTier,
    now: Timestamp,
) -> Result<Tier> {
    let tx = db.begin().await?;
    if let Some(tier) = idempotency::earlier(&tx, key, now).await? {
        return Ok(tier);
    }
    let mut tier = Tier::from_new(new, prices::store::default_currency(&tx).await?, now)?;
    let taken =
        || Error::conflict("tier_exists", format!("Tier name '{}' already exists", tier.name));
    let id = store::insert(&tx, &tier).await?.ok_or_else(taken)?;
    tier.tier_id = id;
    assign_prices(&tx, &tier, now).await?;
    audit::record_catalogue(&tx, AuditEvent::DeviceTierCreated, by, None, json!(tier), now).await?;
    idempotency::keep(&tx, key, &tier, now).await?;
    tx.commit().await?;
    Ok(tier)
}

/// Applies the update. If every value is already so, nothing changes, not even the version.
///
/// # Errors
/// `tier_not_found`, `version_changed`, `no_fields`, `price_taken`, `price_currency`; `Invalid`.
pub async fn update(
    db: &Db,
    by: &Person,
    id: i32,
    if_match: &IfMatch,
    update: TierUpdate,
    now: Timestamp,
) -> Result<Tier> {
    let tx = db.begin().await?;
    let before = store::lock(&tx, id).await?.ok_or_else(not_found)?;
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut tier = update.applied_to(before.clone())?;
    if tier == before {
        return Ok(tier);
    }
    (tier.version, tier.updated_at) = (before.version + 1, now);
    store::save(&tx, &tier).await?;
    assign_prices(&tx, &tier, now).await?;
    audit::record_catalogue(
        &tx,
        AuditEvent::DeviceTierUpdated,
        by,
        Some(json!(before)),
        json!(tier),
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(tier)
}

async fn assign_prices(tx: &Transaction, tier: &Tier, now: Timestamp) -> Result<()> {
    let of = PriceOf::Tier(tier.tier_id);
    outbox::map_prices(tx, &of, (&tier.currency, &tier.prices), false, now).await?;
    Ok(())
}
