//! The kinds of step, when a step is tried again, and steps as operators read and handle them.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::base::fields::{Email, Name, Note, Param};
use crate::base::ids::{StripeSubscriptionId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::{request, words};

/// The lease: how long a worker may hold a step. It is longer than all timeouts of one step
/// together.
pub const LEASE: SignedDuration = SignedDuration::from_secs(120);

/// How long a step is tried before an operator must look: longer than any outage that ends without
/// help.
pub const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(72);

words! {
    /// What a step does (docs/events.md, "Outbox").
    pub enum StepKind {
        /// Makes the user of a tenant's admin.
        NewAccount = "keycloak_user",
        /// Has Keycloak send that user a mail.
        WelcomeMail = "welcome_mail",
        /// Makes a tenant's organization, with its users as members.
        Organization = "keycloak_organization",
        /// Ends a Stripe subscription at once.
        StripeCancel = "stripe_cancel",
        /// Sets the quantity of a slot's item.
        StripeAddonQuantity = "stripe_addon_quantity",
        /// Writes a tenant's profile to its Stripe customer.
        StripeCustomer = "stripe_customer",
        /// Syncs a subscription with Stripe.
        StripeSync = "stripe_sync",
        /// Sends a mail (docs/mail.md).
        Mail = "mail",
    }

    /// A part of a Stripe customer that follows a tenant's profile.
    pub enum CustomerField {
        /// The company's name.
        Name = "name",
        /// The billing mail address.
        Email = "email",
        /// The phone.
        Phone = "phone",
        /// The whole address.
        Address = "address",
    }

    /// How far a step is.
    pub enum StepStatus {
        /// Waits for its next attempt.
        Pending = "pending",
        /// Done.
        Done = "done",
        /// Given up: it waits for an operator.
        Failed = "failed",
        /// Ended by an operator without being done.
        Dismissed = "dismissed",
    }
}

impl Retry {
    /// What is given, by the names of the payload.
    pub(super) fn replaced(self) -> Map<String, Value> {
        let given = [
            ("email", self.email.map(Email::into_string)),
            ("first_name", self.first_name.map(Name::into_string)),
            ("last_name", self.last_name.map(Name::into_string)),
        ];
        let fields = given.into_iter();
        fields.filter_map(|(field, text)| Some((field.to_owned(), text?.into()))).collect()
    }
}

impl StepStatus {
    /// Whether nothing changes it any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dismissed)
    }
}

/// Whether mails are claimed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailLane {
    /// Mails are claimed, after everything else.
    Open,
    /// The mail server is away: mails wait for the next run.
    Resting,
}

/// The subscription that a `stripe_cancel` step ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StripeCancel {
    /// Its id at Stripe.
    pub stripe_subscription_id: StripeSubscriptionId,
    /// Its id here, for the audit.
    pub subscription_id: SubscriptionId,
}

/// The subscription that a `stripe_sync` step syncs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StripeSync {
    /// Its id at Stripe.
    pub stripe_subscription_id: StripeSubscriptionId,
}

/// The family for whose slots a `stripe_addon_quantity` step has Stripe charge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddonQuantity {
    /// The root of the family.
    pub subscription_id: SubscriptionId,
}

/// What a `stripe_customer` step writes; the values are read when it is performed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StripeCustomer {
    /// The fields that changed here.
    pub fields: Vec<CustomerField>,
}

/// A mail to insert as a step.
#[derive(Debug, Clone, PartialEq)]
pub struct MailStep<'a> {
    /// The tenant that gets it; `None` for the operators' digest.
    pub tenant: Option<&'a TenantId>,
    /// The dedup key: a second insert is the same step.
    pub key: String,
    /// What `mails::send` reads.
    pub payload: Value,
}

/// A step, and how it went so far.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of the same names")]
pub struct StepRow {
    pub step_id: i64,
    pub kind: StepKind,
    /// The tenant that it is for; the operators' digest has none.
    pub tenant_id: Option<TenantId>,
    pub status: StepStatus,
    /// Attempts so far.
    pub attempts: i32,
    /// When a pending step is due, if its predecessor is done.
    pub next_attempt_at: Timestamp,
    /// The error of the last attempt that failed.
    pub last_error: Option<String>,
    /// The step that must be done before this one.
    pub after_step_id: Option<i64>,
    /// What the step needs: the admin's mail address and name, or ids. Never a secret.
    #[schema(value_type = Object)]
    pub payload: Value,
    /// What it did, once it is done.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

request! {
    /// Which steps to list.
    pub struct StepFilter {
        tenant_id: Option<TenantId> = None,
        kind: Option<StepKind> = None,
        status: Option<StepStatus> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// How to try a step again: what is given replaces that field of a `keycloak_user` step.
    pub struct Retry {
        /// The user's mail address.
        email: Option<Email> = None,
        first_name: Option<Name> = None,
        last_name: Option<Name> = None,
    }

    /// How a step ends without being done.
    pub struct Dismissal {
        /// Why it need not be done.
        note: Note,
    }
}

/// The wait after a step's nth attempt failed: 5 s, doubled each time, at most 15 minutes.
#[must_use]
pub fn backoff(attempts: i32) -> SignedDuration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(0).min(10);
    SignedDuration::from_secs((5_i64 << doublings).min(15 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_quarter_of_an_hour() {
        let seconds: Vec<i64> = [0, 1, 2, 3, 8, 9, 1000, i32::MAX]
            .into_iter()
            .map(|attempts| backoff(attempts).as_secs())
            .collect();
        assert_eq!(seconds, [5, 5, 10, 20, 640, 900, 900, 900]);
    }
}
