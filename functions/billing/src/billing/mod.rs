//! Buying and paying.

pub mod addon_checkout;
pub mod checkout;
pub mod checkout_status;
pub mod config;
pub mod portal;
pub mod status;
