//! The list of subscriptions.

use jiff::{SignedDuration, Timestamp};

use super::model::SubscriptionFilter;
use crate::Result;
use crate::base::ids::SubscriptionId;
use crate::base::paging::Page;
use crate::db::{Conditions, Executor};
use crate::domain::families::rows::{COLUMNS, subscription};
use crate::domain::families::subscription::{Status, Subscription};

/// A listed subscription: its tenant's name, and its root's status beside its own.
pub(crate) async fn list(
    db: &impl Executor,
    filter: &SubscriptionFilter,
    page: &Page<(Timestamp, SubscriptionId)>,
    now: Timestamp,
) -> Result<Vec<(Subscription, String, Status)>> {
    let mut conditions = Conditions::default();
    conditions.equal("s.tenant_id", filter.tenant_id.clone());
    conditions.equal("s.subscription_type", filter.subscription_type);
    conditions.equal("s.status", filter.status);
    conditions.equal("s.plan_id", filter.plan_id.clone());
    conditions.equal("s.stripe_subscription_id", filter.stripe_subscription_id.clone());
    if let Some(days) = filter.expiring_days {
        conditions.and("s.status = ?", "ACTIVE".to_owned());
        conditions.and("s.term_end <= ?", now + SignedDuration::from_hours(24 * days.0.get()));
    }
    if let Some(from) = filter.ends_from {
        conditions.and("s.term_end >= ?", from.get());
    }
    if let Some(to) = filter.ends_to {
        conditions.and("s.term_end < ?", to.get());
    }
    if filter.held.0 {
        conditions.plain("s.hold_reason IS NOT NULL");
    }
    if let Some((term_end, id)) = &page.after {
        conditions.and_two(
            "(s.term_end, s.subscription_id) > (?, ?)",
            *term_end,
            id.as_str().to_owned(),
        );
    }
    let select = format!(
        "SELECT {COLUMNS}, t.name AS tenant_name, coalesce(r.status, s.status) AS root_status
         FROM subscriptions s JOIN tenants t ON t.tenant_id = s.tenant_id LEFT JOIN subscriptions r
         ON r.subscription_id = s.parent_subscription_id"
    );
    let rows = conditions.page(db, &select, "s.term_end, s.subscription_id", page).await?;
    rows.iter()
        .map(|row| Ok((subscription(row)?, row.get("tenant_name"), row.try_get("root_status")?)))
        .collect()
}
