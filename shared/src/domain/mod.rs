//! Every noun of the product, one folder each: `mod.rs` has the operations (one function per use
//! case, which alone opens and commits the transaction), `model.rs` the types and rules without I/O
//! or clock, `store.rs` the only SQL of that noun; `operator.rs` is what an operator does with it,
//! `customer.rs` what a customer does.
//!
//! The nouns have floors, and none imports one of its own floor or above it
//! (`tests/contract/layers.rs`).

pub mod audit;
pub mod families;
pub mod idempotency;
pub mod prices;

pub mod flags;
pub mod outbox;
pub mod plans;
pub mod tenants;

pub mod mails;
pub mod tiers;
pub mod usage;

pub mod addons;
pub mod allocations;
pub mod devices;
pub mod entitlements;
pub mod users;

pub mod billing;
pub mod events;
pub mod invariants;
pub mod subscriptions;

pub mod erasure;
pub mod provisioning;
pub mod renewals;

pub mod overview;
pub mod search;
