//! A row of the trail, and the filter with which operators list it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::base::caller::Person;
use crate::base::fields::{DateTime, Param, Text};
use crate::base::ids::{
    DeviceId, PlanId, StripeEventId, StripeSubscriptionId, SubscriptionId, TenantId,
};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::{request, words};

/// One change (docs/operations.md, "Audit").
#[derive(Debug, Clone, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct AuditRow {
    pub id: i64,
    pub event_timestamp: Timestamp,
    // As text, so that a row with a word that this version does not know can be read.
    #[schema(value_type = AuditEvent)]
    pub event_type: String,
    pub tenant_id: Option<String>,
    pub subscription_id: Option<String>,
    pub device_id: Option<String>,
    pub actor_type: ActorType,
    /// The `sub` of the caller's token, or the name of the part of the system.
    pub actor_id: String,
    /// Where the request came from.
    pub ip_address: Option<String>,
    pub stripe_event_id: Option<String>,
    // As it is kept: a list reads what it only hands on no further.
    #[schema(value_type = Option<Value>)]
    pub previous_state: Option<Box<RawValue>>,
    #[schema(value_type = Option<Value>)]
    pub new_state: Option<Box<RawValue>>,
    #[schema(value_type = Option<Value>)]
    pub details: Option<Box<RawValue>>,
}

words! {
    /// Who acted.
    pub enum ActorType {
        /// Stripe, the outbox or the hourly run.
        System = "system",
        /// Platform staff.
        Admin = "admin",
        /// A user of the tenant.
        Customer = "customer",
        /// Another backend.
        Service = "service",
    }
}

words! {
    /// What a row tells of: each is on the page of its noun (docs/operations.md, "Audit"). None is
    /// ever taken away, because rows stay.
    #[expect(missing_docs, reason = "the pages of docs/ say of each when it is written")]
    pub enum AuditEvent {
        PlanCreated = "PLAN_CREATED",
        PlanUpdated = "PLAN_UPDATED",
        PlanTierDefaultsSet = "PLAN_TIER_DEFAULTS_SET",
        PriceMoved = "PRICE_MOVED",
        PriceCurrencyCorrected = "PRICE_CURRENCY_CORRECTED",
        DeviceTierCreated = "DEVICE_TIER_CREATED",
        DeviceTierUpdated = "DEVICE_TIER_UPDATED",
        TenantProvisioned = "TENANT_PROVISIONED",
        TenantCreated = "TENANT_CREATED",
        TenantUpdated = "TENANT_UPDATED",
        TenantDeleted = "TENANT_DELETED",
        TenantErased = "TENANT_ERASED",
        OrganizationUpdated = "ORGANIZATION_UPDATED",
        UserCreated = "USER_CREATED",
        UserUpdated = "USER_UPDATED",
        UserEnabled = "USER_ENABLED",
        UserDisabled = "USER_DISABLED",
        KeycloakOrganizationSet = "KEYCLOAK_ORGANIZATION_SET",
        WelcomeEmailSent = "WELCOME_EMAIL_SENT",
        SubscriptionCreated = "SUBSCRIPTION_CREATED",
        StatusTrial = "STATUS_TRIAL",
        StatusActive = "STATUS_ACTIVE",
        StatusGrace = "STATUS_GRACE",
        StatusSuspended = "STATUS_SUSPENDED",
        StatusExpired = "STATUS_EXPIRED",
        PlanChanged = "PLAN_CHANGED",
        LimitChanged = "LIMIT_CHANGED",
        TermExtended = "TERM_EXTENDED",
        TermShortened = "TERM_SHORTENED",
        Updated = "UPDATED",
        PlanUnresolved = "PLAN_UNRESOLVED",
        AddonOrdered = "ADDON_ORDERED",
        AddonOrderPaid = "ADDON_ORDER_PAID",
        AddonOrderExpired = "ADDON_ORDER_EXPIRED",
        TierAllocationCreated = "TIER_ALLOCATION_CREATED",
        TierAllocationUpdated = "TIER_ALLOCATION_UPDATED",
        TierAllocationDeleted = "TIER_ALLOCATION_DELETED",
        TierAllocationsSynced = "TIER_ALLOCATIONS_SYNCED",
        TierSlotsReconciled = "TIER_SLOTS_RECONCILED",
        DeviceRegistered = "DEVICE_REGISTERED",
        DeviceUpdated = "DEVICE_UPDATED",
        DeviceTierAssigned = "DEVICE_TIER_ASSIGNED",
        DeviceTierRemoved = "DEVICE_TIER_REMOVED",
        DeviceReassigned = "DEVICE_REASSIGNED",
        DeviceDecommissioned = "DEVICE_DECOMMISSIONED",
        OperatorTierAssignment = "OPERATOR_TIER_ASSIGNMENT",
        StripeCheckoutCompleted = "STRIPE_CHECKOUT_COMPLETED",
        StripeSubscriptionDeleted = "STRIPE_SUBSCRIPTION_DELETED",
        StripePaymentFailed = "STRIPE_PAYMENT_FAILED",
        StripePlanChanged = "STRIPE_PLAN_CHANGED",
        PlanQuantityChanged = "PLAN_QUANTITY_CHANGED",
        StripeInvoicePaid = "STRIPE_INVOICE_PAID",
        StripeSubscriptionUpdated = "STRIPE_SUBSCRIPTION_UPDATED",
        StripePaymentActionRequired = "STRIPE_PAYMENT_ACTION_REQUIRED",
        StripeFinalizationFailed = "STRIPE_FINALIZATION_FAILED",
        StripeChargeRefunded = "STRIPE_CHARGE_REFUNDED",
        StripeDisputeCreated = "STRIPE_DISPUTE_CREATED",
        StripeDisputeClosed = "STRIPE_DISPUTE_CLOSED",
        StripeCustomerDeleted = "STRIPE_CUSTOMER_DELETED",
        StripeSubscriptionAdopted = "STRIPE_SUBSCRIPTION_ADOPTED",
        StripeDriftRepaired = "STRIPE_DRIFT_REPAIRED",
        StripeBackfill = "STRIPE_BACKFILL",
        StripeEventReplayed = "STRIPE_EVENT_REPLAYED",
        StripeEventDismissed = "STRIPE_EVENT_DISMISSED",
        StripeCustomerUpdated = "STRIPE_CUSTOMER_UPDATED",
        StripeAddonQuantitySet = "STRIPE_ADDON_QUANTITY_SET",
        StripeCancelRequested = "STRIPE_CANCEL_REQUESTED",
        StripeSubscriptionCancelled = "STRIPE_SUBSCRIPTION_CANCELLED",
        MailSent = "MAIL_SENT",
        ProvisioningRetried = "PROVISIONING_RETRIED",
        ProvisioningDismissed = "PROVISIONING_DISMISSED",
        RenewalRunRequested = "RENEWAL_RUN_REQUESTED",
        RenewalBreakerApproved = "RENEWAL_BREAKER_APPROVED",
        FlagResolved = "FLAG_RESOLVED",
    }
}

