//! The plan catalogue: which plan a price or a name stands for. Nothing about plans is hard-coded.

pub mod model;
pub(crate) mod store;
