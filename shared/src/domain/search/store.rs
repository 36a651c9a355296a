//! Look-ups of every kind in one statement: each by an index, whatever was typed.

use super::model::Hit;
use crate::Result;
use crate::db::{Executor, query};

/// What was typed is compared with each kind of id as it is; mail addresses in lower case, and names
/// by the words that they begin with, as in the list of tenants.
const FIND: &str = "
    (SELECT 'tenant' AS kind, tenant_id AS id, tenant_id, name AS title, 'tenant_id' AS matched
     FROM tenants WHERE tenant_id = $1)
    UNION ALL
    (SELECT 'subscription', subscription_id, tenant_id, subscription_type || ' ' || status,
            'subscription_id' FROM subscriptions WHERE subscription_id = $1)
    UNION ALL
    (SELECT 'subscription', subscription_id, tenant_id, subscription_type || ' ' || status,
            'stripe_subscription_id' FROM subscriptions WHERE stripe_subscription_id = $1 LIMIT $2)
    UNION ALL
    (SELECT 'stripe_event', event_id, tenant_id, event_type, 'event_id'
     FROM stripe_events WHERE event_id = $1)
    UNION ALL
    (SELECT 'device', device_id, tenant_id, coalesce(name, device_id), 'device_id'
     FROM devices WHERE device_id = $1 ORDER BY tenant_id LIMIT $2)
    UNION ALL
    (SELECT 'tenant', tenant_id, tenant_id, name, 'stripe_customer_id' FROM tenants
     WHERE tenant_id IN (SELECT tenant_id FROM tenants WHERE stripe_customer_id = $1
                         UNION ALL SELECT tenant_id FROM stripe_customer_aliases
                         WHERE stripe_customer_id = $1))
    UNION ALL
    (SELECT 'tenant', tenant_id, tenant_id, name, 'email' FROM tenants
     WHERE lower(contact_email COLLATE pg_unicode_fast) = lower($1 COLLATE pg_unicode_fast)
        OR lower(billing_email COLLATE pg_unicode_fast) = lower($1 COLLATE pg_unicode_fast)
     ORDER BY tenant_id LIMIT $2)
    UNION ALL
    (SELECT 'tenant', tenant_id, tenant_id, name, 'name' FROM tenants
     WHERE search_words(tenant_id || ' ' || name || ' ' || coalesce(legal_name, ''))
           @@ search_query($1)
     ORDER BY tenant_id LIMIT $2)";

/// What is called so.
pub(super) async fn find(db: &impl Executor, typed: &str, limit: i64) -> Result<Vec<Hit>> {
    let rows = query(db, FIND, &[&typed, &limit]).await?;
    let hit = |row: &tokio_postgres::Row| {
        Ok(Hit {
            kind: row.try_get("kind")?,
            id: row.get("id"),
            tenant_id: row.try_get("tenant_id")?,
            title: row.get("title"),
            matched: row.try_get("matched")?,
        })
    };
    rows.iter().map(hit).collect()
}
