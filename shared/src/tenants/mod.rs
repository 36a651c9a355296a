//! Customer companies: how one gets its id, and who its Stripe customers are.

pub mod model;
pub(crate) mod store;
