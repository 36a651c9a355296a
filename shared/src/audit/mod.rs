//! The append-only trail: one row a changed object, none for a no-op, in the transaction of the change.

pub(crate) mod store;

use jiff::Timestamp;
use serde_json::Value;

use crate::ids::{StripeEventId, SubscriptionId, TenantId};

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// An event of Stripe.
    Stripe,
    /// The outbox.
    Outbox,
    /// An operator, by the subject of their token.
    Operator(&'a str),
}

/// One change.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When, UTC.
    pub at: Timestamp,
    /// Which, e.g. `TENANT_PROVISIONED` (docs/events.md, "Audit").
    pub event_type: &'static str,
    /// By whom.
    pub actor: Actor<'a>,
    /// Whose; none for the catalogue.
    pub tenant: Option<&'a TenantId>,
    /// Which subscription.
    pub subscription: Option<&'a SubscriptionId>,
    /// What made it happen.
    pub stripe_event: Option<&'a StripeEventId>,
    /// What was really replaced.
    pub previous_state: Option<Value>,
    /// What stands now.
    pub new_state: Option<Value>,
    /// Whatever else helps to understand it.
    pub details: Option<Value>,
}
