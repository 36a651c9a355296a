//! A subscription: its states, and what an operator may change of it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::codes::ProblemCode;
use crate::base::fields::{Change, Count, DateTime, Description, Int, Note, Param};
use crate::base::ids::{PlanId, StripeSubscriptionId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::base::version::Versioned;
use crate::domain::allocations::model::AllocationView;
use crate::domain::audit::model::AuditEvent;
use crate::domain::devices::model::Device;
use crate::domain::families::family::Family;
use crate::domain::families::subscription::{
    GRACE, Hold, Status, Subscription, SubscriptionType, TRIAL,
};
use crate::domain::plans::model::Plan;
use crate::{Error, Result, request, update, words};

words! {
    /// What an operator's change of a Stripe-managed subscription means for Stripe.
    pub enum Mode {
        /// Ours counts; Stripe's state is kept and not applied until the hold is released.
        Hold = "hold",
        /// Stripe is asked to cancel, and the sync that follows changes ours.
        Stripe = "stripe",
    }
}

request! {
    /// A subscription to create.
    pub struct NewSubscription {
        tenant_id: TenantId,
        subscription_type: SubscriptionType,
        device_limit: Int<1, 1_000_000_000>,
        /// Now where it is absent.
        term_start: Option<DateTime> = None,
        /// Not together with `term_days`. An ADDON ends with its parent whatever is said here.
        term_end: Option<DateTime> = None,
        term_days: Option<Int<1, 3660>> = None,
        /// The live MAIN that an ADDON belongs to.
        parent_subscription_id: Option<SubscriptionId> = None,
        plan_id: Option<PlanId> = None,
        description: Option<Description> = None,
        /// For the audit.
        notes: Option<Note> = None,
        /// For the audit: a wire transfer, an invoice.
        transaction_ref: Option<Note> = None,
    }

    /// Which subscriptions.
    pub struct SubscriptionFilter {
        tenant_id: Option<TenantId> = None,
        subscription_type: Option<SubscriptionType> = None,
        status: Option<Status> = None,
        plan_id: Option<PlanId> = None,
        stripe_subscription_id: Option<StripeSubscriptionId> = None,
        /// ACTIVE ones whose term ends within so many days from now, or has ended.
        expiring_days: Option<Param<Int<0, 36_500>>> = None,
        /// Of any status, whose term ends at this time or later.
        ends_from: Option<DateTime> = None,
        /// Of any status, whose term ends before this time.
        ends_to: Option<DateTime> = None,
        /// Only those under a hold.
        held: Param<bool> = Param(false),
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// How to end a subscription.
    pub struct Ending {
        /// Ends it although devices are on it; they stay assigned.
        force: Param<bool> = Param(false),
        /// For a Stripe-managed one: `hold` ends ours only, `stripe` has Stripe cancel.
        mode: Option<Mode> = None,
        /// Why; required with `mode=hold`.
        reason: Option<Note> = None,
        /// Says what would be done, and changes nothing.
        dry_run: Param<bool> = Param(false),
    }
}

update! {
    /// What of a subscription to change. What is absent stays; `null` clears what may be empty.
    pub struct SubscriptionUpdate {
        device_limit: Count,
        term_end: DateTime,
        status: Status,
        /// When GRACE ends; 14 days from now where it is absent.
        grace_end: DateTime,
        plan_id: PlanId,
        description: Option<Description>,
        /// `false` releases a hold, `true` begins one without another change.
        hold: bool,
        /// For a Stripe-managed one: `hold`.
        mode: Mode,
        /// Why; required where a hold begins.
        hold_reason: Note,
        /// For the audit.
        notes: Note,
        /// For the audit: a wire transfer, an invoice.
        transaction_ref: Note,
    }
}

/// Refuses a request that names two ends.
///
/// # Errors
/// `Invalid`.
pub fn only_one_end(new: &NewSubscription) -> Result<()> {
    match (new.term_end, new.term_days) {
        (Some(_), Some(_)) => Err(Error::invalid("term_days", "cannot be combined with term_end")),
        _ => Ok(()),
    }
}

/// The term of a new subscription that has no parent.
///
/// # Errors
/// `Invalid`, naming the field; `term_required`.
pub fn first_term(new: &NewSubscription, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
    only_one_end(new)?;
    let start = new.term_start.map_or(now, DateTime::get);
    let end = match (new.term_end, new.term_days) {
        (Some(end), _) => end.get(),
        (None, Some(days)) => start + SignedDuration::from_hours(24 * days.get()),
        (None, None) if new.subscription_type == SubscriptionType::Trial => start + TRIAL,
        (None, None) => {
            return Err(Error::malformed(
                "term_required",
                "term_end or term_days required for non-TRIAL subscriptions",
            ));
        }
    };
    if end <= start {
        return Err(Error::invalid("term_end", "must be after term_start"));
    }
    Ok((start, end))
}

impl SubscriptionUpdate {
    /// Whether it would change anything but the audit.
    #[must_use]
    pub fn only_explains(&self) -> bool {
        let Self {
            device_limit,
            term_end,
            status,
            grace_end,
            plan_id,
            description,
            hold,
            mode: _,
            hold_reason: _,
            notes: _,
            transaction_ref: _,
        } = self;
        !(device_limit.is_set()
            || term_end.is_set()
            || status.is_set()
            || grace_end.is_set()
            || plan_id.is_set()
            || description.is_set()
            || hold.is_set())
    }

    /// The subscription as it would be. `plan` is the one that the update names.
    ///
    /// # Errors
    /// `Invalid`, naming the field; `addon_term`, `stripe_managed`.
    pub fn applied_to(
        self,
        before: &Subscription,
        root_end: Timestamp,
        plan: Option<&Plan>,
        by: &str,
        now: Timestamp,
    ) -> Result<Subscription> {
        let mut after = before.clone();
        self.decide_hold(&mut after, by, now)?;
        if before.subscription_type == SubscriptionType::Addon && self.term_end.is_set() {
            return Err(Error::malformed(
                "addon_term",
                "An ADDON ends with its parent. Change the term_end of the parent.",
            ));
        }
        if after.is_stripe_managed()
            && (self.status.is_set() || self.term_end.is_set() || self.plan_id.is_set())
        {
            return Err(stripe_managed());
        }
        let (checks_term, status_named) =
            (self.status.is_set() || self.term_end.is_set(), self.status.is_set());
        let grace_end = match self.grace_end {
            Change::Set(end) => Some(end.get()),
            Change::Keep => None,
        };
        if let (Some(plan), true) = (plan, self.plan_id.is_set())
            && before.plan_id.as_ref() != Some(&plan.plan_id)
        {
            plan.give(&mut after, before.quantity);
        }
        self.device_limit.apply(&mut after.device_limit, Count::get_i32);
        self.term_end.apply(&mut after.term_end, DateTime::get);
        self.status.apply(&mut after.status, |status| status);
        self.description.apply(&mut after.description, |text| text.map(Description::into_string));
        let mut checks_term = checks_term;
        if before.subscription_type == SubscriptionType::Addon
            && !before.status.is_live()
            && after.status.is_live()
            && after.stripe.is_none()
        {
            // Its parent's term may have moved while it was over.
            (after.term_end, checks_term) = (root_end, true);
        }
        let field = if status_named { "status" } else { "term_end" };
        if after.term_end <= after.term_start {
            return Err(Error::invalid(
                if before.subscription_type == SubscriptionType::Addon {
                    field
                } else {
                    "term_end"
                },
                "needs a term_end after term_start",
            ));
        }
        if checks_term
            && matches!(after.status, Status::Active | Status::Trial)
            && after.term_end <= now
        {
            return Err(Error::invalid(
                field,
                format!(
                    "needs a term_end in the future: the subscription is {}",
                    after.status.as_str()
                ),
            ));
        }
        after.grace_end = match (after.status, grace_end) {
            (Status::Grace, Some(end)) if end <= now => {
                return Err(Error::invalid("grace_end", "must be in the future"));
            }
            (Status::Grace, Some(end)) => Some(end),
            (Status::Grace, None) => before.grace_end.or(Some(now + GRACE)),
            (_, Some(_)) => return Err(Error::invalid("grace_end", "belongs to the status GRACE")),
            (_, None) => None,
        };
        Ok(after)
    }

    fn decide_hold(&self, after: &mut Subscription, by: &str, now: Timestamp) -> Result<()> {
        let wanted = match (&self.hold, &self.mode) {
            (Change::Set(hold), _) => Some(*hold),
            (Change::Keep, Change::Set(Mode::Hold)) => Some(true),
            (Change::Keep, Change::Set(Mode::Stripe)) => {
                return Err(Error::invalid(
                    "mode",
                    "must be hold: only an ending can be left to Stripe",
                ));
            }
            (Change::Keep, Change::Keep) => None,
        };
        match wanted {
            Some(true) if after.stripe.is_none() => {
                Err(Error::invalid("hold", "is only for a subscription that Stripe manages"))
            }
            Some(true) if after.hold.is_none() => {
                let ((Change::Set(reason), _) | (Change::Keep, Change::Set(reason))) =
                    (self.hold_reason.clone(), self.notes.clone())
                else {
                    return Err(Error::invalid("hold_reason", "is required where a hold begins"));
                };
                after.hold =
                    Some(Hold { reason: reason.into_string(), by: by.to_owned(), at: now });
                Ok(())
            }
            Some(false) => {
                after.hold = None;
                Ok(())
            }
            Some(true) | None => Ok(()),
        }
    }
}

/// Whether a subscription ends by a change, or is live again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    GoesOn,
    Ends,
    Returns,
}

/// What a MAIN's change does to its ADDONs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addons {
    Stay,
    End,
    Move,
}

