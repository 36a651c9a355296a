//! What a tenant is entitled to.

pub mod check;
pub mod get;
