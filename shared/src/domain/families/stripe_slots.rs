//! Slots that are items of a MAIN's Stripe subscription: which of them our orders brought, and which
//! were bought or taken away at Stripe (docs/events.md, "Slots at Stripe"). Pure rules, no I/O.
//!
//! Stripe has one number for each price, and we write to it, too. So what our step sets is noted
//! before it is set: whoever reads Stripe's number next knows whose it is, whether the step has come
//! to its end or not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of the slots at Stripe, by tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StripeSlots(BTreeMap<i32, KnownTier>);

/// Of one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KnownTier {
    /// As many of Stripe's quantity were brought by our orders.
    ours: i32,
    /// What the step is about to set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    setting: Option<Target>,
    /// As many of ours Stripe has no more.
    #[serde(default)]
    missing: i32,
    /// Until when they stay here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// A quantity for Stripe, and how many of it our orders bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Of all items of the tier.
    pub quantity: i32,
    /// Of that, what was ordered here.
    pub ours: i32,
}

/// A tier as it was read, at Stripe and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierRead {
    /// Which.
    pub tier: i32,
    /// How many Stripe charges for.
    pub quantity: i32,
    /// How many live ADDONs have that were ordered here.
    pub ordered: i32,
    /// How many the ADDON of Stripe's items has.
    pub extra: i32,
}

/// What follows from a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierFollowed {
    /// Which.
    pub tier: i32,
    /// How many were bought at Stripe.
    pub extra: i32,
    /// How many of ours Stripe has no more, as it did not know before.
    pub newly_missing: i32,
    /// How many of ours end now.
    pub ended: i32,
}

/// How many of Stripe's quantity our orders brought.
fn ours(known: Option<&StripeSlots>, read: &TierRead) -> i32 {
    let Some(slots) = known else {
        return read.ordered.min(read.quantity.saturating_sub(read.extra).max(0));
    };
    let known = slots.0.get(&read.tier).copied().unwrap_or_default();
    match known.setting {
        Some(set) if set.quantity == read.quantity => set.ours,
        _ => known.ours,
    }
}

