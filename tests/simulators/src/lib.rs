//! In-process stand-ins for Stripe and Keycloak, for the local stack and for tests, tokens for
//! either Keycloak, and what CloudFormation makes of the template.
//!
//! Each keeps state, answers over a real socket in the product's own shapes, and can be told to
//! misbehave. One instance a test on port 0 is cheap. Nothing here knows a rule of ours: what the
//! system makes of an answer is tested elsewhere.

#![recursion_limit = "256"] // Stripe's objects are long json! literals

pub mod front;
pub mod keycloak;
pub mod lambda;
mod server;
pub mod stripe;
pub mod template;
pub mod tokens;
