//! A flag as operators read it, what they can ask for, and how they end it.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::fields::{Note, Param, Text};
use crate::base::ids::{StripeEventId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::{request, words};

/// One thing that an operator should look at, or has looked at (docs/events.md, "Flags").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct FlagRow {
    pub flag_id: i64,
    /// Stable, such as `plan_unresolved`.
    pub kind: String,
    pub tenant_id: Option<TenantId>,
    pub subscription_id: Option<SubscriptionId>,
    /// The event that showed it.
    pub stripe_event_id: Option<StripeEventId>,
    /// What happened, for an operator.
    pub detail: String,
    pub created_at: Timestamp,
    /// None while it is open.
    pub resolved_at: Option<Timestamp>,
    /// The `sub` of who resolved it.
    pub resolved_by: Option<String>,
    pub resolution_note: Option<String>,
}

words! {
    /// Which flags to list.
    pub enum FlagStatus {
        /// Those that wait for an operator.
        Open = "open",
        /// Those that an operator has ended.
        Resolved = "resolved",
        /// Both.
        All = "all",
    }
}

request! {
    /// Which flags.
    pub struct FlagFilter {
        kind: Option<Text<1, 100>> = None,
        tenant_id: Option<TenantId> = None,
        subscription_id: Option<SubscriptionId> = None,
        /// `open` where it is absent.
        status: FlagStatus = FlagStatus::Open,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// How a flag ends.
    pub struct Resolution {
        /// What was found, or done about it.
        note: Note,
    }
}

impl FlagStatus {
    /// Whether resolved flags are asked for, and no others; none for both.
    #[must_use]
    pub fn resolved(self) -> Option<bool> {
        match self {
            Self::Open => Some(false),
            Self::Resolved => Some(true),
            Self::All => None,
        }
    }
}

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
    /// What happened, for an operator.
    pub detail: String,
}
