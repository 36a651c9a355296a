//! Mails: what a customer and the operators are told, and when it is no longer true (docs/mail.md). They are steps of the outbox.

pub mod model;
