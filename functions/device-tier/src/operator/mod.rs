//! For operators: no limit binds them, but they see what they exceed.

pub(crate) mod decommission;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod move_device;
pub(crate) mod override_tier;
pub(crate) mod override_tiers;
pub(crate) mod register;
pub(crate) mod update;
