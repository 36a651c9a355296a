//! `subscription_audit`: insert only; the database refuses the rest.

use std::net::IpAddr;

use jiff::Timestamp;
use tokio_postgres::types::Json;

use super::model::{Actor, ActorType, AuditFilter, AuditRow, Entry};
use crate::Result;
use crate::base::paging::Page;
use crate::db::{Conditions, Executor, Fields, Transaction, execute};

const INSERT: &str = "INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id,
                      subscription_id, device_id, actor_type, actor_id, ip_address, stripe_event_id,
                      previous_state, new_state, details)";

fn actor<'a>(entry: &'a Entry<'_>) -> (ActorType, &'a str, Option<IpAddr>) {
    let (kind, ip) = match entry.actor {
        Actor::Stripe(_) | Actor::Outbox | Actor::Renewal => (ActorType::System, None),
        Actor::Operator(person) => (ActorType::Admin, person.ip),
        Actor::Customer(person) => (ActorType::Customer, person.ip),
    };
    (kind, entry.actor.id(), ip)
}

/// Adds one row.
pub(crate) async fn insert(tx: &Transaction, entry: &Entry<'_>) -> Result<()> {
    let (actor_type, actor_id, ip) = actor(entry);
    tx.write(
        &format!("{INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"),
        &[
            &entry.at,
            &entry.event_type,
            &entry.tenant,
            &entry.subscription,
            &entry.device,
            &actor_type,
            &actor_id,
            &ip,
            &entry.stripe_event,
            &entry.previous_state,
            &entry.new_state,
            &entry.details(),
        ],
    )
    .await
}

/// Adds rows of one time in one statement.
pub(crate) async fn insert_all(
    tx: &Transaction,
    entries: &[Entry<'_>],
    now: Timestamp,
) -> Result<()> {
    let actors: Vec<_> = entries.iter().map(actor).collect();
    let sql = format!(
        "{INSERT} SELECT $1, new.event_type, new.tenant, new.subscription, new.device,
                new.actor_type, new.actor, new.ip::inet, new.stripe_event, new.before, new.after,
                new.details
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::text[], $10::jsonb[], $11::jsonb[], $12::jsonb[])
              AS new (event_type, tenant, subscription, device, actor_type, actor, ip, stripe_event,
                      before, after, details)"
    );
    tx.write(
        &sql,
        &[
            &now,
            &entries.iter().map(|entry| entry.event_type).collect::<Vec<_>>(),
            &entries.iter().map(|entry| entry.tenant).collect::<Vec<_>>(),
            &entries.iter().map(|entry| entry.subscription).collect::<Vec<_>>(),
            &entries.iter().map(|entry| entry.device).collect::<Vec<_>>(),
            &actors.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>(),
            &actors.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(),
            &actors.iter().map(|(.., ip)| ip.map(|ip| ip.to_string())).collect::<Vec<_>>(),
            &entries.iter().map(|entry| entry.stripe_event).collect::<Vec<_>>(),
            &entries.iter().map(|entry| entry.previous_state.as_ref()).collect::<Vec<_>>(),
            &entries.iter().map(|entry| entry.new_state.as_ref()).collect::<Vec<_>>(),
            &entries.iter().map(Entry::details).collect::<Vec<_>>(),
        ],
    )
    .await
}

/// Creates the missing partitions of this month and of the next `months`. The database counts from
/// its own clock, which no one moves: it makes those up to `now` as well.
pub(crate) async fn ensure_partitions(
    db: &impl Executor,
    months: i32,
    now: Timestamp,
) -> Result<()> {
    let sql = "SELECT ensure_audit_partitions($1 + greatest(0, months.ahead)::integer)
               FROM (SELECT 12 * (extract(year FROM at) - extract(year FROM here))
                     + extract(month FROM at) - extract(month FROM here) AS ahead
                     FROM (SELECT $2::timestamptz AT TIME ZONE 'UTC' AS at,
                           now() AT TIME ZONE 'UTC' AS here) clocks) months";
    execute(db, sql, &[&months, &now]).await?;
    Ok(())
}

/// A page of the rows that match the filter, newest first, and one more.
pub(crate) async fn list(
    db: &impl Executor,
    filter: &AuditFilter,
    page: &Page<(Timestamp, i64)>,
) -> Result<Vec<AuditRow>> {
    let mut conditions = Conditions::default();
    conditions.equal("tenant_id", filter.tenant_id.clone());
    conditions.equal("subscription_id", filter.subscription_id.clone());
    conditions.equal("device_id", filter.device_id.clone());
    conditions.equal("event_type", filter.event_type);
    conditions.equal("actor_id", filter.actor_id.clone());
    if let Some(from) = filter.from {
        conditions.and("event_timestamp >= ?", from.get());
    }
    if let Some(to) = filter.to {
        conditions.and("event_timestamp < ?", to.get());
    }
    if let Some((at, id)) = page.after {
        conditions.and_two("(event_timestamp, id) < (?, ?)", at, id);
    }
    let select = "SELECT id, event_timestamp, event_type, tenant_id, subscription_id, device_id,
                  actor_type, actor_id, host(ip_address) AS ip_address, stripe_event_id,
                  previous_state, new_state, details
                  FROM subscription_audit";
    let rows = conditions.page(db, select, "event_timestamp DESC, id DESC", page).await?;
    let row = |row| {
        let mut fields = Fields::of(row);
        Ok(AuditRow {
            id: fields.get("id")?,
            event_timestamp: fields.get("event_timestamp")?,
            event_type: fields.get("event_type")?,
            tenant_id: fields.get("tenant_id")?,
            subscription_id: fields.get("subscription_id")?,
            device_id: fields.get("device_id")?,
            actor_type: fields.get("actor_type")?,
            actor_id: fields.get("actor_id")?,
            ip_address: fields.get("ip_address")?,
            stripe_event_id: fields.get("stripe_event_id")?,
            previous_state: fields
                .get::<Option<Json<_>>>("previous_state")?
                .map(|Json(state)| state),
            new_state: fields.get::<Option<Json<_>>>("new_state")?.map(|Json(state)| state),
            details: fields.get::<Option<Json<_>>>("details")?.map(|Json(state)| state),
        })
    };
    rows.iter().map(row).collect()
}