impl StripeSlots {
    /// The tiers that anything is known of.
    pub fn tiers(&self) -> impl Iterator<Item = i32> + '_ {
        self.0.keys().copied()
    }

    /// What Stripe should have: as many more or fewer as our orders bring more or fewer since it
    /// was set last. What was bought at Stripe stays, and what was taken away there is not put
    /// back. Under a hold, quantities only fall.
    #[must_use]
    pub fn target(known: Option<&Self>, read: &TierRead, held: bool) -> Target {
        let ours = ours(known, read);
        let (quantity, ordered) = (read.quantity, read.ordered);
        if ordered < ours {
            let own = quantity.min(ours);
            return Target { quantity: quantity - own + own.min(ordered), ours: ordered };
        }
        if held {
            return Target { quantity, ours };
        }
        Target { quantity: quantity.saturating_add(ordered - ours), ours: ordered }
    }

    /// Notes what is about to be set; where Stripe has that already, it is settled.
    #[must_use]
    pub fn begin(known: Option<&Self>, targets: &[(TierRead, Target)]) -> Self {
        let mut slots = known.cloned().unwrap_or_default();
        for (read, target) in targets {
            let ours = ours(known, read);
            let tier = slots.0.entry(read.tier).or_default();
            (tier.ours, tier.setting) = if target.quantity == read.quantity {
                (target.ours, None)
            } else {
                (ours, Some(*target))
            };
        }
        slots
    }

    /// Notes that it was set.
    pub fn finish(&mut self, targets: &[(TierRead, Target)]) {
        for (read, target) in targets {
            let tier = self.0.entry(read.tier).or_default();
            (tier.ours, tier.setting) = (target.ours, None);
        }
    }

    /// What follows from what Stripe has now. `ends` are the end of the paid term as it was and as
    /// it is: what was taken away at Stripe stays until the term ends in which it was seen.
    #[must_use]
    pub fn follow(
        known: Option<&Self>,
        reads: &[TierRead],
        ends: (Timestamp, Timestamp),
    ) -> (Self, Vec<TierFollowed>) {
        let mut slots = known.cloned().unwrap_or_default();
        let follow = |read: &TierRead| {
            let ours = ours(known, read);
            let own = read.quantity.min(ours);
            let missing = (ours.min(read.ordered) - own).max(0);
            let mut followed = TierFollowed {
                tier: read.tier,
                extra: read.quantity - own,
                newly_missing: 0,
                ended: 0,
            };
            let before = slots.0.get(&read.tier).copied().unwrap_or_default();
            followed.newly_missing = (missing - before.missing).max(0);
            let mut after = KnownTier { missing, ..before };
            if known.is_none() {
                after.ours = ours;
            }
            after.until = (missing > 0).then(|| before.until.unwrap_or(ends.0));
            if after.until.is_some_and(|until| ends.1 > until) && before.setting.is_none() {
                followed.ended = missing;
                after = KnownTier { ours: own, ..KnownTier::default() };
            }
            if after != before || known.is_none() {
                slots.0.insert(read.tier, after);
            }
            followed
        };
        let followed = reads.iter().map(follow).collect();
        slots.0.retain(|_, tier| *tier != KnownTier::default());
        (slots, followed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Orders, the Dashboard, our step and the reading of what it did, in any order. The step may
    /// die before or after Stripe has heard of it.
    #[derive(Debug, Clone, Copy)]
    enum Deed {
        Order(i32),
        EndOrder(i32),
        Dashboard(i32),
        Step { reaches_stripe: bool, is_noted: bool },
        Sync,
        Renewal,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            (1..4).prop_map(Deed::Order),
            (1..4).prop_map(Deed::EndOrder),
            (-5..6).prop_map(Deed::Dashboard),
            (any::<bool>(), any::<bool>())
                .prop_map(|(reaches_stripe, is_noted)| Deed::Step { reaches_stripe, is_noted }),
            Just(Deed::Sync),
            Just(Deed::Renewal),
        ]
    }

    struct World {
        known: Option<StripeSlots>,
        quantity: i32,
        ordered: i32,
        extra: i32,
        term: i64,
    }

    impl World {
        fn read(&self) -> TierRead {
            TierRead { tier: 1, quantity: self.quantity, ordered: self.ordered, extra: self.extra }
        }

        fn step(&mut self, reaches_stripe: bool, is_noted: bool) {
            let read = self.read();
            let target = StripeSlots::target(self.known.as_ref(), &read, false);
            let mut slots = StripeSlots::begin(self.known.as_ref(), &[(read, target)]);
            if reaches_stripe {
                self.quantity = target.quantity;
            }
            if reaches_stripe && is_noted {
                slots.finish(&[(read, target)]);
            }
            self.known = Some(slots);
        }

        /// Returns how many ordered slots it takes.
        fn sync(&mut self, renewed: bool) -> TierFollowed {
            let at = |term| Timestamp::from_second(1_000 * term).expect("in range");
            let ends = (at(self.term), at(self.term + i64::from(renewed)));
            self.term += i64::from(renewed);
            let (slots, followed) = StripeSlots::follow(self.known.as_ref(), &[self.read()], ends);
            self.known = Some(slots);
            self.extra = followed[0].extra;
            self.ordered -= followed[0].ended;
            followed[0]
        }
    }

    proptest! {
        /// Whatever happened: what the Dashboard did is never undone or doubled, what was ordered
        /// is charged once, and after a renewal the company has what Stripe charges for.
        #[test]
        fn what_stripe_charges_for_is_given_once_and_our_own_step_gives_nothing(
            deeds in prop::collection::vec(deed(), 0..40),
        ) {
            let mut world = World {
                known: Some(StripeSlots::default()), quantity: 0, ordered: 0, extra: 0, term: 1,
            };
            for deed in deeds {
                match deed {
                    Deed::Order(slots) => world.ordered += slots,
                    Deed::EndOrder(slots) => world.ordered = (world.ordered - slots).max(0),
                    // The step has come to its end: nothing tells two writers at once apart.
                    Deed::Dashboard(by) => {
                        world.step(true, true);
                        world.quantity = (world.quantity + by).max(0);
                    }
                    Deed::Step { reaches_stripe, is_noted } => {
                        world.sync(false);
                        let extra = world.extra;
                        world.step(reaches_stripe, is_noted);
                        world.sync(false);
                        prop_assert_eq!(world.extra, extra, "our own figures are no purchase");
                    }
                    Deed::Sync => drop(world.sync(false)),
                    Deed::Renewal => drop(world.sync(true)),
                }
            }
            world.step(true, true);
            world.sync(false);
            let given = world.ordered + world.extra;
            prop_assert!(given >= world.quantity, "{given} given, {} charged", world.quantity);
            world.sync(true);
            let quantity = world.quantity;
            prop_assert_eq!(world.ordered + world.extra, quantity, "from the next period on");
            world.ordered += 1;
            for _ in 0..2 {
                world.step(true, true);
                prop_assert_eq!(world.quantity, quantity + 1, "what is ordered later is charged");
            }
        }
    }
}
