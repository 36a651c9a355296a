//! Reports of use, and what is known.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::error::FieldFault;
use crate::base::fields::{DateTime, NamedCounts};
use crate::base::ids::TenantId;
use crate::{Error, Result, request};

/// How far a reporter's clock may be ahead of ours. A time further ahead would keep out every
/// report until then.
pub(super) const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

request! {
    /// How many a tenant has of what its plans limit by name.
    pub struct UsageReport {
        tenant_id: TenantId,
        /// By name, such as `{"alert_rules": 12}`. What is not named stays as it was reported.
        usage: NamedCounts,
        /// When they were counted. What is known of a later time stays.
        as_of: DateTime,
    }
}

/// How many there are of something, as it was reported last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Used {
    /// How many.
    pub used: i64,
    /// When they were counted.
    pub as_of: Timestamp,
}

/// What is known of a tenant's use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TenantUsage {
    /// The tenant.
    pub tenant_id: TenantId,
    /// By name: all that was ever reported of it.
    pub usage: BTreeMap<String, Used>,
}

/// Refuses what nothing limits, and features. `known` says of each name whether it is one.
///
/// # Errors
/// `Invalid`, naming each.
pub(super) fn check_names(
    counts: &BTreeMap<String, i64>,
    known: &BTreeMap<String, bool>,
) -> Result<()> {
    let fault = |name: &String| {
        let message = match known.get(name) {
            Some(false) => return None,
            Some(true) => "is a feature, and nothing to count",
            None => "is nothing that a plan limits",
        };
        Some(FieldFault { field: format!("usage.{name}"), message: message.to_owned() })
    };
    let faults: Vec<_> = counts.keys().filter_map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}
