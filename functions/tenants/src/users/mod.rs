//! The users of tenants.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod send_welcome_email;
pub(crate) mod update;
