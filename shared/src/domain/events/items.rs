//! Slots that are items beside a MAIN's plan at Stripe: more than our orders brought are an ADDON
//! that follows Stripe, fewer end with the paid term (docs/events.md, "Slots at Stripe").

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::stripe_state;
use super::subscription::SubscriptionSync;
use crate::Result;
use crate::base::ids::StripeEventId;
use crate::db::Transaction;
use crate::domain::addons::store::OrderedSlots;
use crate::domain::allocations::model::SlotLimit;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::domain::families::family::Family;
use crate::domain::families::stripe_slots::{StripeSlots, TierFollowed, TierRead};
use crate::domain::families::subscription::{Status, Subscription, SubscriptionType};
use crate::domain::flags::model::FlagKind;
use crate::domain::{addons, allocations, audit, families};

/// As many devices as slots.
pub(super) fn devices(slots: &[SlotLimit]) -> i32 {
    slots.iter().fold(0, |sum: i32, slots| sum.saturating_add(slots.slot_limit))
}

/// Inserts the ADDON of what was bought at Stripe beside the plan of a root, whose family is
/// locked or not there yet.
pub(super) async fn insert_addon(
    tx: &Transaction,
    family: &Family,
    root: &Subscription,
    slots: &[SlotLimit],
    (actor, event): (Actor<'_>, Option<&StripeEventId>),
    now: Timestamp,
) -> Result<Subscription> {
    let id = families::rows::next_id(tx, now).await?;
    let new = Subscription {
        description: Some("Bought at Stripe beside the plan".to_owned()),
        parent_subscription_id: Some(root.subscription_id.clone()),
        device_limit: devices(slots),
        ..Subscription::new(
            id,
            root.tenant_id.clone(),
            SubscriptionType::Addon,
            root.term_of_addon((now, root.term_end)),
            "stripe",
            now,
        )
    };
    families::rows::insert(tx, &new).await?;
    allocations::set_slots(tx, family, &new.subscription_id, slots, now).await?;
    let entry = Entry {
        tenant: Some(&new.tenant_id),
        subscription: Some(&new.subscription_id),
        stripe_event: event,
        new_state: Some(json!(new)),
        details: Some(json!({"with_parent": root.subscription_id, "tier_slots": slots})),
        ..Entry::new(AuditEvent::SubscriptionCreated, actor, now)
    };
    audit::store::insert(tx, &entry).await?;
    Ok(new)
}

impl SubscriptionSync<'_> {
    /// Follows the slots among a MAIN's items. Returns its ADDONs that changed; none where nothing
    /// but what is noted with the MAIN did.
    pub(super) async fn follow_items(
        &self,
        at_stripe: &[SlotLimit],
        after: &mut Subscription,
    ) -> Result<Vec<Subscription>> {
        if after.subscription_type != SubscriptionType::Main
            || after.hold.is_some()
            || after.status == Status::Expired
            || (at_stripe.is_empty() && self.family.addons.is_empty())
        {
            return Ok(Vec::new());
        }
        let ordered = addons::store::ordered_slots(self.tx, &after.subscription_id).await?;
        let Some(link) = &mut after.stripe else { return Ok(Vec::new()) };
        let reads = self.reads(at_stripe, &ordered, link.slots.as_ref());
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        let ends = (self.before.term_end, after.term_end);
        let (slots, followed) = StripeSlots::follow(link.slots.as_ref(), &reads, ends);
        link.slots = Some(slots);
        self.tell_reduced(&followed).await?;
        let mut changed = self.end_ordered(&followed, &ordered).await?;
        changed.extend(self.follow_extra(&followed, after).await?);
        Ok(changed)
    }

    /// Each tier that Stripe has, that was ordered, or that was there before.
    fn reads(
        &self,
        at_stripe: &[SlotLimit],
        ordered: &[OrderedSlots],
        known: Option<&StripeSlots>,
    ) -> Vec<TierRead> {
        let addon = self.family.of_stripe_items();
        let held =
            self.family.allocations.iter().filter(|held| {
                addon.is_some_and(|addon| addon.subscription_id == held.subscription)
            });
        let tiers: BTreeSet<i32> = at_stripe
            .iter()
            .map(|slots| slots.tier_id)
            .chain(ordered.iter().map(|ordered| ordered.tier))
            .chain(known.into_iter().flat_map(StripeSlots::tiers))
            .chain(held.map(|held| held.tier))
            .collect();
        let read = |tier: i32| TierRead {
            tier,
            quantity: at_stripe
                .iter()
                .find(|slots| slots.tier_id == tier)
                .map_or(0, |slots| slots.slot_limit),
            ordered: ordered
                .iter()
                .filter(|ordered| ordered.tier == tier)
                .fold(0, |sum, ordered| sum.saturating_add(ordered.slots)),
            extra: self.family.slots_of_stripe_items(tier),
        };
        tiers.into_iter().map(read).collect()
    }

    async fn tell_reduced(&self, followed: &[TierFollowed]) -> Result<()> {
        let missing: Vec<String> = followed
            .iter()
            .filter(|tier| tier.newly_missing > 0)
            .map(|tier| format!("{} of tier {}", tier.newly_missing, tier.tier))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "slots of {} that were ordered here were taken away at Stripe: {}; they stay until the \
             paid term ends",
            self.before.subscription_id,
            missing.join(", ")
        );
        self.flag(FlagKind::SlotsReducedAtStripe, detail).await
    }

    /// Takes from the ADDONs that were ordered last what Stripe has not renewed.
    async fn end_ordered(
        &self,
        followed: &[TierFollowed],
        ordered: &[OrderedSlots],
    ) -> Result<Vec<Subscription>> {
        let mut ended: Vec<(i32, i32)> =
            followed.iter().map(|tier| (tier.tier, tier.ended)).collect();
        let mut changed = Vec::new();
        for addon in &self.family.addons {
            let mut slots = Vec::new();
            for held in ordered.iter().filter(|held| held.addon == addon.subscription_id) {
                let Some((_, left)) = ended.iter_mut().find(|(tier, _)| *tier == held.tier) else {
                    continue;
                };
                let taken = held.slots.min(*left);
                *left -= taken;
                if taken > 0 {
                    slots.push(SlotLimit { tier_id: held.tier, slot_limit: held.slots - taken });
                }
            }
            if slots.is_empty() {
                continue;
            }
            changed.push(self.set_addon(addon, &slots, addon.clone()).await?);
        }
        Ok(changed)
    }

    /// Makes the ADDON of Stripe's items what Stripe says.
    async fn follow_extra(
        &self,
        followed: &[TierFollowed],
        root: &Subscription,
    ) -> Result<Option<Subscription>> {
        let slots: Vec<SlotLimit> = followed
            .iter()
            .map(|tier| SlotLimit { tier_id: tier.tier, slot_limit: tier.extra })
            .collect();
        let Some(addon) = self.family.of_stripe_items() else {
            let brought: Vec<SlotLimit> =
                slots.into_iter().filter(|slots| slots.slot_limit > 0).collect();
            if brought.is_empty() {
                return Ok(None);
            }
            let by = (self.actor, self.event());
            let new = insert_addon(self.tx, self.family, root, &brought, by, self.now).await?;
            return Ok(Some(new));
        };
        let mut after = addon.clone();
        after.status = if devices(&slots) > 0 { Status::Active } else { Status::Expired };
        after.grace_end = None;
        if after.status == Status::Active {
            let start = after.term_start.min(self.now);
            (after.term_start, after.term_end) = root.term_of_addon((start, root.term_end));
        }
        let held = |wanted: &SlotLimit| {
            self.family
                .allocation(&addon.subscription_id, wanted.tier_id)
                .map_or(0, |held| held.slot_limit)
        };
        let changed: Vec<SlotLimit> =
            slots.into_iter().filter(|wanted| held(wanted) != wanted.slot_limit).collect();
        if changed.is_empty() && after == *addon {
            return Ok(None);
        }
        Ok(Some(self.set_addon(addon, &changed, after).await?))
    }

    /// Saves an ADDON with other slots of some tiers: as many more or fewer devices.
    async fn set_addon(
        &self,
        addon: &Subscription,
        slots: &[SlotLimit],
        mut after: Subscription,
    ) -> Result<Subscription> {
        let held = |slots: &SlotLimit| {
            self.family
                .allocation(&addon.subscription_id, slots.tier_id)
                .map_or(0, |held| held.slot_limit)
        };
        for wanted in slots {
            let more = wanted.slot_limit.saturating_sub(held(wanted));
            after.device_limit = after.device_limit.saturating_add(more).max(0);
        }
        let id = &addon.subscription_id;
        let (before, wanted) =
            allocations::set_slots(self.tx, self.family, id, slots, self.now).await?;
        let kept = self.family.allocations.iter().filter(|held| held.subscription == *id);
        let left = kept
            .filter(|held| slots.iter().all(|slots| slots.tier_id != held.tier))
            .map(|held| held.slot_limit)
            .chain(slots.iter().map(|slots| slots.slot_limit));
        if left.max().unwrap_or(0) == 0 {
            (after.status, after.grace_end) = (Status::Expired, None);
        }
        let tier_slots: Value = json!({"before": before, "after": wanted});
        let details = json!({"with_parent": self.before.subscription_id, "tier_slots": tier_slots});
        let change = stripe_state::event_type(addon, &after, false);
        self.save(addon, after.clone(), change, Some(details)).await?;
        Ok(Subscription { version: addon.version + 1, ..after })
    }
}
