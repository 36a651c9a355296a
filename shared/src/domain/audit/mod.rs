//! The append-only trail: one row a changed object, none for a no-op, in the transaction of the
//! change.

pub mod model;
pub(crate) mod store;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde_json::Value;

use self::model::{AuditFilter, AuditRow};
use crate::Result;
use crate::base::caller::Person;
use crate::base::ids::{DeviceId, StripeEventId, SubscriptionId, TenantId};
use crate::base::paging::{Page, Slice};
use crate::db::Db;

/// A page of the trail, newest first.
///
/// # Errors
/// `Database`.
pub async fn list(
    db: &Db,
    filter: &AuditFilter,
    page: &Page<(Timestamp, i64)>,
) -> Result<Slice<AuditRow>> {
    let rows = store::list(&db.connection().await?, filter, page).await?;
    Ok(page.cut(rows, |row| (row.event_timestamp, row.id)))
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// An event of Stripe.
    Stripe,
    /// The outbox.
    Outbox,
    /// The hourly run.
    Renewal,
    /// Platform staff.
    Operator(&'a Person),
    /// A tenant's own user.
    Customer(&'a Person),
}

/// One change.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When, UTC.
    pub at: Timestamp,
    /// Which, e.g. `TENANT_PROVISIONED` (docs/events.md, "Audit").
    pub event_type: &'static str,
    /// By whom.
    pub actor: Actor<'a>,
    /// Whose; none for the catalogue.
    pub tenant: Option<&'a TenantId>,
    /// Which subscription.
    pub subscription: Option<&'a SubscriptionId>,
    /// Which device.
    pub device: Option<&'a DeviceId>,
    /// What made it happen.
    pub stripe_event: Option<&'a StripeEventId>,
    /// What was really replaced.
    pub previous_state: Option<Value>,
    /// What stands now.
    pub new_state: Option<Value>,
    /// Whatever else helps to understand it.
    pub details: Option<Value>,
}

impl<'a> Entry<'a> {
    /// An entry of which only this is known yet.
    #[must_use]
    pub fn new(event_type: &'static str, actor: Actor<'a>, at: Timestamp) -> Self {
        Self {
            at,
            event_type,
            actor,
            tenant: None,
            subscription: None,
            device: None,
            stripe_event: None,
            previous_state: None,
            new_state: None,
            details: None,
        }
    }
}

/// Records an operator's change of the catalogue, which is no tenant's.
pub(crate) async fn record_catalogue(
    tx: &Transaction<'_>,
    event_type: &'static str,
    by: &Person,
    previous_state: Option<Value>,
    new_state: Value,
    now: Timestamp,
) -> Result<()> {
    let entry = Entry {
        previous_state,
        new_state: Some(new_state),
        ..Entry::new(event_type, Actor::Operator(by), now)
    };
    store::insert(tx, &entry).await
}
