//! For customers: their own devices, within what they have paid for.

pub mod assign_many;
pub mod assign_tier;
pub mod decommission;
pub mod get;
pub mod list;
pub mod list_tiers;
pub mod move_device;
pub mod register;
pub mod remove_tier;
