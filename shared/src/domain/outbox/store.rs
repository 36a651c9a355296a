//! `outbox_steps`.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::model::{
    AddonQuantity, CustomerField, LEASE, MailLane, MailStep, StepFilter, StepKind, StepRow,
    StepStatus, StripeCancel, StripeCustomer, StripeSync,
};
use crate::base::error::Service;
use crate::base::ids::{
    StripeEventId, StripePriceId, StripeSessionId, StripeSubscriptionId, SubscriptionId, TenantId,
};
use crate::base::paging::Page;
use crate::db::{
    Conditions, Executor, Transaction, execute, query, query_one, query_opt, query_planned,
};
use crate::domain::families::subscription::Subscription;
use crate::outside::keycloak::NewAccount;
use crate::{Error, Result};

/// A claimed step.
#[derive(Debug)]
pub(crate) struct Step {
    /// Its id.
    pub id: i64,
    /// What to do.
    pub kind: StepKind,
    /// The tenant that it is for; the operators' digest has none.
    pub tenant: Option<TenantId>,
    /// What it needs, as stored.
    pub payload: Value,
    /// The result of the step before it.
    pub before: Option<Value>,
    /// Its own result, where it was done before.
    pub earlier: Option<Value>,
    /// The number of this claim: a later claim voids it.
    pub claim: i64,
    /// Attempts, this one included.
    pub attempts: i32,
    /// The mail address whose user it began to make.
    pub began_email: Option<String>,
    /// When its cause was committed, or an operator had it tried again.
    pub since: Timestamp,
    /// Whether it was made due again: only then may it have been given up, and flagged.
    pub is_again: bool,
    /// The event that left it, where one did.
    pub stripe_event: Option<StripeEventId>,
}

/// Inserts the two steps of a new tenant's first login, without a wait: the user, then the mail. A
/// repeated checkout is the same steps; the log of both names the event.
pub(crate) async fn insert_first_login(
    tx: &Transaction,
    tenant: &TenantId,
    (checkout, event): (&StripeSessionId, &StripeEventId),
    user: &NewAccount,
    now: Timestamp,
) -> Result<()> {
    let payload = serde_json::to_value(user).map_err(|error| Error::Internal(error.to_string()))?;
    tx.write(
        "WITH account AS (
             INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, stripe_event_id,
             next_attempt_at, created_at, updated_at)
             VALUES ($1, $2, $1 || ':' || $4, $5, $6, $7, $7, $7) RETURNING step_id)
         INSERT INTO outbox_steps (kind, tenant_id, after_step_id, dedup_key, payload,
         stripe_event_id, next_attempt_at, created_at, updated_at)
         SELECT $3, $2, step_id, $3 || ':' || $4, '{}', $6, $7, $7, $7 FROM account",
        &[
            &StepKind::NewAccount,
            &tenant,
            &StepKind::WelcomeMail,
            &checkout,
            &payload,
            &event,
            &now,
        ],
    )
    .await
}

/// Whether a checkout made the tenant and no login was ever begun, because what was bought had
/// ended by then.
pub(crate) async fn has_no_login(tx: &Transaction, tenant: &TenantId) -> Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT FROM outbox_steps WHERE tenant_id = $1
                                  AND kind = 'keycloak_user')
               AND EXISTS (SELECT FROM subscription_audit WHERE tenant_id = $1
                           AND event_type = 'TENANT_PROVISIONED' AND actor_id = 'stripe')";
    Ok(query_one(tx, sql, &[&tenant]).await?.get(0))
}

