//! What Stripe says of a subscription after its checkout, rule by rule (docs/events.md,
//! "Subscriptions").

mod addons;
mod adoption;
mod items;
mod payments;
mod pending;
mod plans;
mod quantities;
mod syncs;
mod tenants;
