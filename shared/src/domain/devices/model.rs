//! A device, and what operators ask of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::codes::ProblemCode;
use crate::base::fields::{Change, DateTime, List, Note, Param, Text, TierId};
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::base::paging::{Cursor, Limit, Offset};
use crate::base::version::Versioned;
use crate::{Error, Result, request, update, words};

/// A device as its tenant registered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the columns of docs/data.md")]
pub struct Device {
    pub tenant_id: TenantId,
    pub device_id: DeviceId,
    pub name: Option<String>,
    pub site_id: Option<String>,
    pub subscription_id: Option<SubscriptionId>,
    pub tier_id: Option<i32>,
    /// The tier's name for programs.
    pub tier_name: Option<String>,
    /// The tier's name for people.
    pub tier_display_name: Option<String>,
    pub status: DeviceStatus,
    /// The number in its `ETag`: of its name and its site. Tier and subscription have routes of
    /// their own, which go by what is there.
    // Answers that the release before kept have none.
    #[serde(default = "first_version")]
    #[schema(required = true)]
    pub version: i64,
    /// When its telemetry was last received.
    pub last_seen_at: Option<Timestamp>,
    pub registered_at: Timestamp,
    pub decommissioned_at: Option<Timestamp>,
}

fn first_version() -> i64 {
    1
}

impl Versioned for Device {
    fn version(&self) -> i64 {
        self.version
    }
}

update! {
    /// What people call a device, and where it is.
    pub struct DeviceUpdate {
        name: Option<Text<1, 200>>,
        site_id: Option<Text<1, 100>>,
    }
}

impl DeviceUpdate {
    /// The device with what is named; its version is the caller's to raise.
    #[must_use]
    pub fn applied_to(self, mut device: Device) -> Device {
        self.name.apply(&mut device.name, |name| name.map(Text::into_string));
        self.site_id.apply(&mut device.site_id, |site| site.map(Text::into_string));
        device
    }
}

words! {
    /// Whether a device is in use.
    pub enum DeviceStatus {
        /// In use.
        Active = "ACTIVE",
        /// No longer: it holds no place and no slot, and its id can be registered again.
        Decommissioned = "DECOMMISSIONED",
    }
}

request! {
    /// A device to register for a tenant.
    pub struct NewDevice {
        tenant_id: TenantId,
        device_id: DeviceId,
        name: Option<Text<1, 200>> = None,
        site_id: Option<Text<1, 100>> = None,
        /// Where it goes; `null` for nowhere; absent: a live MAIN, else TRIAL, else TEMPORARY, with
        /// room.
        subscription_id: Change<Option<SubscriptionId>> = Change::Keep,
    }

    /// Which devices to list.
    pub struct DeviceFilter {
        tenant_id: Option<TenantId> = None,
        /// Of whichever tenants.
        device_id: Option<DeviceId> = None,
        subscription_id: Option<SubscriptionId> = None,
        tier_id: Option<Param<TierId>> = None,
        site_id: Option<Text<1, 100>> = None,
        status: Option<DeviceStatus> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// A device to register for one's own tenant.
    pub struct OwnDevice {
        device_id: DeviceId,
        name: Option<Text<1, 200>> = None,
        site_id: Option<Text<1, 100>> = None,
        /// Where it goes; absent: a live MAIN, else TRIAL, else TEMPORARY, with room, and of these
        /// the one that ends last.
        subscription_id: Option<SubscriptionId> = None,
    }

    /// Which of one's own devices.
    pub struct OwnDeviceFilter {
        subscription_id: Option<SubscriptionId> = None,
        tier_id: Option<Param<TierId>> = None,
        site_id: Option<Text<1, 100>> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
    }

    /// A tier for a device, while there is a slot.
    pub struct TierAssignment {
        tier_id: TierId,
    }

    /// Another of one's own subscriptions for a device.
    pub struct OwnMove {
        subscription_id: SubscriptionId,
    }

    /// A tier for many devices.
    pub struct Bulk {
        /// `null` takes it from them.
        tier_id: Option<TierId>,
        device_ids: List<DeviceId, 500>,
        /// Nothing is done where one of them is refused.
        all_or_nothing: bool = false,
    }

    /// When a device was last heard of.
    pub struct Sighting {
        device_id: DeviceId,
        /// Needed where more than one tenant has a device of this id.
        tenant_id: Option<TenantId> = None,
        /// At most five minutes in the future.
        last_seen_at: DateTime,
    }

    /// When devices were last heard of.
    pub struct Sightings {
        devices: List<Sighting, 500>,
    }

    /// A tier for a device, whatever the limits say.
    pub struct Override {
        device_id: DeviceId,
        tenant_id: TenantId,
        /// `null` removes the tier.
        tier_id: Option<TierId> = None,
        /// For the audit.
        notes: Option<Note> = None,
    }

    /// A tier for many devices of a tenant, whatever the limits say.
    pub struct BulkOverride {
        tenant_id: TenantId,
        /// `null` takes it from them.
        tier_id: Option<TierId>,
        device_ids: List<DeviceId, 500>,
        /// For the audit.
        notes: Option<Note> = None,
    }

    /// Another subscription for a device.
    pub struct Move {
        subscription_id: SubscriptionId,
        /// Needed where more than one tenant has a device of this id.
        tenant_id: Option<TenantId> = None,
        /// For the audit.
        notes: Option<Note> = None,
    }
}

/// What became of the sightings; each of them counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SeenCounts {
    /// Devices that were seen later than was known.
    pub updated: i64,
    /// Sightings that were no later than what is known by now.
    pub unchanged: i64,
    /// Sightings of what is no device in use.
    pub unknown: i64,
    /// Sightings that name no tenant, while more than one has a device of the id.
    pub ambiguous: i64,
}

