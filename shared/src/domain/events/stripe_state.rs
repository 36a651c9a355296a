//! What Stripe's state of a subscription means for ours: pure rules, no I/O, no clock
//! (docs/events.md, "Subscriptions").
//!
//! It is present state, never an event's content: applying it twice, late or after a newer event
//! of the same fact is harmless.

use jiff::Timestamp;

use crate::base::ids::{Currency, StripePriceId, StripeSubscriptionId};
use crate::domain::audit::model::AuditEvent;
use crate::domain::families::stripe_slots::StripeSlots;
use crate::domain::families::subscription::{
    GRACE, SHORTEST_GRACE, Status, StripeItem, StripeLink, Subscription,
};
use crate::domain::plans::model::Plan;

/// What a status of Stripe's is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusMapping {
    /// It is this status of ours.
    Status(Status),
    /// Ours stays; where there is none, none is made.
    Keep,
    /// Stripe has added it since. Never taken for active: ours stays, and a flag is raised.
    Unknown,
}

/// The one map of statuses (docs/events.md, "Status"). `ours` is none before the first row.
/// Reviewed as a table in `status_machine.txt`.
#[must_use]
pub fn map_status(stripe: &str, ours: Option<Status>) -> StatusMapping {
    match (stripe, ours) {
        ("active", _) => StatusMapping::Status(Status::Active),
        ("trialing", _) => StatusMapping::Status(Status::Trial),
        // Grace is given once: who has used it up pays first.
        ("past_due", Some(Status::Suspended | Status::Expired)) | ("incomplete", _) => {
            StatusMapping::Keep
        }
        ("past_due", None | Some(Status::Trial | Status::Active | Status::Grace)) => {
            StatusMapping::Status(Status::Grace)
        }
        ("unpaid" | "paused", _) => StatusMapping::Status(Status::Suspended),
        ("canceled" | "incomplete_expired", _) => StatusMapping::Status(Status::Expired),
        _ => StatusMapping::Unknown,
    }
}

/// When grace ends that began with this unpaid moment.
#[must_use]
pub fn grace_end(status: Status, unpaid_since: Timestamp) -> Option<Timestamp> {
    (status == Status::Grace).then(|| unpaid_since + GRACE)
}

/// Stripe's present state of a subscription, with its price and plan resolved.
#[derive(Debug, Clone)]
pub struct StripeState<'a> {
    /// As Stripe spells it.
    pub status: &'a str,
    /// When it was read.
    pub read_at: Timestamp,
    /// The present period of the plan's item, `[start, end)`, UTC.
    pub period: (Timestamp, Timestamp),
    /// The latest time for which nothing is due any more, or nothing yet: the present period, or
    /// one before; none where none is known.
    pub paid_term: Option<(Timestamp, Timestamp)>,
    /// In cents, where the invoice of that time was paid, and is not void, written off or due
    /// later.
    pub invoice_paid: Option<i64>,
    /// Since when the oldest open invoice is unpaid.
    pub unpaid_since: Timestamp,
    /// Until when a payment that is under way counts as one that comes; none where none is.
    pub pending_until: Option<Timestamp>,
    /// When Stripe will end it.
    pub cancel_at: Option<Timestamp>,
    /// Whether Stripe does not collect what it invoices.
    pub is_collection_paused: bool,
    /// What it is charged in.
    pub currency: Option<Currency>,
    /// The item that decides the plan.
    pub price: Option<&'a StripePriceId>,
    /// All items, by price.
    pub items: Vec<StripeItem>,
    /// What that item, or else the metadata, stands for; none where nothing resolves.
    pub plan: Option<&'a Plan>,
    /// How many of the plan are paid for.
    pub quantity: i32,
    /// Of an ADDON with items of its own: all of its slots.
    pub slots: Option<i32>,
}

