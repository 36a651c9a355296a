//! Named points at which a test kills the process, to see that the next attempt finds nothing
//! half done.
//!
//! Compiled to nothing without the feature `fault-points`, which only the tests crate asks for;
//! even then a point does nothing until the test's own worker has armed it.

/// Every point, in the order in which a checkout passes them; then those of a
/// subscription's sync, and those of a tenant's organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what has just happened")]
pub enum Point {
    IngestVerified,
    IngestQueued,
    ApplyBegun,
    ApplyRead,
    ApplyClaimed,
    ApplyTenantInserted,
    ApplySubscriptionInserted,
    ApplySlotsInserted,
    ApplyStepsInserted,
    ApplyFinished,
    ApplyCommitted,
    BatchApplied,
    BatchWoken,
    OutboxClaimed,
    OutboxUserCreated,
    OutboxRoleGranted,
    OutboxMailSent,
    OutboxPerformed,
    OutboxRecorded,
    OutboxCommitted,
    SnapshotRead,
    SyncApplied,
    SyncCommitted,
    OutboxOrganizationMade,
    OutboxMemberAdded,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::IngestVerified,
        Self::IngestQueued,
        Self::ApplyBegun,
        Self::ApplyRead,
        Self::ApplyClaimed,
        Self::ApplyTenantInserted,
        Self::ApplySubscriptionInserted,
        Self::ApplySlotsInserted,
        Self::ApplyStepsInserted,
        Self::ApplyFinished,
        Self::ApplyCommitted,
        Self::BatchApplied,
        Self::BatchWoken,
        Self::OutboxClaimed,
        Self::OutboxUserCreated,
        Self::OutboxRoleGranted,
        Self::OutboxMailSent,
        Self::OutboxPerformed,
        Self::OutboxRecorded,
        Self::OutboxCommitted,
        Self::SnapshotRead,
        Self::SyncApplied,
        Self::SyncCommitted,
        Self::OutboxOrganizationMade,
        Self::OutboxMemberAdded,
    ];
}

#[cfg(feature = "fault-points")]
static ARMED: std::sync::OnceLock<Point> = std::sync::OnceLock::new();

/// Makes this process die at `point`.
#[cfg(feature = "fault-points")]
pub fn arm(point: Point) {
    let _ = ARMED.set(point);
}

/// Aborts the process if the test armed this point.
#[cfg(feature = "fault-points")]
pub fn point(point: Point) {
    if ARMED.get() == Some(&point) {
        // No destructor runs, no connection says goodbye: as when the machine is taken away.
        std::process::abort();
    }
}

/// Aborts the process if the test armed this point.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_: Point) {}