/// Inserts the steps of mails, each key once. Returns the keys that were not there yet.
///
/// # Errors
/// `Database`.
pub(crate) async fn insert_mails(
    tx: &Transaction,
    mails: Vec<MailStep<'_>>,
    now: Timestamp,
) -> Result<HashSet<String>> {
    let tenants: Vec<Option<&TenantId>> = mails.iter().map(|mail| mail.tenant).collect();
    let (keys, payloads): (Vec<String>, Vec<Value>) =
        mails.into_iter().map(|mail| (mail.key, mail.payload)).unzip();
    let sql = "INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, next_attempt_at,
               created_at, updated_at)
               SELECT 'mail', new.tenant, new.key, new.payload, $4, $4, $4
               FROM unnest($1::text[], $2::text[], $3::jsonb[]) AS new (tenant, key, payload)
               ON CONFLICT (dedup_key) DO NOTHING RETURNING dedup_key";
    let rows = query(tx, sql, &[&tenants, &keys, &payloads, &now]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Which of these keys have steps.
///
/// # Errors
/// `Database`.
pub(crate) async fn existing_keys(db: &impl Executor, keys: &[String]) -> Result<HashSet<String>> {
    let rows =
        query(db, "SELECT dedup_key FROM outbox_steps WHERE dedup_key = ANY($1)", &[&keys]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Inserts the step that ends a Stripe subscription at once. There is one for each subscription: a
/// step that was given up or dismissed is due again. False where the step is pending or done.
///
/// # Errors
/// `Database`.
pub async fn insert_stripe_cancel(
    tx: &Transaction,
    tenant: &TenantId,
    subscription: &SubscriptionId,
    stripe: &StripeSubscriptionId,
    now: Timestamp,
) -> Result<bool> {
    let payload = StripeCancel {
        stripe_subscription_id: stripe.clone(),
        subscription_id: subscription.clone(),
    };
    let again = [StepStatus::Failed, StepStatus::Dismissed];
    upsert(tx, StepKind::StripeCancel, tenant, stripe.as_str(), &payload, &again, now).await
}

/// Inserts the step that syncs a subscription with Stripe. A step that exists is due again,
/// whatever its state.
///
/// # Errors
/// `Database`.
pub async fn insert_stripe_sync(
    tx: &Transaction,
    tenant: &TenantId,
    stripe: &StripeSubscriptionId,
    now: Timestamp,
) -> Result<()> {
    let payload = StripeSync { stripe_subscription_id: stripe.clone() };
    upsert(tx, StepKind::StripeSync, tenant, stripe.as_str(), &payload, StepStatus::ALL, now)
        .await?;
    Ok(())
}

/// Leaves the step that syncs it for each subscription that pays by this price, its plan or slots
/// beside that, and goes on at Stripe, ten a second: a login does not wait behind thousands of
/// them. A step that exists is due again, whatever its state.
pub(crate) async fn insert_stripe_syncs(
    tx: &Transaction,
    price: &StripePriceId,
    now: Timestamp,
) -> Result<()> {
    tx.write(
        "INSERT INTO outbox_steps AS step (kind, tenant_id, dedup_key, payload, next_attempt_at,
         created_at, updated_at)
         SELECT 'stripe_sync', tenant_id, 'stripe_sync:' || stripe_subscription_id,
                jsonb_build_object('stripe_subscription_id', stripe_subscription_id),
                $2::timestamptz
                + (row_number() OVER (ORDER BY subscription_id) - 1) / 10 * interval '1 second',
                $2, $2
         FROM subscriptions WHERE (stripe_price_id = $1 OR stripe_items @> $3)
         AND stripe_subscription_id IS NOT NULL
         AND coalesce(stripe_status, '') NOT IN ('canceled', 'incomplete_expired')
         ORDER BY subscription_id
         ON CONFLICT (dedup_key) DO UPDATE
         SET status = 'pending', next_attempt_at = excluded.next_attempt_at,
         claimed_until = NULL, claim = step.claim + 1, retried_at = $2, updated_at = $2",
        &[&price, &now, &json!([{"price_id": price}])],
    )
    .await
}

/// Inserts the one step of this `key`, or makes it due again if it has one of these states. The new
/// claim number voids a running attempt, which may have read stale state. False where the step is
/// unchanged.
async fn upsert(
    tx: &Transaction,
    kind: StepKind,
    tenant: &TenantId,
    key: &str,
    payload: &impl Serialize,
    again: &[StepStatus],
    now: Timestamp,
) -> Result<bool> {
    let payload =
        serde_json::to_value(payload).map_err(|error| Error::Internal(error.to_string()))?;
    let written = execute(
        tx,
        "INSERT INTO outbox_steps AS step (kind, tenant_id, dedup_key, payload, next_attempt_at,
         created_at, updated_at)
             VALUES ($1, $2, $1 || ':' || $3::text, $4, $5, $5, $5)
             ON CONFLICT (dedup_key) DO UPDATE
             SET status = 'pending', next_attempt_at = $5, claimed_until = NULL,
             claim = step.claim + 1, retried_at = $5, updated_at = $5
             WHERE step.status = ANY($6)",
        &[&kind, &tenant, &key, &payload, &now, &again],
    )
    .await?;
    Ok(written == 1)
}

/// Inserts the step that has Stripe charge for the slots that a family's ADDONs have from now on;
/// nothing if the root is not paid at Stripe. There is one step for each family. A later cause
/// makes it due again, even if it was done, given up or dismissed. A running attempt may have read
/// stale state: its claim is void, and the step is due when its lease ends, so that no two workers
/// set quantities at once.
///
/// # Errors
/// `Database`.
pub async fn insert_addon_quantity(
    tx: &Transaction,
    root: &Subscription,
    now: Timestamp,
) -> Result<bool> {
    if root.stripe.is_none() {
        return Ok(false);
    }
    let payload = AddonQuantity { subscription_id: root.subscription_id.clone() };
    let payload =
        serde_json::to_value(payload).map_err(|error| Error::Internal(error.to_string()))?;
    tx.write(
        "INSERT INTO outbox_steps AS step (kind, tenant_id, dedup_key, payload, next_attempt_at,
         created_at, updated_at)
         VALUES ('stripe_addon_quantity', $1, 'stripe_addon_quantity:' || $2::text, $3, $4, $4, $4)
         ON CONFLICT (dedup_key) DO UPDATE
         SET status = 'pending', next_attempt_at = greatest($4, step.claimed_until),
         claim = step.claim + 1, attempts = 0, retried_at = $4, updated_at = $4",
        &[&root.tenant_id, &root.subscription_id, &payload, &now],
    )
    .await?;
    Ok(true)
}

