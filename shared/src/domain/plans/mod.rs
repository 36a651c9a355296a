//! The plan catalogue: what a plan includes, and which plan a price or a name belongs to. Nothing
//! about plans is hard-coded.
//!
//! A change here does not change existing subscriptions: they get it by a plan change or a sync
//! (docs/catalogue.md).

pub mod model;
pub(crate) mod store;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use self::model::{NewPlan, Plan, PlanUpdate, TierDefault, TierDefaults, not_found};
use crate::base::caller::Person;
use crate::base::error::{Error, Result};
use crate::base::fields::List;
use crate::base::ids::{PlanId, StripePriceId};
use crate::base::paging::{Page, Slice};
use crate::base::version::IfMatch;
use crate::db::{Db, Transaction};
use crate::domain::audit::model::AuditEvent;
use crate::domain::idempotency::model::Key;
use crate::domain::prices::model::{Mapping, PriceOf};
use crate::domain::{audit, idempotency, outbox, prices};

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
/// `Conflict`: `plan_exists`, `price_taken`, `price_currency`; those of the idempotency key; `Invalid`
/// for a limit that is a feature in another plan, or the other way round.
pub async fn create(
    db: &Db,
    by: &Person,
    key: Option<&Key>,
    new: NewPlan,
    now: Timestamp,
) -> Result<Plan> {
    let tx = db.begin().await?;
    if let Some(plan) = idempotency::earlier(&tx, key, now).await? {
        return Ok(plan);
    }
    let plan = Plan::from_new(new, prices::store::default_currency(&tx).await?, now)?;
    if !store::insert(&tx, &plan).await? {
        return Err(Error::conflict(
            "plan_exists",
            format!("Plan '{}' already exists", plan.plan_id),
        ));
    }
    check_limits(&tx, &plan).await?;
    assign_prices(&tx, &plan, false, now).await?;
    audit::record_catalogue(&tx, AuditEvent::PlanCreated, by, None, json!(plan), now).await?;
    idempotency::keep(&tx, key, &plan, now).await?;
    tx.commit().await?;
    Ok(plan)
}

/// Applies the update. If every value is already so, nothing changes, not even the version.
///
/// # Errors
/// `plan_not_found`, `version_changed`, `no_fields`, `price_taken`, `price_currency`; `Invalid`
/// as `create`.
pub async fn update(
    db: &Db,
    by: &Person,
    id: &PlanId,
    if_match: &IfMatch,
    update: PlanUpdate,
    now: Timestamp,
) -> Result<Plan> {
    let tx = db.begin().await?;
    let wanted = update.moved_prices();
    let owners = lock_with_owners(&tx, id, &wanted).await?;
    let before = owners.get(id).cloned().ok_or_else(not_found)?;
    if_match.check(before.version)?;
    if update.is_empty() {
        return Err(Error::malformed("no_fields", "No fields to update"));
    }
    let mut plan = update.applied_to(before.clone())?;
    if plan == before {
        return Ok(plan);
    }
    if plan.limits != before.limits {
        check_limits(&tx, &plan).await?;
    }
    (plan.version, plan.updated_at) = (before.version + 1, now);
    store::save(&tx, &plan).await?;
    let is_priced_anew = (&plan.prices, &plan.currency) != (&before.prices, &before.currency);
    let taken = if is_priced_anew || !wanted.is_empty() {
        assign_prices(&tx, &plan, !wanted.is_empty(), now).await?
    } else {
        Vec::new()
    };
    audit::record_catalogue(
        &tx,
        AuditEvent::PlanUpdated,
        by,
        Some(json!(before)),
        json!(plan),
        now,
    )
    .await?;
    for mapping in &taken {
        record_move(&tx, by, &plan, mapping, &owners, now).await?;
    }
    tx.commit().await?;
    Ok(plan)
}

/// A name means the same kind of limit in every plan: else what a company with two plans may have
/// would be a guess.
async fn check_limits(tx: &Transaction, plan: &Plan) -> Result<()> {
    if plan.limits.is_empty() {
        return Ok(());
    }
    plan.check_kinds(&store::lock_limits_of_others(tx, &plan.plan_id).await?)
}

/// Locks a plan and those that have these prices, in one order: two updates that take each other's
/// prices wait for each other.
async fn lock_with_owners(
    tx: &Transaction,
    id: &PlanId,
    prices: &[StripePriceId],
) -> Result<BTreeMap<PlanId, Plan>> {
    let mut ids = BTreeSet::from([id.clone()]);
    if !prices.is_empty() {
        let owners = prices::store::find(tx, prices).await?;
        ids.extend(owners.into_iter().filter_map(|(_, of)| match of {
            PriceOf::Plan(plan) => Some(plan),
            PriceOf::Tier(_) => None,
        }));
    }
    let mut locked = BTreeMap::new();
    for id in ids {
        if let Some(plan) = store::lock(tx, &id).await? {
            locked.insert(id, plan);
        }
    }
    Ok(locked)
}

/// Maps the plan's prices, and returns what those stood for that it took from elsewhere.
async fn assign_prices(
    tx: &Transaction,
    plan: &Plan,
    moves: bool,
    now: Timestamp,
) -> Result<Vec<Mapping>> {
    let of = PriceOf::Plan(plan.plan_id.clone());
    outbox::map_prices(tx, &of, (&plan.currency, &plan.prices), moves, now).await
}

/// Audits that a price was taken from another plan, which is at its next version if it sold by it.
async fn record_move(
    tx: &Transaction,
    by: &Person,
    to: &Plan,
    before: &Mapping,
    owners: &BTreeMap<PlanId, Plan>,
    now: Timestamp,
) -> Result<()> {
    let PriceOf::Plan(from) = &before.of else { return Ok(()) };
    let state = |plan: &PlanId| json!({"stripe_price_id": before.price, "plan_id": plan});
    let previous = json!({"stripe_price_id": before.price, "plan_id": from,
        "interval": before.interval, "is_current": before.is_current});
    let moved = AuditEvent::PriceMoved;
    audit::record_catalogue(tx, moved, by, Some(previous), state(&to.plan_id), now).await?;
    let Some(old) = owners.get(from).filter(|_| before.is_current && *from != to.plan_id) else {
        return Ok(());
    };
    store::save(tx, &Plan { version: old.version + 1, updated_at: now, ..old.clone() }).await?;
    let new = store::find(tx, from).await?.ok_or_else(not_found)?;
    let updated = AuditEvent::PlanUpdated;
    audit::record_catalogue(tx, updated, by, Some(json!(old)), json!(new), now).await
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
    let tx = db.begin().await?;
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
