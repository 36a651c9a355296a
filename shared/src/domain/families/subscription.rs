//! A subscription: the row, its states, and what a change of it is called.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::stripe_slots::StripeSlots;
use crate::base::fields::NamedLimit;
use crate::base::ids::{
    Currency, PlanId, StripePriceId, StripeSessionId, StripeSubscriptionId, SubscriptionId,
    TenantId,
};
use crate::base::version::Versioned;
use crate::domain::audit::model::AuditEvent;
use crate::words;

/// How long a customer whose payment failed keeps access, from the first unpaid moment.
pub const GRACE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// No grace is shorter that begins when nothing was said before: late in a run, or because a
/// payment failed that was under way for long.
pub const SHORTEST_GRACE: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The statuses that give access.
pub const LIVE: [Status; 3] = [Status::Trial, Status::Active, Status::Grace];

/// How long a TRIAL lasts that names no end.
pub const TRIAL: SignedDuration = SignedDuration::from_hours(14 * 24);

words! {
    /// Our status of a subscription (docs/subscriptions.md, "Status").
    pub enum Status {
        /// Tried, not paid yet.
        Trial = "TRIAL",
        /// Paid.
        Active = "ACTIVE",
        /// Unpaid, with access until `grace_end`.
        Grace = "GRACE",
        /// Unpaid, without access.
        Suspended = "SUSPENDED",
        /// Over.
        Expired = "EXPIRED",
    }

    /// What kind of subscription it is.
    pub enum SubscriptionType {
        /// What a company pays for; its ADDONs belong to it.
        Main = "MAIN",
        /// More of something for a MAIN, ending with it.
        Addon = "ADDON",
        /// To try, for some days.
        Trial = "TRIAL",
        /// For a project or an event.
        Temporary = "TEMPORARY",
    }
}

impl Status {
    /// Whether it gives access.
    #[must_use]
    pub fn is_live(self) -> bool {
        LIVE.contains(&self)
    }

    /// The worse of two: an ADDON's own and its root's.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        let rank = |status| match status {
            Self::Trial | Self::Active => 0,
            Self::Grace => 1,
            Self::Suspended => 2,
            Self::Expired => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// A subscription as it is stored. Terms are half-open, `[term_start, term_end)`, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of docs/subscriptions.md")]
pub struct Subscription {
    pub subscription_id: SubscriptionId,
    pub tenant_id: TenantId,
    pub subscription_type: SubscriptionType,
    /// The MAIN that an ADDON belongs to.
    pub parent_subscription_id: Option<SubscriptionId>,
    pub status: Status,
    pub plan_id: Option<PlanId>,
    /// How many of its plan it pays for: what the plan brings, it brings so many times.
    // Answers that the release before kept have neither this nor `limits`.
    #[serde(default = "one")]
    #[schema(required = true)]
    pub quantity: i32,
    /// Devices that it brings to its family.
    pub device_limit: i32,
    /// Its named limits, as they were copied from its plan; `null`: as the plan says.
    #[serde(default)]
    pub limits: Option<BTreeMap<String, NamedLimit>>,
    /// Devices that are on it.
    pub active_device_count: i32,
    pub term_start: Timestamp,
    pub term_end: Timestamp,
    /// Set exactly while the status is GRACE.
    pub grace_end: Option<Timestamp>,
    pub description: Option<String>,
    /// The Stripe subscription that pays for it.
    #[serde(flatten, serialize_with = "flat")]
    #[schema(value_type = StripeFields)]
    pub stripe: Option<StripeLink>,
    /// Where an operator keeps it from following Stripe.
    #[serde(flatten, serialize_with = "flat")]
    #[schema(value_type = HoldFields)]
    pub hold: Option<Hold>,
    /// The checkout that paid for it; not part of the API.
    #[serde(skip)]
    pub stripe_checkout_session_id: Option<StripeSessionId>,
    pub created_by: String,
    /// The number in its `ETag`.
    pub version: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn one() -> i32 {
    1
}

/// What we know of the Stripe subscription that pays for one of ours (docs/events.md, "Sync").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StripeLink {
    /// Stripe's id of it.
    #[serde(rename = "stripe_subscription_id")]
    pub id: StripeSubscriptionId,
    /// Stripe's status as it was last read, also where a hold keeps it from being applied.
    #[serde(rename = "stripe_status")]
    pub status: Option<String>,
    /// The Stripe price that is paid.
    #[serde(rename = "stripe_price_id")]
    pub price_id: Option<StripePriceId>,
    /// When the period ends that Stripe is in.
    #[serde(rename = "stripe_period_end")]
    pub period_end: Option<Timestamp>,
    /// Up to when nothing is due at Stripe.
    #[serde(rename = "stripe_paid_until")]
    pub paid_until: Option<Timestamp>,
    /// Until when a payment that is under way counts as one that comes.
    #[serde(rename = "stripe_pending_until", default)]
    pub pending_until: Option<Timestamp>,
    /// When Stripe will end it; none while it renews.
    #[serde(rename = "stripe_cancel_at")]
    pub cancel_at: Option<Timestamp>,
    /// What Stripe charges in; none where that was not read yet.
    #[serde(rename = "stripe_currency", default)]
    pub currency: Option<Currency>,
    /// Whether Stripe makes invoices without collecting them.
    #[serde(rename = "stripe_collection_paused")]
    pub collection_paused: bool,
    /// Its items, also where a hold keeps them from being applied. By price.
    #[serde(rename = "stripe_items", default)]
    pub items: Vec<StripeItem>,
    /// Of a MAIN: what is known of the slots among them; none where nothing was written yet. Not
    /// part of the API.
    #[serde(skip)]
    pub slots: Option<StripeSlots>,
    /// How many snapshots were applied: an optimistic lock of the sync, not part of the API.
    #[serde(skip)]
    pub sync: i64,
}

/// An item of a Stripe subscription.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct StripeItem {
    /// What is paid.
    pub price_id: StripePriceId,
    /// How many of it.
    pub quantity: i32,
}

