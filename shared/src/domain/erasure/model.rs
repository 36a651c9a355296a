//! The erasure of a tenant: what it is asked by, and what it found.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::fields::Note;
use crate::base::ids::TenantId;
use crate::request;

request! {
    /// Why a tenant is erased.
    pub struct ErasureRequest {
        /// Who asked for it, and when. It stays in the audit.
        note: Note,
    }
}

/// What an erasure found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erasure {
    /// The tenant.
    pub tenant_id: TenantId,
    /// When it was erased last.
    pub erased_at: Timestamp,
    /// How many users Keycloak deleted.
    pub users: u64,
    /// How many rows of each table lost something.
    pub rows: ErasedRows,
}

/// How many rows of each table lost something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[expect(missing_docs, reason = "the tables of the same names")]
pub struct ErasedRows {
    pub devices: u64,
    pub stripe_events: u64,
    pub outbox_steps: u64,
    pub flags: u64,
    pub idempotency_keys: u64,
    pub subscription_audit: u64,
}