/// What an override did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct OverrideResult {
    /// `ok`.
    pub status: &'static str,
    pub device_id: DeviceId,
    pub old_tier_id: Option<i32>,
    pub new_tier_id: Option<i32>,
}

/// The answer once a device is out of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct Decommissioned {
    /// `ok`.
    pub status: &'static str,
    pub device_id: DeviceId,
}

/// What a move did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct MoveResult {
    pub device_id: DeviceId,
    pub subscription_id: SubscriptionId,
    pub previous_subscription_id: Option<SubscriptionId>,
}

impl From<OwnDeviceFilter> for DeviceFilter {
    fn from(own: OwnDeviceFilter) -> Self {
        let OwnDeviceFilter { subscription_id, tier_id, site_id, limit, offset, cursor } = own;
        Self {
            tenant_id: None,
            device_id: None,
            subscription_id,
            tier_id,
            site_id,
            status: Some(DeviceStatus::Active),
            limit,
            offset,
            cursor,
        }
    }
}

/// What a device's tier is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct TierChange {
    pub status: &'static str,
    pub device_id: DeviceId,
    pub tier_id: Option<i32>,
    /// As people call it.
    pub tier_name: Option<String>,
}

/// What became of many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Assignments {
    /// Whether it was done; not in a dry run, and not where all was wanted and one was refused.
    pub applied: bool,
    /// Whether it was only tried.
    pub dry_run: bool,
    /// How many change, or would.
    pub changed: usize,
    /// How many cannot.
    pub refused: usize,
    /// One a device, in the order of the request.
    pub results: Vec<DeviceResult>,
}

/// What became of one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeviceResult {
    /// The device's id.
    pub device_id: DeviceId,
    /// `assigned`, `removed`, `unchanged` or `refused`.
    pub status: &'static str,
    /// Why it was refused, for programs.
    #[schema(value_type = Option<ProblemCode>)]
    pub code: Option<String>,
    /// The tier's name for people.
    pub detail: Option<String>,
}

/// What became of many whose limits did not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Overrides {
    /// Whether it was only tried.
    pub dry_run: bool,
    /// How many change, or would.
    pub changed: usize,
    /// How many cannot.
    pub refused: usize,
    /// How many of those that change have, or would have, more than was paid for.
    pub over_limit: usize,
    /// One a device, in the order of the request.
    pub results: Vec<DeviceOverride>,
}

/// What became of one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeviceOverride {
    #[serde(flatten)]
    result: DeviceResult,
    /// Whether its slot is beyond those of its family.
    pub over_limit: bool,
}

impl DeviceOverride {
    /// The result of one device: what changes, and whether beyond the limit; or why nothing can.
    #[must_use]
    pub fn new(device_id: DeviceId, outcome: Result<Option<Taken>>) -> Self {
        let (status, over_limit, refusal) = match outcome {
            Ok(Some(taken)) => (taken.status(), taken == Taken::Beyond, None),
            Ok(None) => ("unchanged", false, None),
            Err(error) => ("refused", false, Some(error)),
        };
        Self { result: DeviceResult::new(device_id, status, refusal), over_limit }
    }

    /// Whether it could not be.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.result.status == "refused"
    }
}

/// What a change of a tier takes of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A slot that was free.
    Free,
    /// A slot beyond the limit.
    Beyond,
    /// None: the tier is removed.
    Nothing,
}

impl Taken {
    fn status(self) -> &'static str {
        match self {
            Self::Free | Self::Beyond => "assigned",
            Self::Nothing => "removed",
        }
    }
}

impl DeviceResult {
    /// With the reason of a refusal.
    #[must_use]
    pub fn new(device_id: DeviceId, status: &'static str, refusal: Option<Error>) -> Self {
        let said = refusal.map(|error| (error.code().to_owned(), error.to_string()));
        let (code, detail) = said.unzip();
        Self { device_id, status, code, detail }
    }
}

pub(crate) fn not_found() -> Error {
    Error::not_found("device_not_found", "Device not found")
}
