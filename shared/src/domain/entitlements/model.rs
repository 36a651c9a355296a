//! Limits and use, of one family and of all.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::error::Refusal;
use crate::base::fields::{Count, Int, Limits, NamedLimit, Text};
use crate::base::ids::{PlanId, SubscriptionId, TenantId};
use crate::domain::families::family::Family;
use crate::domain::families::subscription::{Status, SubscriptionType};
use crate::domain::tiers::model::Tier;
use crate::domain::usage::model::Used;
use crate::{Error, Result, request};

/// How much of something is allowed, and how much is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Use {
    /// How much is allowed.
    pub limit: i64,
    /// How much is used.
    pub used: i64,
    /// What is left; never below 0.
    pub remaining: i64,
}

impl Use {
    /// A use of these numbers.
    #[must_use]
    pub fn of(used: i64, limit: i64) -> Self {
        Self { limit, used, remaining: (limit - used).max(0) }
    }

    fn and(self, other: Self) -> Self {
        Self::of(self.used + other.used, self.limit + other.limit)
    }
}

/// The slots of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TierUse {
    /// The tier's number.
    pub tier_id: i32,
    /// Its name for programs.
    pub name: String,
    /// Its name for people.
    pub display_name: String,
    /// The slots.
    #[serde(flatten)]
    pub slots: Use,
    /// Whether more is used than may be: nothing is taken away, nothing new is given.
    pub over_limit: bool,
}

/// What a family of subscriptions gives: nothing while it is not live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FamilyEntitlements {
    /// The root of the family.
    pub subscription_id: SubscriptionId,
    /// The root's type.
    pub subscription_type: SubscriptionType,
    /// The root's status.
    pub status: Status,
    /// The root's plan.
    pub plan_id: Option<PlanId>,
    /// How many of it are paid for.
    pub quantity: i32,
    /// Whether it gives access.
    pub live: bool,
    /// The subscriptions that count.
    pub counting: Vec<SubscriptionId>,
    /// Places for devices.
    pub devices: Use,
    /// Slots by tier.
    pub tiers: Vec<TierUse>,
    /// What else its plans limit, by name: a number, `null` for any number; of a feature whether
    /// it is there.
    pub limits: BTreeMap<String, NamedLimit>,
}

/// What a tenant has and uses; the totals are of live families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "as of a family")]
pub struct Entitlements {
    pub tenant_id: TenantId,
    pub families: Vec<FamilyEntitlements>,
    pub devices: Use,
    pub tiers: Vec<TierUse>,
    pub limits: BTreeMap<String, NamedLimit>,
    /// How many there are of what is limited by name, as it was reported last. What nobody
    /// reported is absent.
    pub usage: BTreeMap<String, Used>,
}

request! {
    /// The tenant, which another service must name.
    pub struct ForTenant {
        tenant_id: Option<TenantId> = None,
    }

    /// Whether so many more are allowed.
    pub struct Check {
        /// `devices`, `tier:<name>`, or what a plan limits by name.
        resource: Text<1, 60>,
        requested: Int<1, 1_000_000_000> = Int::ONE,
        /// How many there are of what is limited by name; absent: as it was reported last.
        current_usage: Option<Count> = None,
        /// Only this one's family.
        subscription_id: Option<SubscriptionId> = None,
        /// The tenant, which another service must name.
        tenant_id: Option<TenantId> = None,
    }
}

/// An answer that so many more are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Allowed {
    /// Always `true`: a refusal is an error.
    pub allowed: bool,
    /// The resource of the request.
    pub resource: String,
    /// How much may be had: a number, `null` for any number; of a feature whether it is there.
    pub limit: NamedLimit,
    /// How much is used, without the requested amount; `null` of a feature, and where nobody has
    /// said it of what is not limited.
    #[schema(required = true)]
    pub used: Option<i64>,
    /// What is left of a number; never below 0.
    #[schema(required = true)]
    pub remaining: Option<i64>,
}

