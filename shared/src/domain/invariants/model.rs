//! What must be, and what was found.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::words;

/// How long what an hourly run does may be overdue.
pub const RUN_OVERDUE: SignedDuration = SignedDuration::from_hours(2);
/// The same where an event of Stripe is waited for.
pub const WORD_OVERDUE: SignedDuration = SignedDuration::from_hours(73);
/// How long what the minute's tick does may be overdue.
pub const TICK_OVERDUE: SignedDuration = SignedDuration::from_hours(1);
/// How long a checkout may wait for its money: after that Stripe no longer lists its events.
pub const MONEY_OVERDUE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How many examples of each are shown.
pub const EXAMPLES: usize = 10;

words! {
    /// What is never so, whatever happens (docs/operations.md, "Invariants").
    pub enum Invariant {
        /// Slots in use against devices.
        SlotsUsedDiffers = "slots_used_differs",
        /// Places in use against devices.
        DeviceCountDiffers = "device_count_differs",
        /// Access for ever.
        GraceWithoutEnd = "grace_without_end",
        /// Access without a term.
        LivePastEnd = "live_past_end",
        /// Capacity without a MAIN.
        AddonPastRoot = "addon_past_root",
        /// Stripe's news, not applied.
        EventsStuck = "events_stuck",
        /// What is to be done outside, not done.
        StepsStuck = "steps_stuck",
    }
}

impl Invariant {
    /// What is wrong with what is counted, for operators.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::SlotsUsedDiffers => {
                "Subscriptions whose slots_used is not the number of devices that hold the tier \
                 (on an ADDON: not 0), and nobody set it by hand"
            }
            Self::DeviceCountDiffers => {
                "Subscriptions whose active_device_count is not the number of devices on them"
            }
            Self::GraceWithoutEnd => "Subscriptions in GRACE that have no grace_end",
            Self::LivePastEnd => {
                "Live subscriptions whose term or grace ended over 2 hours ago, over 73 where \
                 Stripe manages them"
            }
            Self::AddonPastRoot => {
                "Live ADDONs without a Stripe subscription of their own that end after their \
                 root, or whose root is EXPIRED"
            }
            Self::EventsStuck => {
                "Stripe's events that wait although what they wait for has been here for an hour, \
                 that wait for over 73 hours, or, of a checkout, for over 30 days"
            }
            Self::StepsStuck => "Outbox steps that could have been done for an hour and are not",
        }
    }
}

/// How often an invariant is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Finding {
    /// Which.
    pub name: Invariant,
    /// 0 is right.
    pub count: i64,
    /// The first of them: ids of subscriptions or events, numbers of steps.
    pub examples: Vec<String>,
    /// What is wrong with them.
    pub meaning: &'static str,
}

/// Counts that differ because an operator said so: information, and nothing broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ByHand {
    /// Counts of slots that an operator set to another number than the devices.
    pub count: i64,
    /// The first of their subscriptions.
    pub examples: Vec<String>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Invariants {
    /// Whether nothing was found to be broken.
    pub ok: bool,
    /// Each that there is.
    pub invariants: Vec<Finding>,
    /// What operators counted by hand, and did not reconcile since.
    pub counted_by_hand: ByHand,
    /// How many subscriptions were compared with their devices.
    pub compared: i64,
    /// Whether these are all; false: comparing took too long, and the first two invariants are
    /// known of so many.
    pub complete: bool,
    /// When.
    pub counted_at: Timestamp,
}