/// Inserts the step that writes these fields of a tenant's profile to its Stripe customer. There is
/// one step for each tenant, as of `insert_addon_quantity`; what it has not written yet it still
/// writes. By a function of the database, because customers' role writes no steps itself.
///
/// # Errors
/// `Database`.
pub(crate) async fn insert_stripe_customer(
    tx: &Transaction,
    tenant: &TenantId,
    fields: &[CustomerField],
    now: Timestamp,
) -> Result<()> {
    let sql = "SELECT leave_stripe_customer_step($1, $2, $3)";
    tx.write(sql, &[&tenant, &json!(fields), &now]).await
}

/// Inserts the step that sets a tenant's organization in Keycloak. There is one step for each
/// tenant: a later cause makes it due again, whatever its state. It is due a minute later, so that
/// a new login and its mail come first. By a function of the database, as of
/// `insert_stripe_customer`.
///
/// # Errors
/// `Database`.
pub(crate) async fn insert_organization(
    tx: &Transaction,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<()> {
    tx.write("SELECT leave_organization_step($1, $2)", &[&tenant, &now]).await
}

/// Inserts that step for tenants that have none, or whose step was done while organizations were
/// switched off: so many that at most `most` are unfinished, one every 10 seconds. Returns how
/// many. What failed or was dismissed stays for an operator, or for the next cause; a tenant that
/// another holds at the moment is left to the next run.
///
/// # Errors
/// `Database`.
pub(crate) async fn insert_missing_organizations(
    db: &impl Executor,
    most: i64,
    now: Timestamp,
) -> Result<u64> {
    execute(
        db,
        "INSERT INTO outbox_steps AS step (kind, tenant_id, dedup_key, payload, next_attempt_at,
             created_at, updated_at)
             SELECT 'keycloak_organization', tenant_id, 'keycloak_organization:' || tenant_id, '{}',
                    $1::timestamptz + row_number() OVER (ORDER BY tenant_id)
                    * interval '10 seconds',
                    $1, $1
             FROM (SELECT tenant_id FROM tenants t WHERE t.status = 'ACTIVE' AND NOT EXISTS (
                       SELECT FROM outbox_steps s
                       WHERE s.dedup_key = 'keycloak_organization:' || t.tenant_id
                       AND (s.status <> 'done' OR NOT s.result ? 'skipped'))
                   ORDER BY tenant_id
                   LIMIT greatest(0, $2 - (SELECT count(*) FROM outbox_steps
                                           WHERE kind = 'keycloak_organization'
                                           AND status IN ('pending', 'failed')))
                   FOR KEY SHARE OF t SKIP LOCKED) AS missing
             ON CONFLICT (dedup_key) DO UPDATE
             SET status = 'pending', next_attempt_at = excluded.next_attempt_at, attempts = 0,
             claim = step.claim + 1, retried_at = $1, updated_at = $1 WHERE step.status = 'done'",
        &[&now, &most],
    )
    .await
}

