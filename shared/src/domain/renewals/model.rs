//! What the hourly run decides for one subscription: pure rules, no I/O, no clock
//! (docs/renewals.md). A day is 24 hours, and an instant that is exactly reached has come.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::fields::{DateTime, Int, Param};
use crate::base::ids::{SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::domain::audit::model::AuditEvent;
use crate::domain::families::subscription::{
    GRACE, SHORTEST_GRACE, Status, Subscription, SubscriptionType,
};
use crate::domain::mails::model::MailKind;
use crate::{request, words};

/// How long after the end of a term Stripe's event is waited for, before the subscription is read
/// from Stripe.
pub const PATIENCE: SignedDuration = SignedDuration::from_hours(72);

/// A term that renews by itself and is shorter has no notices: they would come every month.
const NOTICED_TERM: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Which notice a subscription gets before its term ends, and when the next is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticePlan {
    /// Due now: the nearest one that is reached, whichever were missed before it.
    pub notice: Option<MailKind>,
    /// When the next is due; none: nothing more is due in this term.
    pub next: Option<Timestamp>,
}

/// The notice that is due at `now`, and when the next one is. Whether one was sent before does
/// not matter: each has one step a term.
#[must_use]
pub fn plan_notice(subscription: &Subscription, now: Timestamp) -> NoticePlan {
    let Subscription { term_start, term_end, .. } = *subscription;
    let term = term_start.duration_until(term_end);
    // A threshold counts where it is at most half the term: the first days of a term are no time to
    // speak of its end.
    let counted = MailKind::RENEWALS.into_iter().filter_map(|kind| {
        let before = SignedDuration::from_hours(24 * kind.days()?);
        (before * 2 <= term).then(|| (kind, term_end - before))
    });
    let (reached, ahead): (Vec<_>, Vec<_>) = counted.partition(|(_, at)| *at <= now);
    let silent = renews_by_itself(subscription)
        && (term < NOTICED_TERM || is_collection_paused(subscription));
    let notice = reached.last().map(|(kind, _)| *kind).filter(|_| now < term_end && !silent);
    NoticePlan { notice, next: ahead.first().map(|(_, at)| *at) }
}

/// Whether Stripe goes on charging for it when its term ends.
#[must_use]
pub fn renews_by_itself(subscription: &Subscription) -> bool {
    subscription.is_stripe_managed()
        && subscription
            .stripe
            .as_ref()
            .and_then(|stripe| stripe.cancel_at)
            .is_none_or(|at| at > subscription.term_end)
}

fn is_collection_paused(subscription: &Subscription) -> bool {
    subscription.stripe.as_ref().is_some_and(|stripe| stripe.collection_paused)
}

/// The subscription as the run leaves it at `now`; none where nothing is due, or it must be synced
/// with Stripe first. `is_refreshed`: it was synced with Stripe in this run.
#[must_use]
pub fn change_due(
    subscription: &Subscription,
    now: Timestamp,
    is_refreshed: bool,
) -> Option<Subscription> {
    next_change(subscription)
        .filter(|(at, _)| *at <= now && (is_refreshed || !subscription.is_stripe_managed()))?;
    let (status, grace_end) = match (subscription.status, subscription.subscription_type) {
        (Status::Grace, _) => (Status::Suspended, None),
        (_, SubscriptionType::Trial | SubscriptionType::Temporary) => (Status::Expired, None),
        (_, SubscriptionType::Main | SubscriptionType::Addon) => {
            (Status::Grace, Some((subscription.term_end + GRACE).max(now + SHORTEST_GRACE)))
        }
    };
    Some(Subscription {
        status,
        grace_end,
        version: subscription.version + 1,
        updated_at: now,
        ..subscription.clone()
    })
}

/// How the audit names it, and the mail that tells of it, with the instant that this is about.
#[must_use]
pub fn describe_change(
    before: &Subscription,
    after: &Subscription,
) -> (AuditEvent, MailKind, Timestamp) {
    match after.status {
        Status::Suspended => (
            AuditEvent::StatusSuspended,
            MailKind::Suspended,
            before.grace_end.unwrap_or(before.term_end),
        ),
        Status::Expired => (AuditEvent::StatusExpired, MailKind::Expired, after.term_end),
        Status::Grace | Status::Active | Status::Trial => {
            (AuditEvent::StatusGrace, MailKind::Grace, after.grace_end.unwrap_or(after.term_end))
        }
    }
}

words! {
    /// What will become of a subscription.
    pub enum Change {
        /// Stripe charges for the next term, and says so.
        Renewal = "renewal",
        /// The payment of the next term is under way.
        Payment = "payment",
        /// Stripe goes on without collecting, as an operator chose.
        PausedRenewal = "paused_renewal",
        /// Stripe ends it, as the customer or an operator asked.
        Cancellation = "cancellation",
        /// Nobody has paid for a next term: access for a last time.
        Grace = "grace",
        /// Grace has run out.
        Suspension = "suspension",
        /// A trial, or what was for a time, is over.
        Expiry = "expiry",
    }
}

impl Change {
    /// In a sentence, for operators.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Renewal => {
                "Stripe renews it at the end of the term. Without Stripe's word for 72 hours \
                 Stripe is asked, and without a payment it gets grace."
            }
            Self::Payment => {
                "Its term is over and its payment is under way: Stripe has sent the invoice and \
                 has neither got the money nor been refused it. It keeps access meanwhile. \
                 Without an outcome in time Stripe is asked, and it gets grace."
            }
            Self::PausedRenewal => {
                "Collection is paused at Stripe: it goes on from period to period without being \
                 charged, until an operator resumes the collection."
            }
            Self::Cancellation => "It is cancelled at Stripe, which ends it then.",
            Self::Grace => {
                "Its term ends, and nobody renews it by itself: an operator does, or it gets grace."
            }
            Self::Suspension => "Its grace ends.",
            Self::Expiry => "It is for a time, which ends.",
        }
    }
}

