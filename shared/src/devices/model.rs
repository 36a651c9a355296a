//! A device, and what operators ask of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fields::{Change, Note, Param, Text, TierId};
use crate::http::{Cursor, Limit, Offset};
use crate::ids::{DeviceId, SubscriptionId, TenantId};
use crate::{request, words};

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
    /// And for people.
    pub tier_display_name: Option<String>,
    pub status: DeviceStatus,
    /// Of its telemetry.
    pub last_seen_at: Option<Timestamp>,
    pub registered_at: Timestamp,
    pub decommissioned_at: Option<Timestamp>,
}

words! {
    /// Whether a device is in use.
    pub enum DeviceStatus {
        /// It is.
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
        /// Where it goes; `null` for nowhere; absent: a live MAIN, else TRIAL, else TEMPORARY, with room.
        subscription_id: Change<Option<SubscriptionId>> = Change::Keep,
    }

    /// Which devices.
    pub struct DeviceFilter {
        tenant_id: Option<TenantId> = None,
        subscription_id: Option<SubscriptionId> = None,
        tier_id: Option<Param<TierId>> = None,
        status: Option<DeviceStatus> = None,
        limit: Option<Param<Limit>> = None,
        offset: Option<Param<Offset>> = None,
        cursor: Option<Cursor> = None,
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

    /// Another subscription for a device.
    pub struct Move {
        subscription_id: SubscriptionId,
        /// Needed where more than one tenant has a device of this id.
        tenant_id: Option<TenantId> = None,
        /// For the audit.
        notes: Option<Note> = None,
    }
}

/// What an override did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct Overridden {
    /// `ok`.
    pub status: &'static str,
    pub device_id: DeviceId,
    pub old_tier_id: Option<i32>,
    pub new_tier_id: Option<i32>,
}

/// What a move did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct Moved {
    pub device_id: DeviceId,
    pub subscription_id: SubscriptionId,
    pub previous_subscription_id: Option<SubscriptionId>,
}
