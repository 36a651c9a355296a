//! The hourly run over a fleet of which one in a hundred is due. Its floors are SQL by hand that
//! does the same, set by set, and SQL that only changes the rows. All three work on one database,
//! each in an hour of its own, so that each finds as many that are due.

use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use simulators::stripe::Options;
use simulators::stripe::Simulator;
use tokio_postgres::Client;

use super::Bench;
use super::database::FILLED_AT;
use super::database::Fleet;
use super::milliseconds;
use super::report::Aim;
use super::report::Measure;
use super::runtime::Instance;

/// From one run to the next. Terms end all over a year, so that one in a hundred is due each time:
/// an eighth of them terms, an eighth grace periods, the rest notices.
const STEP: &str = "11 hours";

/// Measures the hourly run over a fleet.
pub(super) async fn run(bench: &Bench, fleet: &Fleet) -> Result<Vec<Measure>> {
    let rows = fleet.rows;
    let step = bench.progress.step(format!("{} hourly runs over {rows}", bench.rounds));
    // An empty Stripe: the run reads from it as usual, and it answers at once.
    let stripe = Simulator::start(Options {
        listen: ([127, 0, 0, 1], 0).into(),
        secret_key: bench.env.get("STRIPE_SECRET_KEY")?.to_owned(),
        webhook_secret: bench.env.get("STRIPE_WEBHOOK_SECRET")?.to_owned(),
        webhook_url: None,
    })
    .await?;
    let settings = bench.settings(&[
        ("DATABASE_NAME", &fleet.name),
        ("STRIPE_API_BASE", stripe.base_url().trim_end_matches('/')),
    ]);
    let event = |at: &str| json!({ "as_of": at }).to_string().into_bytes();
    let function =
        Instance::start(&bench.program("renewal"), &settings, event(FILLED_AT), &bench.log).await?;
    summary(&function.first)?;

    let name = |what: &str| format!("hourly run over {rows}: {what}");
    let mut same =
        Measure::new(name("what is due / the same in SQL by hand"), "ms", Aim::AtMost(1.5));
    let mut bare = Measure::new(name("what is due / the bare updates"), "ms", Aim::None);
    let mut whole = Measure::new(name("all of it / the same in SQL by hand"), "ms", Aim::None);
    let mut rest = Measure::new(name("an hour with nothing due / all of it"), "ms", Aim::None);
    let mut used = Measure::new(name("processor, function / its time"), "ms", Aim::None);
    let (mut first, mut last) = (0, 0);
    for round in 0..i32::try_from(bench.rounds)? {
        let hour = async |number: i32| -> Result<String> {
            let sql = format!(
                "SELECT to_char(timestamptz '{FILLED_AT}' + $1 * interval '{STEP}',
                 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
            );
            Ok(fleet.db.query_one(&sql, &[&f64::from(number)]).await?.get(0))
        };
        let at = hour(3 * round + 1).await?;
        let before = function.processor()?;
        let (answer, took) = function.invoke(event(&at)).await?;
        let processor = function.processor()?.saturating_sub(before);
        let done = summary(&answer)?;
        let (answer, idle) = function.invoke(event(&at)).await?;
        ensure!(summary(&answer)? == 0, "the second run of an hour found something");
        let (hand, hand_rows) = by_hand(&fleet.db, &hour(3 * round + 2).await?, BY_HAND).await?;
        let (plain, bare_rows) = by_hand(&fleet.db, &hour(3 * round + 3).await?, BARE).await?;
        for found in [hand_rows, bare_rows] {
            ensure!(
                found.abs_diff(done) <= done / 20 + 8,
                "the run found {done}, SQL by hand {found}"
            );
        }
        let due = took.saturating_sub(idle);
        same.push(milliseconds(due), milliseconds(hand));
        bare.push(milliseconds(due), milliseconds(plain));
        whole.push(milliseconds(took), milliseconds(hand));
        rest.push(milliseconds(idle), milliseconds(took));
        used.push(milliseconds(processor), milliseconds(took));
        (_, last) = function.memory()?;
        first = if round == 0 { last } else { first };
        bench.progress.say(format!(
            "  {at}: {done} in {} ms, rest {} ms, by hand {} ms, bare {} ms",
            took.as_millis(),
            idle.as_millis(),
            hand.as_millis(),
            plain.as_millis()
        ));
    }
    function.stop().await?;
    step.done();
    let mut memory = Measure::new(name("most memory, last / first round"), "MB", Aim::AtMost(1.2));
    memory.push(super::megabytes(last), super::megabytes(first));
    Ok(vec![same, bare, whole, rest, used, memory])
}

/// The number of changes and notices of a run; an error if a part of it failed.
fn summary(answer: &[u8]) -> Result<u64> {
    let summary: Value = serde_json::from_slice(answer).context("a summary")?;
    ensure!(
        summary["errors"] == json!({}) && summary["breaker"].is_null(),
        "the run is incomplete: {summary}"
    );
    let sum = |of: &str| {
        summary[of]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, count)| count.as_u64())
            .sum::<u64>()
    };
    Ok(sum("changes") + sum("notices"))
}

