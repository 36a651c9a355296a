//! What a tenant is entitled to.

pub(crate) mod check;
pub(crate) mod get;