/// What follows from a change, beside the subscription's own row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FollowUp {
    pub(super) life: Life,
    pub(super) addons: Addons,
    /// Stripe's present state is to be applied.
    pub(super) ends_hold: bool,
    /// The slots become those of the other plan.
    pub(super) changes_plan: bool,
    /// How many slots Stripe renews may be another number.
    pub(super) charges_slots: bool,
}

/// What follows from a change.
pub(super) fn follow_up(before: &Subscription, after: &Subscription) -> FollowUp {
    let life = if after.status == Status::Expired && before.status != Status::Expired {
        Life::Ends
    } else if after.status.is_live() && !before.status.is_live() {
        Life::Returns
    } else {
        Life::GoesOn
    };
    let addons = if after.subscription_type != SubscriptionType::Main {
        Addons::Stay
    } else if life == Life::Ends {
        Addons::End
    } else if after.term_end == before.term_end {
        Addons::Stay
    } else {
        Addons::Move
    };
    FollowUp {
        life,
        addons,
        ends_hold: before.hold.is_some() && after.hold.is_none(),
        changes_plan: after.plan_id != before.plan_id,
        charges_slots: (after.status, &after.hold) != (before.status, &before.hold),
    }
}

/// The ADDONs whose end is another one with their MAIN's, as they are and as they will be. One that
/// has a Stripe subscription of its own follows that.
///
/// # Errors
/// `Invalid`: an ADDON would end before it begins.
pub(super) fn moved_addons(
    family: &Family,
    term_end: Timestamp,
    now: Timestamp,
) -> Result<Vec<(&Subscription, Subscription)>> {
    let mut moved = Vec::new();
    for addon in &family.addons {
        if addon.stripe.is_some() || addon.status == Status::Expired {
            continue;
        }
        if addon.term_start >= term_end {
            return Err(Error::invalid(
                "term_end",
                format!(
                    "must be after {}, when its ADDON {} begins",
                    addon.term_start, addon.subscription_id
                ),
            ));
        }
        if addon.term_end != term_end {
            let version = addon.version + 1;
            moved.push((
                addon,
                Subscription { term_end, version, updated_at: now, ..addon.clone() },
            ));
        }
    }
    Ok(moved)
}