/// Runs statements in one transaction, in a run's order; returns how long they took and how many
/// rows they changed.
async fn by_hand(db: &Client, at: &str, statements: [&str; 3]) -> Result<(Duration, u64)> {
    let began = Instant::now();
    db.batch_execute("BEGIN").await?;
    let mut changed = 0;
    for sql in statements {
        changed += db.execute(&sql.replace(":now", &format!("timestamptz '{at}'")), &[]).await?;
    }
    db.batch_execute("COMMIT").await?;
    Ok((began.elapsed(), changed))
}

const BARE: [&str; 3] = [
    "UPDATE subscriptions SET status = 'GRACE',
     grace_end = greatest(term_end + interval '14 days', :now + interval '3 days'),
     version = version + 1, updated_at = :now
     WHERE status = 'ACTIVE' AND term_end <= :now",
    "UPDATE subscriptions SET status = 'SUSPENDED', grace_end = NULL, version = version + 1,
     updated_at = :now WHERE status = 'GRACE' AND grace_end <= :now",
    "UPDATE subscriptions
     SET next_notice_at = (SELECT min(term_end - make_interval(days => d))
     FROM unnest(ARRAY[90, 60, 30, 14, 7, 1]) d
                           WHERE term_end - make_interval(days => d) > :now),
                           noticed_term_end = term_end
     WHERE status IN ('ACTIVE', 'TRIAL') AND parent_subscription_id IS NULL
       AND CASE WHEN noticed_term_end = term_end THEN next_notice_at
       ELSE '-infinity'::timestamptz END <= :now",
];

const BY_HAND: [&str; 3] = [
    "WITH due AS MATERIALIZED (SELECT * FROM subscriptions WHERE status = 'ACTIVE'
     AND term_end <= :now FOR NO KEY UPDATE),
          changed AS (UPDATE subscriptions s
          SET status = 'GRACE', grace_end = greatest(due.term_end + interval '14 days',
          :now + interval '3 days'), version = s.version + 1, updated_at = :now
                      FROM due WHERE s.subscription_id = due.subscription_id RETURNING s.*),
          audited AS (INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id,
          subscription_id, actor_type, actor_id, previous_state, new_state)
                      SELECT :now, 'STATUS_GRACE', c.tenant_id, c.subscription_id, 'system',
                      'renewal', to_jsonb(due), to_jsonb(c)
                      FROM changed c JOIN due USING (subscription_id))
     INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, next_attempt_at, created_at,
     updated_at)
     SELECT 'mail', tenant_id, 'mail:GRACE:' || subscription_id || ':' || grace_end,
            jsonb_build_object('mail', 'GRACE', 'subscription_id', subscription_id, 'at',
            grace_end), :now, :now, :now FROM changed",
    "WITH due AS MATERIALIZED (SELECT * FROM subscriptions WHERE status = 'GRACE'
     AND grace_end <= :now FOR NO KEY UPDATE),
          changed AS (UPDATE subscriptions s
          SET status = 'SUSPENDED', grace_end = NULL, version = s.version + 1, updated_at = :now
                      FROM due WHERE s.subscription_id = due.subscription_id RETURNING s.*),
          audited AS (INSERT INTO subscription_audit (event_timestamp, event_type, tenant_id,
          subscription_id, actor_type, actor_id, previous_state, new_state)
                      SELECT :now, 'STATUS_SUSPENDED', c.tenant_id, c.subscription_id, 'system',
                      'renewal', to_jsonb(due), to_jsonb(c)
                      FROM changed c JOIN due USING (subscription_id))
     INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, next_attempt_at, created_at,
     updated_at)
     SELECT 'mail', tenant_id, 'mail:SUSPENDED:' || subscription_id || ':' || term_end,
            jsonb_build_object('mail', 'SUSPENDED', 'subscription_id', subscription_id, 'at',
            term_end), :now, :now, :now FROM changed",
    "WITH due AS MATERIALIZED (SELECT subscription_id, tenant_id, term_end FROM subscriptions
                               WHERE status IN ('ACTIVE', 'TRIAL')
                               AND parent_subscription_id IS NULL
                                 AND CASE WHEN noticed_term_end = term_end THEN next_notice_at
                                 ELSE '-infinity'::timestamptz END <= :now FOR NO KEY UPDATE),
          looked AS (UPDATE subscriptions s SET noticed_term_end = s.term_end,
                            next_notice_at = (SELECT min(s.term_end - make_interval(days => d))
                            FROM unnest(ARRAY[90, 60, 30, 14, 7, 1]) d
                                              WHERE s.term_end - make_interval(days => d) > :now)
                     FROM due WHERE s.subscription_id = due.subscription_id)
     INSERT INTO outbox_steps (kind, tenant_id, dedup_key, payload, next_attempt_at, created_at,
     updated_at)
     SELECT 'mail', tenant_id, 'mail:RENEWAL_' || threshold || ':' || subscription_id || ':' ||
     term_end, jsonb_build_object('mail', 'RENEWAL_' || threshold, 'subscription_id',
     subscription_id, 'at', term_end), :now, :now, :now
     FROM due CROSS JOIN LATERAL (SELECT min(d) AS threshold
     FROM unnest(ARRAY[90, 60, 30, 14, 7, 1]) d
     WHERE term_end - make_interval(days => d) <= :now) next",
];