impl StripeState<'_> {
    /// When grace ends that begins now. Who was told nothing while a payment was under way has a
    /// few days from its failure on.
    fn grace_end(&self, status: Status, before: Option<&StripeLink>) -> Option<Timestamp> {
        let end = grace_end(status, self.unpaid_since)?;
        let was_pending = before.is_some_and(|link| link.pending_until.is_some());
        Some(if was_pending { end.max(self.read_at + SHORTEST_GRACE) } else { end })
    }

    /// Whether neither what was paid nor what is under way reaches beyond the read. GRACE and
    /// SUSPENDED then stay, though Stripe says that it runs: only a payment ends them, so that
    /// grace is given once a delinquency.
    fn is_overdue(&self) -> bool {
        let ends = [self.paid_term.map(|(_, end)| end), self.pending_until];
        ends.into_iter().flatten().all(|end| end <= self.read_at)
    }

    /// What is kept of it with ours. What it does not say stays as it was.
    #[must_use]
    pub fn link(&self, id: &StripeSubscriptionId, before: Option<&StripeLink>) -> StripeLink {
        StripeLink {
            id: id.clone(),
            status: Some(self.status.to_owned()),
            price_id: self.price.cloned().or_else(|| before?.price_id.clone()),
            period_end: Some(self.period.1),
            paid_until: self.paid_term.map(|(_, end)| end).or_else(|| before?.paid_until),
            pending_until: self.pending_until,
            cancel_at: self.cancel_at,
            currency: self.currency.clone().or_else(|| before?.currency.clone()),
            collection_paused: self.is_collection_paused,
            items: self.items.clone(),
            slots: before.map_or_else(|| Some(StripeSlots::default()), |link| link.slots.clone()),
            sync: before.map_or(1, |before| before.sync),
        }
    }

    /// The subscription as this state makes it, version and counts untouched. Under a hold only
    /// what is kept of Stripe's state changes. `root` is an ADDON's parent.
    #[must_use]
    pub fn applied_to(&self, before: &Subscription, root: Option<&Subscription>) -> Subscription {
        let stripe = before.stripe.as_ref().map(|link| self.link(&link.id, Some(link)));
        let mut after = Subscription { stripe, ..before.clone() };
        if before.hold.is_some() {
            return after;
        }
        if let StatusMapping::Status(status) = map_status(self.status, Some(before.status))
            && !(matches!(before.status, Status::Grace | Status::Suspended)
                && matches!(status, Status::Active | Status::Trial)
                && self.is_overdue())
        {
            after.status = status;
            // Set once for each delinquency: a later snapshot of it makes it no longer.
            after.grace_end = before
                .grace_end
                .filter(|_| status == Status::Grace)
                .or_else(|| self.grace_end(status, before.stripe.as_ref()));
        }
        if let Some(paid) = self.paid_term {
            let (start, end) = root.map_or(paid, |root| root.term_of_addon(paid));
            if end > start {
                (after.term_start, after.term_end) = (start, end);
            }
        }
        match (self.plan, self.slots) {
            (_, Some(slots)) => after.device_limit = slots,
            (Some(plan), None)
                if before.plan_id.as_ref() != Some(&plan.plan_id)
                    || before.quantity != self.quantity =>
            {
                plan.give(&mut after, self.quantity);
            }
            _ => {}
        }
        after
    }
}

/// How the audit names what a sync changed: the first of these that is true. `is_paid`: it found
/// that an invoice was paid.
#[must_use]
pub fn event_type(before: &Subscription, after: &Subscription, is_paid: bool) -> AuditEvent {
    match after.status {
        Status::Expired if before.status != Status::Expired => {
            AuditEvent::StripeSubscriptionDeleted
        }
        Status::Grace if before.status != Status::Grace => AuditEvent::StripePaymentFailed,
        _ if after.plan_id != before.plan_id => AuditEvent::StripePlanChanged,
        _ if after.quantity != before.quantity => AuditEvent::PlanQuantityChanged,
        _ if is_paid => AuditEvent::StripeInvoicePaid,
        _ => AuditEvent::StripeSubscriptionUpdated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIPE: [&str; 10] = [
        "active",
        "trialing",
        "past_due",
        "unpaid",
        "paused",
        "canceled",
        "incomplete",
        "incomplete_expired",
        "ACTIVE",
        "brand_new",
    ];

    #[test]
    fn the_status_machine_is_the_reviewed_one() {
        let mut table = vec![
            "Stripe says          ours before → after (docs/events.md, \"Status\")".to_owned(),
        ];
        for stripe in STRIPE {
            for ours in [None].into_iter().chain(Status::ALL.iter().copied().map(Some)) {
                let after = match map_status(stripe, ours) {
                    StatusMapping::Status(status) => status.as_str(),
                    StatusMapping::Keep => "(stays)",
                    StatusMapping::Unknown => "(stays, flagged)",
                };
                table.push(format!(
                    "{stripe:<20} {:<9} → {after}",
                    ours.map_or("(none)", Status::as_str)
                ));
            }
        }
        assert_eq!(table, include_str!("status_machine.txt").lines().collect::<Vec<_>>());
    }
}