/// The refusal to change what only a sync with Stripe may change.
#[must_use]
pub fn stripe_managed() -> Error {
    Error::conflict(
        "stripe_managed",
        "Stripe manages this subscription: change it there, or say mode=hold, with a reason, to \
         keep what you set against Stripe's news.",
    )
}

/// A subscription as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionSummary {
    /// As it is stored.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Its tenant's.
    pub tenant_name: String,
    /// The worse of its own and its parent's status.
    pub effective_status: Status,
}

/// A subscription with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Detail {
    /// As lists show it.
    #[serde(flatten)]
    pub listed: SubscriptionSummary,
    /// How many devices are on it.
    pub device_count: i64,
    /// The first hundred of them, by id.
    pub devices: Vec<Device>,
    /// Its slots.
    pub allocations: Vec<AllocationView>,
    /// A MAIN's ADDONs.
    pub child_subscriptions: Vec<Subscription>,
}

impl Versioned for Detail {
    fn version(&self) -> i64 {
        self.listed.subscription.version
    }
}

impl Versioned for SubscriptionSummary {
    fn version(&self) -> i64 {
        self.subscription.version
    }
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionChange {
    /// As it is now.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Whether anything changed.
    pub updated: bool,
    /// As the audit has it; none where nothing changed.
    pub event_type: Option<AuditEvent>,
}

impl Versioned for SubscriptionChange {
    fn version(&self) -> i64 {
        self.subscription.version
    }
}

/// What a change or an ending would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Preview {
    /// As it would be; where it is refused, as it is.
    pub subscription: Subscription,
    /// The slots of its family, by tier.
    pub allocations: Vec<SlotEffect>,
    /// Its ADDONs that would change with it, as they would be.
    pub addons: Vec<Subscription>,
    /// Why it would be refused as things are; none where it would be done.
    pub refused: Option<Refused>,
    /// Whether Stripe would be asked to cancel it, which then ends it.
    pub stripe_cancellation: bool,
}

/// Slots of a family before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SlotEffect {
    /// The tier.
    pub tier_id: i32,
    /// How many there are.
    pub old: i64,
    /// How many there would be.
    pub new: i64,
    /// How many devices have the tier.
    pub used: i64,
    /// Whether more would be used than there would be.
    pub over_limit: bool,
}

