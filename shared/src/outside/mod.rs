//! The services outside this system, one concrete client each. A client knows no noun of the
//! domain.

pub mod aws;
pub mod keycloak;
pub mod queue;
pub mod secrets;
pub mod smtp;
pub mod stripe;
