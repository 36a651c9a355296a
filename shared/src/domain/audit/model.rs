//! A row of the trail, and the filter with which operators list it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::base::caller::Person;
use crate::base::fields::{DateTime, Param, Text};
use crate::base::ids::{DeviceId, StripeEventId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::request;

/// One change (docs/operations.md, "Audit").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct AuditRow {
    pub id: i64,
    pub event_timestamp: Timestamp,
    pub event_type: String,
    pub tenant_id: Option<String>,
    pub subscription_id: Option<String>,
    pub device_id: Option<String>,
    /// `admin` (platform staff), `customer`, `service` or `system`.
    pub actor_type: String,
    /// The `sub` of the caller's token, or the name of the part of the system.
    pub actor_id: String,
    /// Where the request came from.
    pub ip_address: Option<String>,
    pub stripe_event_id: Option<String>,
    pub previous_state: Option<Value>,
    pub new_state: Option<Value>,
    pub details: Option<Value>,
}

request! {
    /// Which rows to list.
    pub struct AuditFilter {
        tenant_id: Option<TenantId> = None,
        subscription_id: Option<SubscriptionId> = None,
        device_id: Option<DeviceId> = None,
        event_type: Option<Text<1, 100>> = None,
        /// The `sub` of a token.
        actor_id: Option<Text<1, 255>> = None,
        /// From this time on.
        from: Option<DateTime> = None,
        /// Before this time.
        to: Option<DateTime> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// An event of Stripe.
    Stripe,
    /// The outbox.
    Outbox,
    /// The hourly run.
    Renewal,
    /// Platform staff.
    Operator(&'a Person),
    /// A user of a tenant.
    Customer(&'a Person),
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
    /// The tenant; none for the catalogue.
    pub tenant: Option<&'a TenantId>,
    /// Which subscription.
    pub subscription: Option<&'a SubscriptionId>,
    /// Which device.
    pub device: Option<&'a DeviceId>,
    /// The Stripe event that caused it.
    pub stripe_event: Option<&'a StripeEventId>,
    /// The state before.
    pub previous_state: Option<Value>,
    /// The state after.
    pub new_state: Option<Value>,
    /// Anything else that explains it.
    pub details: Option<Value>,
}

impl<'a> Entry<'a> {
    /// An entry with nothing else yet.
    #[must_use]
    pub fn new(event_type: &'static str, actor: Actor<'a>, at: Timestamp) -> Self {
        Self {
            at,
            event_type,
            actor,
            tenant: None,
            subscription: None,
            device: None,
            stripe_event: None,
            previous_state: None,
            new_state: None,
            details: None,
        }
    }
}