/// What changes a subscription next by itself, and when the run does so at the earliest; none where
/// nothing does.
#[must_use]
pub fn next_change(subscription: &Subscription) -> Option<(Timestamp, Change)> {
    // An ADDON's term is cut to its parent's: what it has paid for at Stripe may go on, also under
    // a hold.
    let paid =
        subscription.stripe_paid_until().filter(|_| subscription.parent_subscription_id.is_some());
    let end = paid.map_or(subscription.term_end, |paid| paid.max(subscription.term_end));
    let pending = subscription.stripe.as_ref().and_then(|stripe| stripe.pending_until);
    match subscription.status {
        Status::Suspended | Status::Expired => None,
        Status::Grace => subscription.grace_end.map(|end| (end, Change::Suspension)),
        // It ends with its parent, and has access as long as that has.
        Status::Active | Status::Trial
            if subscription.parent_subscription_id.is_some() && subscription.stripe.is_none() =>
        {
            None
        }
        Status::Active | Status::Trial if subscription.is_stripe_managed() => {
            let change = match pending {
                _ if !renews_by_itself(subscription) => Change::Cancellation,
                Some(_) => Change::Payment,
                None if is_collection_paused(subscription) => Change::PausedRenewal,
                None => Change::Renewal,
            };
            Some((pending.map_or(end, |pending| pending.max(end)) + PATIENCE, change))
        }
        Status::Active | Status::Trial => {
            let for_a_time = matches!(
                subscription.subscription_type,
                SubscriptionType::Trial | SubscriptionType::Temporary
            );
            Some((end, if for_a_time { Change::Expiry } else { Change::Grace }))
        }
    }
}

/// What will become of a subscription, and which notices it gets before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Forecast {
    /// Which.
    pub subscription_id: SubscriptionId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Its tenant's.
    pub tenant_name: String,
    /// As it is.
    pub subscription_type: SubscriptionType,
    /// As it is.
    pub status: Status,
    /// When: the end of its term or of its grace.
    pub at: Timestamp,
    /// What.
    pub change: Change,
    /// Why.
    pub why: &'static str,
    /// The mails before, those that were skipped aside.
    pub notices: Vec<ForecastNotice>,
}

/// What will become of an own subscription, as its customer reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Upcoming {
    /// Which.
    pub subscription_id: SubscriptionId,
    /// As it is.
    pub subscription_type: SubscriptionType,
    /// As it is.
    pub status: Status,
    /// When: the end of its term or of its grace.
    pub at: Timestamp,
    /// What.
    pub change: Change,
    /// The mails before, those that were skipped aside.
    pub notices: Vec<ForecastNotice>,
}

