//! Subscriptions: types, statuses, terms, and what Stripe's statuses mean for them.

pub mod model;
pub(crate) mod store;
