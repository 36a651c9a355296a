//! What operators read and write of allocations.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::base::fields::{Count, Param, TierId};
use crate::base::ids::{PlanId, SubscriptionId, TenantId};
use crate::base::version::Versioned;
use crate::{request, update};

/// Slots of a tier on a subscription, and what its family has and uses of that tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllocationView {
    /// The allocation's id.
    pub id: i64,
    /// The subscription that brings the slots.
    pub subscription_id: SubscriptionId,
    /// The tier of the slots.
    pub tier_id: i32,
    /// The tier's name for programs.
    pub name: String,
    /// The tier's name for people.
    pub display_name: String,
    /// Slots that this subscription brings.
    pub slot_limit: i32,
    /// Slots in use: of the whole family on its root's row, 0 on an ADDON's.
    pub slots_used: i32,
    /// Slots that the family's counting ADDONs bring.
    pub addon_slots: i64,
    /// Slots that the family may use.
    pub effective_limit: i64,
    /// How many of them are free; never below 0.
    pub slots_available: i64,
    /// Whether the family uses more than it may: nothing is taken away, and nothing new is given.
    pub over_limit: bool,
    /// Devices of the family that hold the tier; differs from its use where an operator set that
    /// by hand.
    pub actual_count: i64,
    /// Whether an operator set `slots_used` by hand to another number than the devices: so it
    /// stays until an operator reconciles.
    // Answers that the release before kept have none.
    #[serde(default)]
    #[schema(required = true)]
    pub counted_by_hand: bool,
    /// The number in its `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed.
    pub updated_at: Timestamp,
}

impl Versioned for AllocationView {
    fn version(&self) -> i64 {
        self.version
    }
}

/// The allocations of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct AllocationList {
    pub subscription_id: SubscriptionId,
    pub tenant_id: TenantId,
    pub plan_id: Option<PlanId>,
    pub allocations: Vec<AllocationView>,
}

request! {
    /// An allocation to add.
    pub struct NewAllocation {
        tier_id: TierId,
        slot_limit: Count,
    }

    /// How to run what can be tried first.
    pub struct Try {
        /// Says what would be done, and changes nothing.
        dry_run: Param<bool> = Param(false),
    }
}

update! {
    /// What of an allocation to change.
    pub struct AllocationUpdate {
        slot_limit: Count,
        /// How many slots are used, by hand. A reconciliation counts the devices again.
        slots_used: Count,
    }
}

/// What a change by hand did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AllocationChange {
    /// By field: old and new.
    pub changes: Map<String, Value>,
    /// That the count differs from the devices.
    pub warning: Option<String>,
    /// As it is now.
    #[serde(flatten)]
    pub allocation: AllocationView,
}

impl Versioned for AllocationChange {
    fn version(&self) -> i64 {
        self.allocation.version
    }
}

/// A tier and its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct SlotLimit {
    pub tier_id: i32,
    pub slot_limit: i32,
}

/// What a sync set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AllocationsSynced {
    /// `ok`.
    pub status: &'static str,
    /// The plan that they come from.
    pub plan_id: PlanId,
    /// What the plan brings, as many times as the subscription pays for it.
    pub allocations_synced: Vec<SlotLimit>,
    /// What changed beside slots: `limits`, old and new.
    pub changes: Map<String, Value>,
    /// Whether anything changed.
    pub changed: bool,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// What a reconciliation corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reconciled {
    /// `ok`.
    pub status: &'static str,
    /// Corrected counts of slots, by tier, on the family's root.
    pub corrections: Vec<Correction>,
    /// Corrected counts of devices, by subscription.
    pub device_count_corrections: Vec<DeviceCorrection>,
    /// A summary for people.
    pub message: String,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// A count of slots that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct Correction {
    /// The ADDON that the count is of, which should have none; absent for the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = SubscriptionId, required = false)]
    pub subscription_id: Option<SubscriptionId>,
    pub tier_id: i32,
    pub old_slots_used: i64,
    pub actual_count: i64,
}

/// A count of devices that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct DeviceCorrection {
    pub subscription_id: SubscriptionId,
    pub old_active_device_count: i32,
    pub actual_count: i64,
}

/// A count that differs from the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The subscription that has the count.
    pub subscription: SubscriptionId,
    /// The root of its family.
    pub root: SubscriptionId,
    /// Which of its counts.
    pub count: CountKind,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountKind {
    /// Slots of a tier; on a root's row those of the family, on an ADDON's none.
    Slots,
    /// The same, where an operator set the number: information, and nothing broken.
    SlotsByHand,
    /// Devices on the subscription.
    Devices,
}

/// A slice of all subscriptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountSlice {
    /// How many were compared.
    pub compared: i64,
    /// What differs, by subscription.
    pub differences: Vec<Difference>,
    /// After which the next slice begins; none: this was the last.
    pub next: Option<SubscriptionId>,
}

/// What the run found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CountCheck {
    /// Subscriptions that were compared.
    pub compared: i64,
    /// Counts of slots that differed.
    pub slots_used_differs: i64,
    /// Counts of devices that differed.
    pub device_count_differs: i64,
    /// Counts of slots that an operator set to another number than the devices: left as they are.
    pub counted_by_hand: i64,
    /// Families that were corrected, each with an audit row.
    pub corrected: i64,
    /// Families that could not be locked, or not be written: the next run sees them again.
    pub failed: i64,
    /// Where the next run begins; none: at the beginning.
    #[serde(skip)]
    pub next: Option<SubscriptionId>,
}
