//! Families: a MAIN and its ADDONs (any other subscription is one of its own), whose capacity is
//! pooled (docs/subscriptions.md, "Families").
//!
//! **The root's row is the family's lock.** Whoever changes status, limits, term or counts of a
//! family holds it, and takes locks in one order: device rows by id, then roots by id, then
//! allocations. So counts are what the rows are, and no two wait for each other.

pub mod family;
pub(crate) mod locks;
pub(crate) mod rows;
pub mod stripe_slots;
pub mod subscription;

use crate::Error;

pub(crate) fn not_found() -> Error {
    Error::not_found("subscription_not_found", "Subscription not found")
}