/// An operator's hold: what Stripe says is kept beside ours, and not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    #[serde(rename = "hold_reason")]
    pub reason: String,
    /// The operator's `sub`.
    #[serde(rename = "held_by")]
    pub by: String,
    /// Since when.
    #[serde(rename = "held_at")]
    pub at: Timestamp,
}

/// The fields of a `StripeLink`, as JSON has them: all of them, also where there is none.
#[derive(Serialize, ToSchema, Default)]
pub struct StripeFields {
    /// Set where Stripe manages it.
    pub stripe_subscription_id: Option<StripeSubscriptionId>,
    /// Stripe's status as it was last read, also where a hold keeps it from being applied.
    pub stripe_status: Option<String>,
    /// The Stripe price that is paid.
    pub stripe_price_id: Option<StripePriceId>,
    /// When the period ends that Stripe is in.
    pub stripe_period_end: Option<Timestamp>,
    /// Up to when nothing is due at Stripe.
    pub stripe_paid_until: Option<Timestamp>,
    /// Until when a payment that is under way, such as a bank debit, counts as one that comes.
    pub stripe_pending_until: Option<Timestamp>,
    /// When Stripe will end it; none while it renews.
    pub stripe_cancel_at: Option<Timestamp>,
    /// What Stripe charges in; none where that was not read yet.
    pub stripe_currency: Option<Currency>,
    /// Whether Stripe makes invoices without collecting them.
    pub stripe_collection_paused: bool,
    /// What it pays for: its plan, and slots beside it.
    pub stripe_items: Vec<StripeItem>,
}

/// The fields of a `Hold`, as JSON has them.
#[derive(Serialize, ToSchema, Default)]
#[expect(missing_docs, reason = "the fields of Hold")]
pub struct HoldFields {
    /// Why an operator holds it, instead of applying what Stripe says.
    pub hold_reason: Option<String>,
    pub held_by: Option<String>,
    pub held_at: Option<Timestamp>,
}

