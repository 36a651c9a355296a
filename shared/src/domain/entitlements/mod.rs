//! Entitlements: what a tenant may have and has, computed from its live families at each question
//! (docs/billing.md, "Entitlements").

pub mod model;

use std::collections::BTreeMap;

use self::model::{Allowed, Check, Entitlements, FamilyEntitlements, Use};
use crate::base::fields::{Count, Limits, NamedLimit};
use crate::base::ids::{PlanId, TenantId};
use crate::base::paging::Page;
use crate::db::Db;
use crate::domain::families::family::Family;
use crate::domain::tenants::session::begin;
use crate::domain::tiers::model::Tier;
use crate::domain::usage::model::Used;
use crate::domain::{families, plans, tiers, usage};
use crate::{Error, Result};

/// What a tenant may have and has.
///
/// # Errors
/// `Database`.
pub async fn get(db: &Db, tenant: &TenantId) -> Result<Entitlements> {
    let (families, tiers, usage) = read(db, tenant, true).await?;
    let families = compute(db, &families, &tiers).await?;
    Ok(model::of_all(tenant.clone(), families, usage))
}

/// The tenant's families, every tier, and what was reported of its use if that is needed, in one
/// round trip.
async fn read(
    db: &Db,
    tenant: &TenantId,
    with_usage: bool,
) -> Result<(Vec<Family>, Vec<Tier>, BTreeMap<String, Used>)> {
    let tx = begin(db, tenant).await?;
    let whole = Page::whole();
    let usage = async {
        if with_usage { usage::store::read(&tx, tenant).await } else { Ok(BTreeMap::new()) }
    };
    let tiers = tiers::store::list(&tx, &whole, false);
    let families = families::locks::read_all(&tx, tenant);
    let (families, tiers, usage, ()) = futures::try_join!(families, tiers, usage, tx.close())?;
    Ok((families, tiers, usage))
}

async fn compute(db: &Db, families: &[Family], tiers: &[Tier]) -> Result<Vec<FamilyEntitlements>> {
    // What the release before bought has no copy yet.
    let uncopied: Vec<&PlanId> = families
        .iter()
        .flat_map(Family::members)
        .filter(|member| member.limits.is_none())
        .filter_map(|member| member.plan_id.as_ref())
        .collect();
    let limits: BTreeMap<PlanId, Limits> = if uncopied.is_empty() {
        BTreeMap::new()
    } else {
        plans::store::limits(&db.connection().await?, uncopied.into_iter()).await?
    };
    Ok(families.iter().map(|family| model::of_family(family, tiers, &limits)).collect())
}

/// Whether so many more of something are allowed.
///
/// # Errors
/// `Exceeded` (`limit_reached`) with the numbers; `feature_not_in_plan`; `subscription_not_found`;
/// `Invalid` for what no plan limits, and where the use of something counted elsewhere is missing.
pub async fn check(db: &Db, tenant: &TenantId, asked: Check) -> Result<Allowed> {
    let resource = asked.resource.as_str();
    let tier = resource.strip_prefix("tier:");
    // What was reported is the whole company's, and says nothing of one family's part.
    let from_report = tier.is_none()
        && resource != "devices"
        && asked.current_usage.is_none()
        && asked.subscription_id.is_none();
    let (mut families, tiers, reported) = read(db, tenant, from_report).await?;
    if let Some(id) = &asked.subscription_id {
        families.retain(|family| family.member(id).is_some());
        if families.is_empty() {
            return Err(families::not_found());
        }
    }
    let families = compute(db, &families, &tiers).await?;
    let all = model::of_all(tenant.clone(), families, reported);
    let counted = |slots: Use| (NamedLimit::Number(slots.limit), Some(slots.used));
    let (limit, used) = match tier {
        _ if resource == "devices" => counted(all.devices),
        Some(name) => match all.tiers.iter().find(|tier| tier.name == name) {
            Some(tier) => counted(tier.slots),
            None if tiers::store::exists(&db.connection().await?, name).await? => {
                counted(Use::default())
            }
            None => return Err(Error::invalid("resource", "is no device tier")),
        },
        None => {
            let limit = match all.limits.get(resource) {
                Some(limit) => *limit,
                None => plans::store::any_limit(&db.connection().await?, resource)
                    .await?
                    .ok_or_else(|| Error::invalid("resource", "is nothing that a plan limits"))?
                    .nothing(),
            };
            let reported = all.usage.get(resource).map(|known| known.used);
            (limit, asked.current_usage.map(Count::get).or(reported))
        }
    };
    model::decide(resource, limit, used, asked.requested.get())
}
