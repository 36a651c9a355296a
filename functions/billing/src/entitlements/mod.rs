//! What a tenant is entitled to.

pub(crate) mod check;
pub(crate) mod get;
pub(crate) mod report_usage;
