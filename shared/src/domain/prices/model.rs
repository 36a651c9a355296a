//! What a price belongs to.

use crate::base::ids::{PlanId, StripePriceId};
use crate::words;

/// What a price is mapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceOf {
    /// The plan itself.
    Plan(PlanId),
    /// Slots of this tier.
    Tier(i32),
}

/// A price, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its id at Stripe.
    pub price: StripePriceId,
    /// What is paid by it.
    pub of: PriceOf,
    /// How often.
    pub interval: Interval,
    /// Whether it is sold, and no former price.
    pub is_current: bool,
}

/// What became of a price that was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// It was mapped so before, or there is none.
    Kept,
    /// It was not mapped before.
    New,
    /// It was another plan's, or paid by another interval.
    Moved(Mapping),
}

words! {
    /// How often a price is paid.
    pub enum Interval {
        /// Per month.
        Month = "month",
        /// Per year.
        Year = "year",
    }
}

/// The tier for whose slots a price is, according to `known`.
#[must_use]
pub(crate) fn tier_of(price: &StripePriceId, known: &[(StripePriceId, PriceOf)]) -> Option<i32> {
    known.iter().find_map(|(id, of)| match of {
        PriceOf::Tier(tier) if id == price => Some(*tier),
        PriceOf::Tier(_) | PriceOf::Plan(_) => None,
    })
}
