//! Everything of Pulse Billing that has a rule in it; the functions are thin shells around this
//! crate.
//!
//! One folder a noun: `mod.rs` holds operations (one function a use case, which alone opens and
//! commits the transaction), `model.rs` types and rules without I/O or clock, `store.rs` the only
//! SQL of that noun. The outside world is one concrete type each (`stripe`, `keycloak`, `mail`,
//! `queue`, `secrets`). See `docs/architecture.md`.

pub mod addons;
pub mod allocations;
pub mod app;
pub mod audit;
pub mod auth;
pub mod aws;
pub mod billing;
pub mod clock;
pub mod config;
pub mod db;
pub mod devices;
pub mod entitlements;
pub mod error;
pub mod events;
pub mod families;
pub mod fault;
pub mod fields;
pub mod flags;
pub mod http;
pub mod idempotency;
pub mod ids;
pub mod invariants;
pub mod keycloak;
pub mod mail;
pub mod mails;
pub mod metrics;
pub mod migrations;
pub mod outbox;
pub mod plans;
pub mod prices;
pub mod queue;
pub mod renewals;
pub mod secrets;
pub mod stripe;
pub mod subscriptions;
pub mod telemetry;
pub mod tenants;
pub mod tiers;
pub mod tls;
pub mod users;

pub use error::{Error, Result};