request! {
    /// Which rows to list.
    pub struct AuditFilter {
        tenant_id: Option<TenantId> = None,
        subscription_id: Option<SubscriptionId> = None,
        device_id: Option<DeviceId> = None,
        event_type: Option<AuditEvent> = None,
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

/// What Stripe said, as far as it is known: each row that it caused has it in its details.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StripeCause<'a> {
    /// The Stripe subscription, and its status at Stripe.
    pub subscription: Option<(&'a StripeSubscriptionId, &'a str)>,
    /// The plan that the Stripe subscription pays for.
    pub plan: Option<&'a PlanId>,
    /// The invoice that the event is about, or that the checkout paid.
    pub invoice: Option<&'a str>,
}

impl StripeCause<'_> {
    /// The details with it. A field that they have of their own stays.
    fn added_to(self, details: Option<Value>) -> Option<Value> {
        let mut known = Map::new();
        if let Some((id, status)) = self.subscription {
            known.insert("stripe_sub_id".to_owned(), json!(id));
            known.insert("status".to_owned(), json!(status));
            known.insert("plan_id".to_owned(), json!(self.plan));
        }
        if let Some(invoice) = self.invoice {
            known.insert("invoice_id".to_owned(), json!(invoice));
        }
        match details {
            None if known.is_empty() => None,
            None => Some(known.into()),
            Some(Value::Object(own)) => {
                known.extend(own);
                Some(known.into())
            }
            other => other,
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// Stripe, by an event or by its present state.
    Stripe(StripeCause<'a>),
    /// The outbox.
    Outbox,
    /// The hourly run.
    Renewal,
    /// Platform staff.
    Operator(&'a Person),
    /// A user of a tenant.
    Customer(&'a Person),
}

impl<'a> Actor<'a> {
    /// Stripe by this invoice, if one is given.
    #[must_use]
    pub fn by_invoice(self, invoice: Option<&'a str>) -> Self {
        match self {
            Self::Stripe(cause) => {
                Self::Stripe(StripeCause { invoice: invoice.or(cause.invoice), ..cause })
            }
            other => other,
        }
    }

    /// The `sub` of a person, or the name of the part of the system.
    #[must_use]
    pub fn id(self) -> &'a str {
        match self {
            Self::Stripe(_) => "stripe",
            Self::Outbox => "outbox",
            Self::Renewal => "renewal",
            Self::Operator(person) | Self::Customer(person) => &person.id,
        }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When, UTC.
    pub at: Timestamp,
    /// What it tells of.
    pub event_type: AuditEvent,
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
    pub fn new(event_type: AuditEvent, actor: Actor<'a>, at: Timestamp) -> Self {
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

    /// The details as they are stored.
    pub(super) fn details(&self) -> Option<Value> {
        match self.actor {
            Actor::Stripe(cause) => cause.added_to(self.details.clone()),
            _ => self.details.clone(),
        }
    }
}