/// Decides whether so many more are allowed. `used` is `None` where nobody has said it.
///
/// # Errors
/// `Exceeded` (`limit_reached`) with the numbers; `feature_not_in_plan`; `Invalid` where the answer
/// depends on a use that nobody has said.
pub fn decide(
    resource: &str,
    limit: NamedLimit,
    used: Option<i64>,
    requested: i64,
) -> Result<Allowed> {
    let allowed = |used, remaining| {
        Ok(Allowed { allowed: true, resource: resource.to_owned(), limit, used, remaining })
    };
    let number = match limit {
        NamedLimit::Number(number) => number,
        NamedLimit::Unlimited => return allowed(used, None),
        NamedLimit::Feature(true) => return allowed(None, None),
        NamedLimit::Feature(false) => {
            return Err(Error::refusal(
                Refusal::PaymentRequired,
                "feature_not_in_plan",
                format!("{resource} is not part of what was paid for. Upgrade your plan."),
            ));
        }
    };
    // Where nothing may be had, no use makes a difference.
    let used = used.or((number == 0).then_some(0)).ok_or_else(|| {
        let detail = format!("is required: nobody has reported how many {resource} there are");
        Error::invalid("current_usage", detail)
    })?;
    let of = Use::of(used, number);
    if of.used.saturating_add(requested) > of.limit {
        let detail = format!(
            "{requested} more of {resource} would exceed what was paid for. Used: {}/{}. Upgrade \
             your plan.",
            of.used, of.limit
        );
        return Err(Error::exceeded("limit_reached", detail, of.used, of.limit));
    }
    allowed(Some(of.used), Some(of.remaining))
}

/// What a family gives. `limits` are those of plans whose limits a member has no copy of.
#[must_use]
pub fn of_family(
    family: &Family,
    tiers: &[Tier],
    limits: &BTreeMap<PlanId, Limits>,
) -> FamilyEntitlements {
    let root = &family.root;
    let counting: Vec<_> =
        family.members().filter(|member| family.counts(&member.subscription_id)).collect();
    let mut named = Limits::new();
    for member in &counting {
        let as_the_plan_says = || limits.get(member.plan_id.as_ref()?);
        let (limits, times) = match &member.limits {
            Some(limits) => (Some(limits), 1),
            None => (as_the_plan_says(), member.quantity),
        };
        for (name, limit) in limits.into_iter().flatten() {
            add(&mut named, name, limit.times(times));
        }
    }
    let held =
        tiers.iter().filter(|tier| family.allocations.iter().any(|held| held.tier == tier.tier_id));
    let tiers = held.map(|tier| {
        let slots = Use::of(family.slots_used(tier.tier_id), family.effective_limit(tier.tier_id));
        TierUse {
            tier_id: tier.tier_id,
            name: tier.name.clone(),
            display_name: tier.display_name.clone(),
            over_limit: slots.used > slots.limit,
            slots,
        }
    });
    FamilyEntitlements {
        subscription_id: root.subscription_id.clone(),
        subscription_type: root.subscription_type,
        status: root.status,
        plan_id: root.plan_id.clone(),
        quantity: root.quantity,
        live: root.status.is_live(),
        counting: counting.iter().map(|member| member.subscription_id.clone()).collect(),
        devices: Use::of(family.devices(), family.device_capacity()),
        tiers: tiers.collect(),
        limits: named,
    }
}

fn add(limits: &mut Limits, name: &str, limit: NamedLimit) {
    limits.entry(name.to_owned()).and_modify(|sum| *sum = sum.and(limit)).or_insert(limit);
}

/// All families of a tenant together, with its use of what they limit by name.
#[must_use]
pub fn of_all(
    tenant_id: TenantId,
    families: Vec<FamilyEntitlements>,
    usage: BTreeMap<String, Used>,
) -> Entitlements {
    let (mut devices, mut tiers, mut limits) =
        (Use::default(), BTreeMap::<i32, TierUse>::new(), Limits::new());
    for family in families.iter().filter(|family| family.live) {
        devices = devices.and(family.devices);
        for tier in &family.tiers {
            let total = tiers
                .entry(tier.tier_id)
                .or_insert_with(|| TierUse { slots: Use::default(), ..tier.clone() });
            total.slots = total.slots.and(tier.slots);
            total.over_limit = total.slots.used > total.slots.limit;
        }
        for (name, limit) in &family.limits {
            add(&mut limits, name, *limit);
        }
    }
    let tiers = tiers.into_values().collect();
    Entitlements { tenant_id, families, devices, tiers, limits, usage }
}
