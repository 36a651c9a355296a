//! For operators: no limit binds them, but they see what they exceed.

pub mod list;
pub mod move_device;
pub mod override_tier;
pub mod register;
