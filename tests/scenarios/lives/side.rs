//! One database, and the functions that apply events to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::domain::events::Applier;
use shared::outside::queue::Queue;
use shared::outside::secrets::{Role, Secrets};
use shared::outside::stripe::Stripe;
use shared::process::config::{DatabaseSettings, Env};
use simulators::stripe::Simulator;
use stripe_events::StripeEvents;
use tests::proxy::Proxy;
use tests::{connect, database, stack};
use tokio_postgres::Client;

pub(super) fn env(
    settings: &BTreeMap<&'static str, String>,
    more: &[(&'static str, String)],
) -> Env {
    let settings = settings.clone().into_iter().chain(more.iter().cloned());
    let surroundings = tests::SURROUNDINGS.map(|name| (name, tests::stack(name)));
    Env::of(
        settings
            .into_iter()
            .chain(surroundings)
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

/// One database, and what applies events to it.
pub(super) struct Side {
    pub(super) owner: Client,
    pub(super) settings: BTreeMap<&'static str, String>,
    /// Between it and its database, where that fails.
    pub(super) proxy: Option<Proxy>,
    pub(super) db: Arc<Db>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) aws: shared::outside::aws::SdkConfig,
}

impl Side {
    pub(super) async fn new(failing: bool) -> Self {
        let name = database().await;
        let owner = connect(&name).await;
        let proxy = failing.then(|| {
            Proxy::start(format!("{}:{}", stack("DATABASE_HOST"), stack("DATABASE_PORT")))
        });
        let host = if failing { "127.0.0.1".to_owned() } else { stack("DATABASE_HOST") };
        let port =
            proxy.as_ref().map_or_else(|| stack("DATABASE_PORT"), |proxy| proxy.port().to_string());
        let settings = BTreeMap::from([
            ("DATABASE_HOST", host),
            ("DATABASE_PORT", port),
            ("DATABASE_NAME", name),
            ("DATABASE_SSLMODE", "disable".to_owned()),
            ("SECRETS_PREFIX", stack("SECRETS_PREFIX")),
            ("STRIPE_QUEUE_URL", "http://127.0.0.1:9/none".to_owned()),
            ("PROVISIONING_QUEUE_URL", "http://127.0.0.1:9/none".to_owned()),
            ("STRIPE_READS_PER_SECOND", "0".to_owned()),
        ]);
        // A subscription has the same id on both sides, whatever came first there: slots that are
        // ordered for it name it. It is made of the checkout that this transaction has claimed.
        let same_id = "CREATE OR REPLACE FUNCTION generate_subscription_id(at timestamptz
                DEFAULT now()) RETURNS text LANGUAGE sql VOLATILE AS $$
                SELECT coalesce((
                    SELECT 'SUB-9999-' || ('x' || substr(md5(object_id), 1, 12))::bit(48)::bigint
                    FROM stripe_events WHERE pg_current_xact_id()::xid IN (xmin, xmax)
                    AND NOT EXISTS (SELECT FROM subscriptions
                                    WHERE xmin = pg_current_xact_id()::xid)
                ), 'SUB-9998-' || nextval('subscription_number')) $$";
        owner.batch_execute(same_id).await.expect("a function");
        // Lives in euros pay by prices of the same plans and slots. That of pro was taken for
        // pounds.
        let euros = "INSERT INTO stripe_prices (stripe_price_id, plan_id, tier_id, interval,
                     is_current, is_further, currency, cents)
                     SELECT stripe_price_id || '_eur', plan_id, tier_id, interval, false, true,
                            CASE plan_id WHEN 'pro' THEN 'gbp' ELSE 'eur' END, 300
                     FROM stripe_prices WHERE interval = 'month'";
        owner.batch_execute(euros).await.expect("prices in euros");
        let env = env(&settings, &[]);
        let aws = tests::aws();
        let secrets = Secrets::read(&aws, &env, Role::System).await.expect("the secret");
        let db = Db::new(
            DatabaseSettings::from_env(&env).expect("settings"),
            "pulse_system",
            Arc::clone(&secrets),
        )
        .expect("a pool");
        Self { owner, settings, proxy, db: Arc::new(db), secrets, aws }
    }

    /// The function as it would be started, on this life's Stripe and in its time.
    pub(super) fn functions(&self, stripe: &Simulator, clock: Clock) -> StripeEvents {
        let base = stripe.base_url().trim_end_matches('/').to_owned();
        let nowhere = || Queue::new(&self.aws, "http://127.0.0.1:9/none".to_owned());
        let stripe = Stripe::new(base, Arc::clone(&self.secrets)).expect("a client");
        let applier = Applier { db: Arc::clone(&self.db), stripe, reads_per_second: 0, clock };
        StripeEvents { applier, queue: nowhere(), outbox_wake: nowhere() }
    }

    /// What it has of these Stripe subscriptions. Tiers that a former plan brought stay with no
    /// slots; who came late never had them. Slots that were paid for a MAIN which has ended are
    /// an ADDON that ended, or, heard of late, a flag. Whether a checkout or its adoption made a MAIN depends on what came
    /// first. Items that are gone left an ADDON with
    /// nothing; who came late never had it.
    pub(super) async fn state(&self, ids: &[String]) -> Vec<Value> {
        let sql = "SELECT to_jsonb(row) FROM (
                SELECT s.stripe_subscription_id, CASE WHEN r.subscription_id IS NOT NULL THEN
                s.stripe_checkout_session_id END AS stripe_checkout_session_id, s.tenant_id,
                s.subscription_type, r.stripe_subscription_id AS parent, s.stripe_paid_until, s.status,
                s.plan_id, s.quantity, s.limits, s.stripe_items, s.device_limit, s.term_end,
                s.grace_end,
                              -- An ADDON that was heard of late starts with the period that it
                              -- was found in.
                       CASE WHEN r.subscription_id IS NULL THEN s.term_start END AS term_start,
                       s.stripe_status, s.stripe_currency, s.stripe_price_id,
                       s.stripe_period_end, s.stripe_cancel_at,
                       s.stripe_collection_paused,
                       (SELECT jsonb_object_agg(a.tier_id, a.slot_limit)
                       FROM subscription_tier_allocations a
                        WHERE a.subscription_id = s.subscription_id AND a.slot_limit > 0) AS slots
                FROM subscriptions s LEFT JOIN subscriptions r
                ON r.subscription_id = s.parent_subscription_id
                WHERE coalesce(r.stripe_subscription_id, s.stripe_subscription_id) = ANY($1)
                AND r.status IS DISTINCT FROM 'EXPIRED'
                AND NOT (s.subscription_type = 'ADDON' AND s.device_limit = 0)
                ORDER BY 5 NULLS FIRST, 1, 2) AS row";
        self.owner
            .query(sql, &[&ids])
            .await
            .expect("the state")
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Of what was collected, what gave no access up to its end, and is in no flag.
    pub(super) async fn collected_for_nothing(
        &self,
        collected: &[(String, Timestamp, String)],
    ) -> Vec<String> {
        let subscriptions: Vec<&str> = collected.iter().map(|(id, ..)| id.as_str()).collect();
        let ends: Vec<Timestamp> = collected.iter().map(|(_, end, _)| *end).collect();
        let invoices: Vec<&str> = collected.iter().map(|(.., invoice)| invoice.as_str()).collect();
        let sql = "SELECT c.invoice || ' of ' || c.stripe || ' until ' || c.until
                   FROM unnest($1::text[], $2::timestamptz[], $3::text[])
                   AS c (stripe, until, invoice)
                   LEFT JOIN subscriptions s ON s.stripe_subscription_id = c.stripe
                   WHERE NOT EXISTS (
                       SELECT FROM subscription_audit a
                       WHERE a.subscription_id = s.subscription_id
                       AND a.new_state ->> 'status' IN ('TRIAL', 'ACTIVE', 'GRACE')
                       AND (a.new_state ->> 'stripe_paid_until')::timestamptz >= c.until)
                   AND NOT EXISTS (
                       SELECT FROM flags f WHERE f.tenant_id = s.tenant_id
                       AND f.kind IN ('paid_without_access', 'plan_unresolved'))
                   AND NOT EXISTS (
                       SELECT FROM flags f JOIN stripe_events e ON e.event_id = f.stripe_event_id
                       WHERE e.stripe_subscription_id = c.stripe AND f.kind = 'never_matched')
                   AND NOT EXISTS (
                       SELECT FROM stripe_events e WHERE e.stripe_subscription_id = c.stripe
                       AND e.status IN ('failed', 'waiting'))";
        let rows = self.owner.query(sql, &[&subscriptions, &ends, &invoices]).await;
        rows.expect("what was collected").iter().map(|row| row.get(0)).collect()
    }

    /// Events that could not be applied: none but payments of slots whose MAIN was over.
    pub(super) async fn failed(&self) -> Vec<Value> {
        let sql = "SELECT jsonb_build_object('type', event_type, 'reason', status_reason)
                   FROM stripe_events
                   WHERE status = 'failed' AND status_reason NOT LIKE 'the add-on is paid, but%'";
        self.owner.query(sql, &[]).await.expect("events").iter().map(|row| row.get(0)).collect()
    }

    /// The live MAIN of this Stripe subscription that slots can be ordered for.
    pub(super) async fn main(&self, stripe: &str, now: Timestamp) -> Option<(String, String)> {
        let sql = "SELECT subscription_id, tenant_id FROM subscriptions
                   WHERE stripe_subscription_id = $1 AND status IN ('TRIAL', 'ACTIVE')
                   AND term_end > $2::timestamptz + interval '1 hour'";
        let row = self.owner.query_opt(sql, &[&stripe, &now]).await.expect("a MAIN");
        row.map(|row| (row.get(0), row.get(1)))
    }

    /// An order, as the API would have left it: the same on both sides, because there is one
    /// database in truth.
    pub(super) async fn order(
        &self,
        order: &str,
        (tenant, parent): (&str, &str),
        (slots, currency): (i32, &str),
        now: Timestamp,
    ) {
        let sql = "INSERT INTO addon_orders (order_id, tenant_id, parent_subscription_id, interval,
                   term_end, remaining_days, period_days, lines, amount_cents, currency, expires_at,
                   created_at, updated_at)
                   SELECT $1, $2, $3, 'month', term_end, 30, 30,
                          jsonb_build_array(jsonb_build_object('tier_id', 2, 'name', 'standard',
                          'display_name', 'Standard', 'additional_slots', $4::integer,
                          'slot_price_cents', 300, 'amount_cents', 300 * $4::integer, 'calculation',
                          'whole')), 300 * $4::integer, $6,
                          $5::timestamptz + interval '35 minutes', $5, $5
                   FROM subscriptions WHERE subscription_id = $3";
        self.owner
            .execute(sql, &[&order, &tenant, &parent, &slots, &now, &currency])
            .await
            .expect("an order");
    }
}
