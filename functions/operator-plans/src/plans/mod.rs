//! Plans.

pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod get_tier_defaults;
pub(crate) mod list;
pub(crate) mod set_tier_defaults;
pub(crate) mod update;
