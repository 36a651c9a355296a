//! A flag as operators read it, what they can ask for, and how they end it.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, schema};

use crate::base::fields::{Note, Param, Text};
use crate::base::ids::{StripeEventId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::{request, words};

/// One thing that an operator should look at, or has looked at (docs/events.md, "Flags").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct FlagRow {
    pub flag_id: i64,
    /// Of a failed event, its error's code (docs/events.md, "Flags").
    #[schema(schema_with = kind)]
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

/// A known kind, or any code.
fn kind() -> RefOr<Schema> {
    schema::AnyOfBuilder::new()
        .item(schema::Ref::from_schema_name("FlagKind"))
        .item(<String as utoipa::PartialSchema>::schema())
        .into()
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

words! {
    /// What a flag that is no failed event's asks to look at (docs/events.md, "Flags").
    #[expect(missing_docs, reason = "docs/events.md says of each what raises it")]
    pub enum FlagKind {
        SecondCustomer = "second_customer",
        BoughtTwice = "bought_twice",
        PaidTwice = "paid_twice",
        PaidWithoutAccess = "paid_without_access",
        PlanUnresolved = "plan_unresolved",
        NoAdminEmail = "no_admin_email",
        UnknownStripeStatus = "unknown_stripe_status",
        CollectionPaused = "collection_paused",
        SlotsReducedAtStripe = "slots_reduced_at_stripe",
        AddonStillCharged = "addon_still_charged",
        PaymentActionRequired = "payment_action_required",
        FinalizationFailed = "finalization_failed",
        Refunded = "refunded",
        Disputed = "disputed",
        DisputeClosed = "dispute_closed",
        CustomerDeleted = "customer_deleted",
        NeverMatched = "never_matched",
        StepFailed = "step_failed",
        RenewalBreaker = "renewal_breaker",
        StripeNotAsked = "stripe_not_asked",
        StripeSubscriptionUnknown = "stripe_subscription_unknown",
        PriceCurrency = "price_currency",
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

/// Why a flag is raised: what the column `kind` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagCause {
    /// An event failed with an error of this code; any code may come.
    FailedEvent(&'static str),
    /// Anything else.
    Found(FlagKind),
}

impl FlagCause {
    /// As the database spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailedEvent(code) => code,
            Self::Found(kind) => kind.as_str(),
        }
    }
}

impl From<FlagKind> for FlagCause {
    fn from(kind: FlagKind) -> Self {
        Self::Found(kind)
    }
}

/// One thing to look at.
#[derive(Debug, Clone)]
pub struct Flag<'a> {
    /// Why it is raised.
    pub kind: FlagCause,
    /// Whose.
    pub tenant: Option<&'a TenantId>,
    /// Which subscription.
    pub subscription: Option<&'a SubscriptionId>,
    /// What showed it.
    pub stripe_event: Option<&'a StripeEventId>,
    /// What it is about that no row of the tenant is: the number of an outbox step, or the id of a
    /// Stripe subscription.
    pub subject: Option<String>,
    /// What happened, for an operator.
    pub detail: String,
}

/// What flags are about that end together.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// One of our subscriptions.
    Subscription(&'a SubscriptionId),
    /// What `Flag::subject` names.
    Subject(&'a str),
}
