//! The tier of many devices at once: in one transaction, with one audit row a device.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::model::Device;
use super::{entry, store};
use crate::base::error::FieldFault;
use crate::base::fields::Note;
use crate::base::ids::{DeviceId, SubscriptionId, TenantId};
use crate::db::Transaction;
use crate::domain::audit::model::{Actor, AuditEvent};
use crate::domain::families::family::Family;
use crate::domain::{audit, families};
use crate::{Error, Result};

/// What is written of devices whose tier changes, besides them.
pub(super) struct Write<'a> {
    /// Whose they are.
    pub(super) tenant: &'a TenantId,
    /// Who changes it.
    pub(super) by: Actor<'a>,
    /// As the audit has it.
    pub(super) event_type: AuditEvent,
    /// Their tier from now on.
    pub(super) tier: Option<i32>,
    /// For the audit.
    pub(super) notes: Option<&'a Note>,
}

impl Write<'_> {
    /// Writes the devices, then each family's counts in their order, then one audit row a device.
    pub(super) async fn all(
        &self,
        tx: &Transaction,
        changed: &[&Device],
        families: &[Family],
        now: Timestamp,
    ) -> Result<()> {
        let ids: Vec<&DeviceId> = changed.iter().map(|device| &device.device_id).collect();
        let mut counts: BTreeMap<(&SubscriptionId, i32), i32> = BTreeMap::new();
        for device in changed {
            let Some(family) = family_of(families, device) else { continue };
            let freed = device.tier_id.map(|old| (old, -1));
            for (tier, count) in freed.into_iter().chain(self.tier.map(|new| (new, 1))) {
                *counts.entry((&family.root.subscription_id, tier)).or_default() += count;
            }
        }
        store::set_tiers(tx, self.tenant, &ids, self.tier, now).await?;
        for ((root, tier), count) in counts {
            families::locks::add_slots(tx, root, tier, count, now).await?;
        }
        let mut entries = Vec::new();
        for device in changed.iter().copied() {
            let states = (json!({"tier_id": device.tier_id}), json!({"tier_id": self.tier}));
            let mut details = json!({"device_id": device.device_id, "old_tier_id": device.tier_id,
                "new_tier_id": self.tier, "of_many": changed.len()});
            if let Some(notes) = self.notes {
                details["notes"] = json!(notes.as_str());
            }
            entries.push(entry(self.event_type, self.by, device, Some(states), details, now));
        }
        audit::store::insert_all(tx, &entries, now).await
    }
}

/// The family that a device is on.
pub(super) fn family_of<'f>(families: &'f [Family], device: &Device) -> Option<&'f Family> {
    let on = device.subscription_id.as_ref()?;
    families.iter().find(|family| family.member(on).is_some())
}

pub(super) fn no_device_twice(ids: &[DeviceId]) -> Result<()> {
    let twice = ids.iter().enumerate().filter(|(index, id)| ids[..*index].contains(id));
    let faults: Vec<_> = twice
        .map(|(index, _)| FieldFault {
            field: format!("device_ids[{index}]"),
            message: "is listed twice".to_owned(),
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

pub(super) fn no_subscription() -> Error {
    Error::malformed(
        "no_subscription",
        "Device has no subscription assigned. Assign a subscription first.",
    )
}