/// The refusal of a change that was only tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refused {
    /// For programs.
    #[schema(value_type = ProblemCode)]
    pub code: String,
    /// For people.
    pub detail: String,
}

/// What became of an ending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionEnd {
    /// `ok`.
    pub status: &'static str,
    /// Which.
    pub subscription_id: SubscriptionId,
    /// Those that this request ended, the ADDONs of a MAIN included.
    pub expired: Vec<SubscriptionId>,
    /// Whether Stripe was asked to cancel; its event then ends the subscription.
    pub stripe_cancellation: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new(kind: &str, more: &serde_json::Value) -> NewSubscription {
        let mut body =
            serde_json::json!({"tenant_id": "acme", "subscription_type": kind, "device_limit": 1});
        more.as_object().into_iter().flatten().for_each(|(name, value)| body[name] = value.clone());
        deserr::deserialize::<_, _, crate::base::fields::Faults>(body)
            .map_err(Error::from)
            .expect("a request")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    fn main(differs: &serde_json::Value) -> Subscription {
        let mut row = serde_json::json!({
            "subscription_id": "SUB-1", "tenant_id": "acme", "subscription_type": "MAIN",
            "parent_subscription_id": null, "status": "ACTIVE", "plan_id": "pro",
            "device_limit": 100, "active_device_count": 0, "term_start": at(0), "term_end": at(9),
            "grace_end": null, "description": null, "stripe_subscription_id": null,
            "stripe_status": null, "stripe_price_id": null, "stripe_period_end": null,
            "stripe_paid_until": null, "stripe_cancel_at": null,
            "stripe_collection_paused": false, "hold_reason": null, "held_by": null,
            "held_at": null, "created_by": "x", "version": 1, "created_at": at(0),
            "updated_at": at(0),
        });
        differs.as_object().into_iter().flatten().for_each(|(k, v)| row[k] = v.clone());
        serde_json::from_value(row).expect("a subscription")
    }

    #[test]
    fn addons_end_with_their_main_or_move_with_its_end_and_follow_no_other_change() {
        let before = main(&serde_json::json!({}));
        let of = |differs| {
            let follow_up = follow_up(&before, &main(&differs));
            (follow_up.life, follow_up.addons)
        };
        let (ended, later) = (serde_json::json!("EXPIRED"), at(10));
        assert_eq!(
            of(serde_json::json!({"status": ended, "term_end": later})),
            (Life::Ends, Addons::End)
        );
        assert_eq!(of(serde_json::json!({"term_end": later})), (Life::GoesOn, Addons::Move));
        let addon = serde_json::json!({"subscription_type": "ADDON", "status": ended});
        assert_eq!(of(addon), (Life::Ends, Addons::Stay));
        let other = serde_json::json!({"status": "SUSPENDED", "plan_id": "basic"});
        assert_eq!(of(other), (Life::GoesOn, Addons::Stay));
        let dead = main(&serde_json::json!({"status": ended}));
        assert_eq!(follow_up(&dead, &before).life, Life::Returns);
    }

    proptest! {
        #[test]
        fn a_term_of_days_is_that_many_days_long_and_never_empty(
            start in 946_684_800_i64..7_000_000_000, days in 1_i64..=3660,
        ) {
            let term = first_term(&new("MAIN",
                &serde_json::json!({"term_start": at(start).to_string(), "term_days": days})),
                at(0)).expect("a term");
            prop_assert_eq!(term.1.duration_since(term.0), SignedDuration::from_hours(24 * days));
            prop_assert_eq!(term.0, at(start));
        }

        #[test]
        fn a_term_ends_after_it_begins_or_is_refused(start in 946_684_800_i64..7_000_000_000,
            length in -100_000_i64..100_000) {
            let given = serde_json::json!({"term_start": at(start).to_string(),
                "term_end": at(start + length).to_string()});
            let term = first_term(&new("TEMPORARY", &given), at(0));
            prop_assert_eq!(term.is_ok(), length > 0);
            prop_assert_eq!(first_term(&new("TRIAL", &serde_json::json!({})), at(start)).expect(
                "a term"), (at(start), at(start) + TRIAL));
        }

        #[test]
        fn the_worse_status_is_worse_in_either_order_and_live_only_if_both_are(a in 0_usize..5,
            b in 0_usize..5) {
            let (a, b) = (Status::ALL[a], Status::ALL[b]);
            prop_assert_eq!(a.worse(b).is_live(), a.is_live() && b.is_live());
            prop_assert_eq!(a.worse(b) == Status::Expired,
                a == Status::Expired || b == Status::Expired);
            prop_assert!(a.worse(b) == b.worse(a) || (a.worse(b) == a && b.worse(a) == b),
            "of two that are equally good the own one stays");
        }
    }
}
