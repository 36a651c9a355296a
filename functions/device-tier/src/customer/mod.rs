//! For customers: their own devices, within what they have paid for.

pub(crate) mod assign_many;
pub(crate) mod assign_tier;
pub(crate) mod decommission;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod list_tiers;
pub(crate) mod move_device;
pub(crate) mod register;
pub(crate) mod remove_tier;
pub(crate) mod update;
