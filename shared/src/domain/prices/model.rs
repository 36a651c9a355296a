//! What a price stands for.

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

words! {
    /// How often a price is paid.
    pub enum Interval {
        /// By the month.
        Month = "month",
        /// By the year.
        Year = "year",
    }
}

/// The tier whose slots a price is for, by what those in `known` stand for.
#[must_use]
pub(crate) fn tier_of(price: &StripePriceId, known: &[(StripePriceId, PriceOf)]) -> Option<i32> {
    known.iter().find_map(|(id, of)| match of {
        PriceOf::Tier(tier) if id == price => Some(*tier),
        PriceOf::Tier(_) | PriceOf::Plan(_) => None,
    })
}
