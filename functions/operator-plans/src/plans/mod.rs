//! Plans.

pub mod create;
pub mod get;
pub mod get_tier_defaults;
pub mod list;
pub mod set_tier_defaults;
pub mod update;
