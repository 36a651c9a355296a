//! What is looked for, and what is found.

use serde::Serialize;
use utoipa::ToSchema;

use crate::base::fields::{Int, Param, Text};
use crate::base::ids::TenantId;
use crate::{request, words};

request! {
    /// What to look for.
    pub struct SearchRequest {
        /// A whole id, of ours or of Stripe's, or a whole mail address; or beginnings of words of a
        /// company's name.
        q: Text<1, 254>,
        /// How many of each kind; 10 where it is absent.
        limit: Option<Param<Int<1, 50>>> = None,
    }
}

words! {
    /// What was found.
    pub enum HitKind {
        /// By its id, name, mail address or Stripe customer.
        Tenant = "tenant",
        /// By its id or that of its Stripe subscription.
        Subscription = "subscription",
        /// By its id, of whichever tenant.
        Device = "device",
        /// By its id.
        StripeEvent = "stripe_event",
    }
}

words! {
    /// By what it was found.
    #[expect(missing_docs, reason = "the columns of the same names")]
    pub enum Matched {
        TenantId = "tenant_id",
        Email = "email",
        StripeCustomerId = "stripe_customer_id",
        Name = "name",
        SubscriptionId = "subscription_id",
        StripeSubscriptionId = "stripe_subscription_id",
        DeviceId = "device_id",
        EventId = "event_id",
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Hit {
    /// What it is.
    pub kind: HitKind,
    /// Its id.
    pub id: String,
    /// Whose it is; none of an event of no tenant.
    pub tenant_id: Option<TenantId>,
    /// What people call it.
    pub title: String,
    /// By what it was found.
    pub matched: Matched,
}