/// Which fields of the tenant's Stripe customer are older than its profile.
///
/// # Errors
/// `Database`.
pub(crate) async fn unwritten_customer_fields(
    db: &impl Executor,
    tenant: &TenantId,
) -> Result<Vec<CustomerField>> {
    let sql = "SELECT payload FROM outbox_steps WHERE dedup_key = 'stripe_customer:' || $1::text
               AND status <> 'done'";
    let Some(row) = query_opt(db, sql, &[&tenant]).await? else { return Ok(Vec::new()) };
    StripeCustomer::deserialize(row.get::<_, Value>("payload"))
        .map(|step| step.fields)
        .map_err(|error| Error::Internal(format!("payload: {error}")))
}

const STEP: &str = "step_id, kind, tenant_id, status, attempts, next_attempt_at, last_error, \
                    after_step_id, payload, result, created_at, updated_at";

fn step(row: &Row) -> Result<StepRow> {
    Ok(StepRow {
        step_id: row.get("step_id"),
        kind: row.try_get("kind")?,
        tenant_id: row.try_get("tenant_id")?,
        status: row.try_get("status")?,
        attempts: row.get("attempts"),
        next_attempt_at: row.get("next_attempt_at"),
        last_error: row.get("last_error"),
        after_step_id: row.get("after_step_id"),
        payload: row.get("payload"),
        result: row.get("result"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

/// A page of the steps that the filter matches, newest first, and one more.
pub(crate) async fn list(
    db: &impl Executor,
    filter: &StepFilter,
    page: &Page<i64>,
) -> Result<Vec<StepRow>> {
    let mut conditions = Conditions::default();
    conditions.equal("tenant_id", filter.tenant_id.clone());
    conditions.equal("kind", filter.kind);
    conditions.equal("status", filter.status);
    if let Some(id) = page.after {
        conditions.and("step_id < ?", id);
    }
    conditions
        .page(db, &format!("SELECT {STEP} FROM outbox_steps"), "step_id DESC", page)
        .await?
        .iter()
        .map(step)
        .collect()
}

/// The step of this number.
pub(crate) async fn find(db: &impl Executor, id: i64) -> Result<Option<StepRow>> {
    let sql = format!("SELECT {STEP} FROM outbox_steps WHERE step_id = $1");
    query_opt(db, &sql, &[&id]).await?.as_ref().map(step).transpose()
}

/// Locks the step of this id until the transaction ends.
pub(crate) async fn lock(tx: &Transaction, id: i64) -> Result<Option<StepRow>> {
    let row = query_opt(
        tx,
        &format!("SELECT {STEP} FROM outbox_steps WHERE step_id = $1 FOR UPDATE"),
        &[&id],
    )
    .await?;
    row.as_ref().map(step).transpose()
}

/// Claims the step that has been due longest, and whose predecessor is done. A worker that dies
/// holds it until the lease ends. Mails come after everything else, because a login does not wait
/// behind ten thousand of them, and organizations last, because no access depends on them.
pub(crate) async fn claim_due(
    db: &impl Executor,
    lane: MailLane,
    now: Timestamp,
) -> Result<Option<Step>> {
    let rows = query_planned(
        db,
        "UPDATE outbox_steps SET claim = claim + 1, claimed_until = $2, next_attempt_at = $2,
             attempts = attempts + 1, updated_at = $1
             WHERE step_id = (
                 SELECT due.step_id FROM outbox_steps due
                 LEFT JOIN outbox_steps before ON before.step_id = due.after_step_id
                 WHERE due.status = 'pending' AND due.next_attempt_at <= $1
                 AND coalesce(due.claimed_until <= $1, true)
                   AND coalesce(before.status = 'done', true) AND ($3 OR due.kind <> 'mail')
                 ORDER BY CASE due.kind WHEN 'mail' THEN 1 WHEN 'keycloak_organization' THEN 2
                          ELSE 0 END, due.next_attempt_at
                 LIMIT 1
                 FOR UPDATE OF due SKIP LOCKED)
             RETURNING step_id, kind, tenant_id, payload, claim, attempts, began_email,
             stripe_event_id, result, coalesce(retried_at, created_at) AS since,
             retried_at IS NOT NULL AS is_again,
                       (SELECT result FROM outbox_steps before
                       WHERE before.step_id = outbox_steps.after_step_id) AS before",
        &[
            (&now, Type::TIMESTAMPTZ),
            (&(now + LEASE), Type::TIMESTAMPTZ),
            (&(lane == MailLane::Open), Type::BOOL),
        ],
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Step {
        id: row.get("step_id"),
        kind: row.try_get("kind")?,
        tenant: row.try_get("tenant_id")?,
        payload: row.get("payload"),
        before: row.get("before"),
        earlier: row.get("result"),
        claim: row.get("claim"),
        attempts: row.get("attempts"),
        began_email: row.get("began_email"),
        since: row.get("since"),
        is_again: row.get("is_again"),
        stripe_event: row.try_get("stripe_event_id")?,
    }))
}

/// Records that a claimed step is about to make the user of this mail address, which has none yet.
/// Of two unfinished steps for one address one may.
///
/// # Errors
/// `Upstream`, transient, where another step began it and is not finished, or the claim is void.
pub(crate) async fn begin_account(
    db: &impl Executor,
    step: &Step,
    email: &str,
    now: Timestamp,
) -> Result<()> {
    let begun = execute(
        db,
        "UPDATE outbox_steps SET began_email = $3, updated_at = $4
             WHERE step_id = $1 AND claim = $2 AND status = 'pending'",
        &[&step.id, &step.claim, &email, &now],
    )
    .await;
    let refuse = |why| Err(Error::unavailable(Service::Database, why));
    match begun {
        Ok(1) => Ok(()),
        Ok(_) => refuse("the claim is void"),
        Err(Error::Database(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            refuse("another step is making the user of this address")
        }
        Err(error) => Err(error),
    }
}

/// Records that a step is done, without a wait. Where the claim is void, another worker's result
/// counts, and nothing may be committed: the status then is none (`db::wrote_null`).
pub(crate) async fn finish(
    tx: &Transaction,
    step: &Step,
    result: &Value,
    now: Timestamp,
) -> Result<()> {
    let sql = "UPDATE outbox_steps SET status = CASE WHEN claim = $2 AND status = 'pending'
               THEN 'done' END, result = $3, claimed_until = NULL, last_error = NULL,
               updated_at = $4 WHERE step_id = $1";
    tx.write(sql, &[&step.id, &step.claim, &result, &now]).await
}

/// Records that an attempt failed. The next is at `next_attempt`; without one, the step waits for
/// an operator. False as in `finish`.
pub(crate) async fn fail(
    tx: &Transaction,
    step: &Step,
    error: &str,
    next_attempt: Option<Timestamp>,
    now: Timestamp,
) -> Result<bool> {
    let updated = execute(
        tx,
        "UPDATE outbox_steps SET status = CASE WHEN $4::timestamptz IS NULL THEN 'failed'
         ELSE status END, next_attempt_at = coalesce($4, next_attempt_at),
                    claimed_until = NULL, last_error = $3, updated_at = $5
             WHERE step_id = $1 AND claim = $2 AND status = 'pending'",
        &[&step.id, &step.claim, &error, &next_attempt, &now],
    )
    .await?;
    Ok(updated == 1)
}

/// Makes a locked step due now, with these fields of its payload replaced, and restarts its 72
/// hours. A running attempt's claim is void. If another step has begun to make the user of its
/// address meanwhile, that user is the other one's.
pub(crate) async fn retry(
    tx: &Transaction,
    id: i64,
    fields: &Value,
    now: Timestamp,
) -> Result<StepRow> {
    let sql = format!(
        "UPDATE outbox_steps mine SET status = 'pending', next_attempt_at = $3,
         claimed_until = NULL, claim = claim + 1, retried_at = $3, updated_at = $3, payload = payload || $2,
         began_email = CASE WHEN EXISTS (
             SELECT FROM outbox_steps other WHERE other.began_email = mine.began_email
             AND other.status = 'pending' AND other.step_id <> mine.step_id)
         THEN NULL ELSE began_email END
         WHERE step_id = $1 RETURNING {STEP}"
    );
    step(&query_one(tx, &sql, &[&id, &fields, &now]).await?)
}

/// Dismisses a locked step, and those that wait for it.
pub(crate) async fn dismiss(tx: &Transaction, id: i64, now: Timestamp) -> Result<StepRow> {
    tx.write(
        "UPDATE outbox_steps SET status = 'dismissed', claim = claim + 1, claimed_until = NULL,
         updated_at = $2
         WHERE after_step_id = $1 AND status IN ('pending', 'failed')",
        &[&id, &now],
    )
    .await?;
    let sql = format!(
        "UPDATE outbox_steps SET status = 'dismissed', claim = claim + 1, claimed_until = NULL,
         updated_at = $2 WHERE step_id = $1 RETURNING {STEP}"
    );
    step(&query_one(tx, &sql, &[&id, &now]).await?)
}
