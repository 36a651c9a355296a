//! For operators, who are bound by no limit but see what they exceed.

pub mod list;
pub mod move_device;
pub mod override_tier;
pub mod register;
