//! The plan catalogue: what a plan includes, and which plan a price or a name belongs to. Nothing
//! about plans is hard-coded.
//!
//! A change here does not change existing subscriptions: they get it by a plan change or a sync
//! (docs/catalogue.md).

pub mod model;
pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::json;

use self::model::{NewPlan, Plan, PlanUpdate, TierDefault, TierDefaults, not_found};
use crate::base::caller::Person;
use crate::base::error::{Error, Result};
use crate::base::fields::List;
use crate::base::ids::PlanId;
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::Db;
use crate::domain::audit::model::AuditEvent;
use crate::domain::idempotency::model::Key;
use crate::domain::prices::model::{Interval, PriceOf};
use crate::domain::{audit, idempotency, outbox};

/// A page of all plans, also retired ones, in the order of the catalogue.
///
/// # Errors
/// `Database`.
pub async fn list(db: &Db, page: &Page<(i32, PlanId)>) -> Result<Slice<Plan>> {
    let plans = store::list(&db.connection().await?, page).await?;
    Ok(page.cut(plans, |plan| (plan.sort_order, plan.plan_id.clone())))
}

/// One plan.
///
/// # Errors
/// `plan_not_found`.
pub async fn get(db: &Db, id: &PlanId) -> Result<Plan> {
    store::find(&db.connection().await?, id).await?.ok_or_else(not_found)
}

/// Adds a plan, with its Stripe prices.
///
/// # Errors
/// `Conflict`: `plan_exists`, `price_taken`; those of the idempotency key.
pub async fn create(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    new: NewPlan,
    now: Timestamp,
) -> Result<Plan> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    if let Some(plan) = idempotency::earlier(&tx, key, now).await? {
        return Ok(plan);
    }
    let plan = Plan::from_new(new, now);
    if !store::insert(&tx, &plan).await? {
        return Err(Error::conflict(
            "plan_exists",
            format!("Plan '{}' already exists", plan.plan_id),
        ));
    }
    assign_prices(&tx, &plan, now).await?;
    audit::record_catalogue(&tx, AuditEvent::PlanCreated, by, None, json!(plan), now).await?;
    idempotency::keep(&tx, key, &plan, now).await?;
    tx.commit().await?;
    Ok(plan)
}

/// Applies the update. If every value is already so, nothing changes, not even the version.
///
/// # Errors
/// `plan_not_found`, `version_changed`, `no_fields`, `price_taken`.
pub async fn update(
    db: &Db,
    by: &Person,
    id: &PlanId,
    if_match: &IfMatch,
    update: PlanUpdate,
    now: Timestamp,
) -> Result<Plan> {
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let before = store::lock(&tx, id).await?.ok_or_else(not_found)?;
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut plan = update.applied_to(before.clone());
    if plan == before {
        return Ok(plan);
    }
    (plan.version, plan.updated_at) = (before.version + 1, now);
    store::save(&tx, &plan).await?;
    assign_prices(&tx, &plan, now).await?;
    audit::record_catalogue(
        &tx,
        AuditEvent::PlanUpdated,
        by,
        Some(json!(before)),
        json!(plan),
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(plan)
}

async fn assign_prices(tx: &Transaction<'_>, plan: &Plan, now: Timestamp) -> Result<()> {
    let of = PriceOf::Plan(plan.plan_id.clone());
    outbox::map_price(tx, &of, Interval::Month, plan.stripe_price_id.as_ref(), now).await?;
    outbox::map_price(tx, &of, Interval::Year, plan.stripe_annual_price_id.as_ref(), now).await
}

/// How many slots of which tier a plan includes.
///
/// # Errors
/// `plan_not_found`.
pub async fn tier_defaults(db: &Db, id: &PlanId) -> Result<TierDefaults> {
    let db = db.connection().await?;
    store::tier_defaults(&db, id).await?.ok_or_else(not_found)
}

/// Replaces all of a plan's tier defaults. They are part of the plan's version.
///
/// # Errors
/// `plan_not_found`, `version_changed`, `tier_not_found`; `Invalid` if a tier is named twice.
pub async fn set_tier_defaults(
    db: &Db,
    by: &Person,
    id: &PlanId,
    if_match: &IfMatch,
    List(wanted): List<TierDefault, 100>,
    now: Timestamp,
) -> Result<TierDefaults> {
    model::no_tier_twice(&wanted)?;
    let mut db = db.connection().await?;
    let tx = db.transaction().await?;
    let plan = store::lock(&tx, id).await?.ok_or_else(not_found)?;
    if_match.check(plan.version)?;
    if let Some(unknown) = store::first_unknown_tier(&tx, &wanted).await? {
        return Err(Error::not_found("tier_not_found", format!("Device tier {unknown} not found")));
    }
    let before = store::tier_defaults(&tx, id).await?.ok_or_else(not_found)?;
    if before.are(&wanted) {
        return Ok(before);
    }
    store::replace_tier_defaults(&tx, id, &wanted).await?;
    store::save(&tx, &Plan { version: plan.version + 1, updated_at: now, ..plan }).await?;
    let after = store::tier_defaults(&tx, id).await?.ok_or_else(not_found)?;
    audit::record_catalogue(
        &tx,
        AuditEvent::PlanTierDefaultsSet,
        by,
        Some(json!(before)),
        json!(after),
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(after)
}