trait Part: Serialize {
    /// What JSON has in the place of none.
    type Absent: Serialize + Default;
}

impl Part for StripeLink {
    type Absent = StripeFields;
}

impl Part for Hold {
    type Absent = HoldFields;
}

/// A client sees the same fields whether there is one or not.
#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn flat<P: Part, S: Serializer>(part: &Option<P>, serializer: S) -> Result<S::Ok, S::Error> {
    match part {
        Some(part) => part.serialize(serializer),
        None => P::Absent::default().serialize(serializer),
    }
}

impl Versioned for Subscription {
    fn version(&self) -> i64 {
        self.version
    }
}

impl Subscription {
    /// The term of an ADDON of this MAIN that is paid for so long: never beyond the MAIN's. What
    /// begins after that is over with the MAIN, and goes on when that does.
    #[must_use]
    pub fn term_of_addon(&self, (start, end): (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
        let start = if start < self.term_end { start } else { self.term_start };
        (start, end.min(self.term_end))
    }

    /// A new subscription that has nothing yet but its term.
    #[must_use]
    pub fn new(
        subscription_id: SubscriptionId,
        tenant_id: TenantId,
        subscription_type: SubscriptionType,
        (term_start, term_end): (Timestamp, Timestamp),
        created_by: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            subscription_id,
            tenant_id,
            subscription_type,
            parent_subscription_id: None,
            status: Status::Active,
            plan_id: None,
            quantity: 1,
            device_limit: 0,
            limits: None,
            active_device_count: 0,
            term_start,
            term_end,
            grace_end: None,
            description: None,
            stripe: None,
            hold: None,
            stripe_checkout_session_id: None,
            created_by: created_by.to_owned(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The root of its family: itself, or an ADDON's MAIN.
    #[must_use]
    pub fn root(&self) -> &SubscriptionId {
        self.parent_subscription_id.as_ref().unwrap_or(&self.subscription_id)
    }

    /// The next version of it, ended.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Self {
        Self {
            status: Status::Expired,
            grace_end: None,
            version: self.version + 1,
            updated_at: now,
            ..self.clone()
        }
    }

    /// Whether only a sync with Stripe may change its status, term and plan.
    #[must_use]
    pub fn is_stripe_managed(&self) -> bool {
        self.stripe.is_some() && self.hold.is_none()
    }

    /// The Stripe subscription that pays for it.
    #[must_use]
    pub fn stripe_id(&self) -> Option<&StripeSubscriptionId> {
        self.stripe.as_ref().map(|stripe| &stripe.id)
    }

    /// Whether it is the ADDON of what was bought at Stripe beside its MAIN's plan: a sync keeps it
    /// as Stripe says.
    #[must_use]
    pub fn is_of_stripe_items(&self) -> bool {
        self.subscription_type == SubscriptionType::Addon
            && self.created_by == "stripe"
            && self.stripe.is_none()
            && self.stripe_checkout_session_id.is_none()
    }

    /// Up to when nothing is due at Stripe.
    #[must_use]
    pub fn stripe_paid_until(&self) -> Option<Timestamp> {
        self.stripe.as_ref().and_then(|stripe| stripe.paid_until)
    }
}

/// What a change amounts to: the first of these that is true names it.
#[must_use]
pub fn event_type(before: &Subscription, after: &Subscription) -> AuditEvent {
    match after.status {
        status if status == before.status => {}
        Status::Trial => return AuditEvent::StatusTrial,
        Status::Active => return AuditEvent::StatusActive,
        Status::Grace => return AuditEvent::StatusGrace,
        Status::Suspended => return AuditEvent::StatusSuspended,
        Status::Expired => return AuditEvent::StatusExpired,
    }
    if after.plan_id != before.plan_id {
        AuditEvent::PlanChanged
    } else if after.device_limit != before.device_limit {
        AuditEvent::LimitChanged
    } else if after.term_end > before.term_end {
        AuditEvent::TermExtended
    } else if after.term_end < before.term_end {
        AuditEvent::TermShortened
    } else {
        AuditEvent::Updated
    }
}
