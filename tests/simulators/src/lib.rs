//! In-process stand-ins for Stripe, Keycloak and the Lambda runtime API, for the local stack and
//! the tests. Also here: access tokens from a real or embedded Keycloak, and a reader for the
//! CloudFormation template.
//!
//! The simulators keep state, answer over a real socket in the product's own shapes, and can
//! inject faults. One instance per test on port 0 is cheap. They know none of our business rules:
//! other tests check what the system does with an answer.

#![recursion_limit = "256"] // Stripe's objects are long json! literals

pub mod browser;
pub mod front;
pub mod keycloak;
pub mod lambda;
mod server;
pub mod stripe;
pub mod template;
pub mod tokens;
