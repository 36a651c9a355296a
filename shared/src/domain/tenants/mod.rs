//! Customer companies: their ids, their profiles and their Stripe customers.

pub mod customer;
pub(crate) mod follow;
pub mod model;
pub mod operator;
pub mod payer;
pub mod session;
pub(crate) mod store;
