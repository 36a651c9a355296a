//! Everything of Pulse Billing that has a rule in it; the functions are thin shells around this
//! crate.
//!
//! Six rooms, from the ground up; none imports one above it (`tests/contract/layers.rs`). See
//! `docs/architecture.md`.

pub mod base;
pub mod process;

pub mod outside;

pub mod db;

pub mod domain;

pub mod http;

pub use crate::base::error::{Error, Result};