impl From<Forecast> for Upcoming {
    fn from(forecast: Forecast) -> Self {
        let Forecast { subscription_id, subscription_type, status, at, change, notices, .. } =
            forecast;
        Self { subscription_id, subscription_type, status, at, change, notices }
    }
}

/// A mail that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ForecastNotice {
    /// Which.
    pub kind: MailKind,
    /// When, at the earliest.
    pub at: Timestamp,
}

impl Forecast {
    /// Of these subscriptions, with their tenants' names.
    #[must_use]
    pub fn all(rows: Vec<(Subscription, String)>, now: Timestamp) -> Vec<Self> {
        let rows = rows.into_iter();
        rows.filter_map(|(subscription, tenant)| Self::of(&subscription, tenant, now)).collect()
    }

    /// What it is ordered by.
    #[must_use]
    pub fn key(&self) -> (Timestamp, SubscriptionId) {
        (self.at, self.subscription_id.clone())
    }

    /// What is known at `now`; none where nothing happens by itself.
    #[must_use]
    pub fn of(subscription: &Subscription, tenant_name: String, now: Timestamp) -> Option<Self> {
        let (_, change) = next_change(subscription)?;
        let at = subscription.grace_end.unwrap_or(subscription.term_end);
        let mut notices = Vec::new();
        let mut next = plan_notice(subscription, now).next.filter(|_| {
            subscription.parent_subscription_id.is_none() && subscription.status != Status::Grace
        });
        while let Some(instant) = next {
            let then = plan_notice(subscription, instant);
            notices.extend(then.notice.map(|kind| ForecastNotice { kind, at: instant }));
            next = then.next;
        }
        let Subscription { subscription_id, tenant_id, subscription_type, status, .. } =
            subscription.clone();
        Some(Self {
            subscription_id,
            tenant_id,
            tenant_name,
            subscription_type,
            status,
            at,
            change,
            why: change.why(),
            notices,
        })
    }
}

request! {
    /// How far to look ahead.
    pub struct ForecastFilter {
        /// What happens within so many days from now, or is overdue; 30 where it is absent.
        within_days: Option<Param<Int<0, 3660>>> = None,
        tenant_id: Option<TenantId> = None,
        subscription_id: Option<SubscriptionId> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// A run that an operator requests.
    pub struct RunRequest {
        /// Only says what a run would do; so where it is absent.
        dry_run: bool = true,
        /// As if it were this instant: with `dry_run`, or where nothing is real.
        as_of: Option<DateTime> = None,
    }
}

/// How many may lose access within a day before an operator must approve.
#[must_use]
pub fn is_too_many(due: i64, live: i64) -> bool {
    due > 10 && due * 20 > live
}

/// An operator's approval that so many may lose access, as far as it is not used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// Which.
    pub id: i64,
    /// How many more.
    pub left: i64,
}

/// How a run is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Changes nothing.
    pub dry_run: bool,
    /// As if it were this instant.
    pub as_of: Option<Timestamp>,
    /// By whom; none: the schedule.
    pub requested_by: Option<String>,
}

/// Why a run did not take access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Breaker {
    /// How many would get grace, or lose access, with those of the last day.
    pub due: i64,
    /// Of so many that have access, or more.
    pub live: i64,
    /// What an operator's approval still allows.
    pub approved: i64,
}

/// What a run left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Remaining {
    /// Changes.
    #[serde(flatten)]
    pub changes: Counts,
    /// Subscriptions whose notices are to be looked at.
    pub notices: i64,
}

/// A change that a run would make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Announced {
    /// Which.
    pub subscription_id: SubscriptionId,
    /// Whose.
    pub tenant_id: TenantId,
    /// What it would become.
    pub status: Status,
    /// Up to when it would have access.
    pub grace_end: Option<Timestamp>,
}

/// How many are due by now, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// Of TRIAL and TEMPORARY subscriptions.
    pub expiries: i64,
    /// Of others.
    pub graces: i64,
    /// Graces that have ended.
    pub suspensions: i64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn all(self) -> i64 {
        self.expiries + self.graces + self.suspensions
    }
}
