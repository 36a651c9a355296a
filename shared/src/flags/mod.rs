//! Flags: what a person should look at. An event flags one thing once, however often it is tried.

pub(crate) mod store;

use crate::ids::{StripeEventId, SubscriptionId, TenantId};

/// One thing to look at.
#[derive(Debug, Clone)]
pub struct Flag<'a> {
    /// Stable kind, e.g. `plan_unresolved` (docs/events.md, "Flags").
    pub kind: &'static str,
    /// Whose.
    pub tenant: Option<&'a TenantId>,
    /// Which subscription.
    pub subscription: Option<&'a SubscriptionId>,
    /// What showed it.
    pub stripe_event: Option<&'a StripeEventId>,
    /// For a person.
    pub detail: String,
}
