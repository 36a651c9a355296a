//! For the platform's other backends.

pub(crate) mod last_seen;
