//! The users of tenants.

pub mod create;
pub mod list;
pub mod send_welcome_email;
pub mod update;
