//! What a family has and uses.

use super::subscription::{Status, Subscription};
use crate::base::ids::SubscriptionId;

/// A locked family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The MAIN, or the only one.
    pub root: Subscription,
    /// Its ADDONs, ended ones too.
    pub addons: Vec<Subscription>,
    /// Of all of them.
    pub allocations: Vec<Allocation>,
}

/// Slots of a tier on one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub subscription: SubscriptionId,
    /// Of which tier.
    pub tier: i32,
    /// Slots that it brings.
    pub slot_limit: i32,
    /// On the root's row: slots that the family uses. On others: 0.
    pub slots_used: i32,
    /// Whether an operator said so, against the devices.
    pub counted_by_hand: bool,
    /// Of its limit.
    pub version: i64,
}

impl Family {
    /// The member of this id.
    #[must_use]
    pub fn member(&self, id: &SubscriptionId) -> Option<&Subscription> {
        self.members().find(|member| member.subscription_id == *id)
    }

    /// The root first.
    pub fn members(&self) -> impl Iterator<Item = &Subscription> {
        std::iter::once(&self.root).chain(&self.addons)
    }

    /// The worse of its own and the root's: computed, never stored.
    #[must_use]
    pub fn effective_status(&self, member: &Subscription) -> Status {
        member.status.worse(self.root.status)
    }

    /// A member counts while it and the root are live.
    #[must_use]
    pub fn counts(&self, id: &SubscriptionId) -> bool {
        self.member(id).is_some_and(|member| self.effective_status(member).is_live())
    }

    /// How many devices the family may have.
    #[must_use]
    pub fn device_capacity(&self) -> i64 {
        self.members()
            .filter(|member| self.counts(&member.subscription_id))
            .map(|member| i64::from(member.device_limit))
            .sum()
    }

    /// How many it has, those on members that ended included.
    #[must_use]
    pub fn devices(&self) -> i64 {
        self.members().map(|member| i64::from(member.active_device_count)).sum()
    }

    /// Whether one more device fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.devices() < self.device_capacity()
    }

    /// How many slots of a tier the family may use.
    #[must_use]
    pub fn effective_limit(&self, tier: i32) -> i64 {
        self.brought(tier, |_| true)
    }

    /// How many of them its ADDONs bring.
    #[must_use]
    pub fn addon_slots(&self, tier: i32) -> i64 {
        self.brought(tier, |id| *id != self.root.subscription_id)
    }

    fn brought(&self, tier: i32, by: impl Fn(&SubscriptionId) -> bool) -> i64 {
        let counting = self.allocations.iter().filter(|held| {
            held.tier == tier && by(&held.subscription) && self.counts(&held.subscription)
        });
        counting.map(|held| i64::from(held.slot_limit)).sum()
    }

    /// The ADDON of what was bought at Stripe beside the root's plan.
    #[must_use]
    pub fn of_stripe_items(&self) -> Option<&Subscription> {
        self.addons.iter().find(|addon| addon.is_of_stripe_items())
    }

    /// How many slots of a tier that one has.
    #[must_use]
    pub fn slots_of_stripe_items(&self, tier: i32) -> i32 {
        self.of_stripe_items()
            .filter(|addon| addon.status.is_live())
            .and_then(|addon| self.allocation(&addon.subscription_id, tier))
            .map_or(0, |held| held.slot_limit)
    }

    /// How many slots of a tier it uses.
    #[must_use]
    pub fn slots_used(&self, tier: i32) -> i64 {
        self.allocation(&self.root.subscription_id, tier)
            .map_or(0, |held| i64::from(held.slots_used))
    }

    /// Counts slots that one decision took or freed, for the next decision under the same lock.
    pub fn count(&mut self, tier: i32, slots: i32) {
        let root = self.root.subscription_id.clone();
        if let Some(held) =
            self.allocations.iter_mut().find(|held| held.subscription == root && held.tier == tier)
        {
            held.slots_used = (held.slots_used + slots).max(0);
        }
    }

    /// Whether one more device can have the tier.
    #[must_use]
    pub fn has_free_slot(&self, tier: i32) -> bool {
        self.slots_used(tier) < self.effective_limit(tier)
    }

    /// A member's allocation of a tier.
    #[must_use]
    pub fn allocation(&self, id: &SubscriptionId, tier: i32) -> Option<&Allocation> {
        self.allocations.iter().find(|held| held.subscription == *id && held.tier == tier)
    }
}
