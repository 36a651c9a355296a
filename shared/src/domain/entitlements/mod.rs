//! Entitlements: what a tenant may have and has, computed from its live families at each question
//! (docs/billing.md, "Entitlements").

pub mod model;

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;

use self::model::{Allowed, Check, Entitlements, Use};
use crate::base::ids::{PlanId, TenantId};
use crate::base::paging::Page;
use crate::db::Db;
use crate::domain::families::family::Family;
use crate::domain::tenants::session::begin;
use crate::domain::tiers::model::Tier;
use crate::domain::{families, plans, tiers};
use crate::{Error, Result};

/// What a tenant may have and has.
///
/// # Errors
/// `Database`.
pub async fn get(db: &Db, tenant: &TenantId) -> Result<Entitlements> {
    let mut db = db.connection().await?;
    let tx = begin(&mut db, tenant).await?;
    let (families, tiers) = read(&tx, tenant).await?;
    let entitlements = compute(&tx, tenant, &families, &tiers).await?;
    tx.commit().await?;
    Ok(entitlements)
}

/// The tenant's families and every tier, in one round trip.
async fn read(tx: &Transaction<'_>, tenant: &TenantId) -> Result<(Vec<Family>, Vec<Tier>)> {
    let whole = Page::whole();
    futures::try_join!(families::locks::read_all(tx, tenant), tiers::store::list(tx, &whole, false))
}

async fn compute(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    families: &[Family],
    tiers: &[Tier],
) -> Result<Entitlements> {
    // What the release before bought has no copy yet.
    let uncopied: Vec<&PlanId> = families
        .iter()
        .flat_map(Family::members)
        .filter(|member| member.limits.is_none())
        .filter_map(|member| member.plan_id.as_ref())
        .collect();
    let limits: BTreeMap<PlanId, BTreeMap<String, i64>> = if uncopied.is_empty() {
        BTreeMap::new()
    } else {
        plans::store::limits(tx, uncopied.into_iter()).await?
    };
    let families = families.iter().map(|family| model::of_family(family, tiers, &limits)).collect();
    Ok(model::of_all(tenant.clone(), families))
}

/// Whether so many more of something are allowed.
///
/// # Errors
/// `Exceeded` (`limit_reached`) with the numbers; `subscription_not_found`; `Invalid` for what no
/// plan limits, and where the use of something counted elsewhere is missing.
pub async fn check(db: &Db, tenant: &TenantId, asked: Check) -> Result<Allowed> {
    let mut db = db.connection().await?;
    let tx = begin(&mut db, tenant).await?;
    let (mut families, tiers) = read(&tx, tenant).await?;
    if let Some(id) = &asked.subscription_id {
        families.retain(|family| family.member(id).is_some());
        if families.is_empty() {
            return Err(families::not_found());
        }
    }
    let all = compute(&tx, tenant, &families, &tiers).await?;
    let resource = asked.resource.as_str();
    let slots = match resource.strip_prefix("tier:") {
        _ if resource == "devices" => all.devices,
        Some(name) => match all.tiers.iter().find(|tier| tier.name == name) {
            Some(tier) => tier.slots,
            None if tiers::store::exists(&tx, name).await? => Use::default(),
            None => return Err(Error::invalid("resource", "is no device tier")),
        },
        None => {
            let unknown = || Error::invalid("resource", "is nothing that a plan limits");
            let limit = match all.limits.get(resource) {
                Some(limit) => *limit,
                None if plans::store::any_limits(&tx, resource).await? => 0,
                None => return Err(unknown()),
            };
            let used = asked.current_usage.ok_or_else(|| {
                Error::invalid(
                    "current_usage",
                    format!("is required: {resource} are not counted here"),
                )
            })?;
            Use::of(used.get(), limit)
        }
    };
    tx.commit().await?;
    let requested = asked.requested.get();
    if slots.used + requested > slots.limit {
        let detail = format!(
            "{requested} more of {resource} would exceed what was paid for. Used: {}/{}. Upgrade \
             your plan.",
            slots.used, slots.limit
        );
        return Err(Error::exceeded("limit_reached", detail, slots.used, slots.limit));
    }
    Ok(Allowed { allowed: true, resource: resource.to_owned(), slots })
}
