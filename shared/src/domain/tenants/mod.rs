//! Customer companies: how one gets its id, who its Stripe customers are, and what operators change
//! of them.

pub mod customer;
pub mod model;
pub mod operator;
pub mod payer;
pub mod session;
pub(crate) mod store;
