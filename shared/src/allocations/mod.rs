//! Tier allocations: how many slots of a tier one subscription brings.

pub(crate) mod store;
