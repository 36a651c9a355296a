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
