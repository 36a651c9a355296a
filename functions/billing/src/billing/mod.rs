//! Buying and paying.

pub(crate) mod addon_checkout;
pub(crate) mod checkout;
pub(crate) mod checkout_status;
pub(crate) mod config;
pub(crate) mod portal;
pub(crate) mod status;
pub(crate) mod upcoming;
