//! `demo --world`: a world of companies, and what becomes of each in a year.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use jiff::SignedDuration;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use simulators::tokens::Role;

use crate::clock::Way;
use crate::clock::time::Times;
use crate::seed::Seeder;
use crate::seed::answer;
use crate::seed::company::Company;
use crate::seed::company::Kind;
use crate::seed::company::companies;
use crate::stack::settings::Env;
use crate::token::keycloak;
use crate::ui::Progress;
use crate::ui::seconds;

const YEAR: i64 = 365;

/// What a customer does in Stripe's portal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    CardDeclines,
    CardWorks,
    Cancel,
}

/// Sows a world, and leads it through a year.
pub(super) async fn play(
    env: &Env,
    state: &Path,
    (world, seed): (usize, u64),
    progress: &Progress,
) -> Result<()> {
    let companies = companies(world, seed);
    let seeder = Seeder::new(env).await?;
    let start = Instant::now();
    seeder.sow(&companies, progress).await?;
    println!("{world} companies have bought after {}", seconds(start.elapsed()));
    let start = Instant::now();
    let began = Times::of(state).read()?.now();
    let mut acts: Vec<(Timestamp, usize, Act)> = Vec::new();
    for (number, company) in companies.iter().enumerate() {
        let act = match company.kind {
            Kind::Decliner | Kind::Mender => Act::CardDeclines,
            Kind::Quitter => Act::Cancel,
            _ => continue,
        };
        acts.push((began + SignedDuration::from_hours(24 * company.day), number, act));
    }
    while !acts.is_empty() {
        acts.sort();
        let (at, number, act) = acts.remove(0);
        pass(env, state, at).await?;
        let company = &companies[number];
        let main = "SELECT t.stripe_customer_id, s.stripe_subscription_id, s.term_end
                    FROM tenants t JOIN subscriptions s USING (tenant_id)
                    WHERE t.tenant_id = $1 AND s.parent_subscription_id IS NULL";
        let main = seeder.database.query_one(main, &[&company.tenant()]).await?;
        let (customer, subscription): (&str, &str) = (main.get(0), main.get(1));
        let form = match act {
            Act::CardDeclines => [("action", "card"), ("card", "declines")],
            Act::CardWorks => [("action", "card"), ("card", "works")],
            Act::Cancel => [("action", "cancel"), ("subscription", subscription)],
        };
        seeder.in_portal(customer, &form).await.with_context(|| company.name.clone())?;
        if company.kind == Kind::Mender && act == Act::CardDeclines {
            let mended = main.get::<_, Timestamp>(2) + SignedDuration::from_hours(48);
            acts.push((mended, number, Act::CardWorks));
        }
        println!("{at:.0}  {:<40} {}", company.name, form.map(|(_, value)| value).join(" "));
    }
    pass(env, state, began + SignedDuration::from_hours(24 * YEAR)).await?;
    println!("a year of {world} companies in {}", seconds(start.elapsed()));
    check_invariants(env, &seeder).await?;
    let collected = check_collected(&seeder, &companies).await?;
    became(&seeder, &companies, &collected).await
}

async fn pass(env: &Env, state: &Path, to: Timestamp) -> Result<()> {
    if to <= Times::of(state).read()?.now() {
        return Ok(());
    }
    Way::begin(state, &format!("to {to}"), false)?.lead(env, |_, _| {}).await
}

/// Nothing that must never be is found.
async fn check_invariants(env: &Env, seeder: &Seeder<'_>) -> Result<()> {
    let token = keycloak(env)?.token(Role::Operator).await?;
    let url = format!("{}/api/v1/operator/invariants", env.get("API_URL")?);
    let found =
        answer(crate::http_client(std::time::Duration::from_mins(1))?.get(url).bearer_auth(token))
            .await?;
    ensure!(found["ok"] == true && found["complete"] == true, "broken: {found:#}");
    let failed = "SELECT count(*) FROM stripe_events WHERE status = 'failed'";
    let failed: i64 = seeder.database.query_one(failed, &[]).await?.get(0);
    ensure!(failed == 0, "{failed} events failed");
    println!("invariants: all zero, of {} subscriptions", found["compared"]);
    Ok(())
}

/// What Stripe collected is given, or flagged; returns what it collected by tenant and currency.
async fn check_collected(
    seeder: &Seeder<'_>,
    companies: &[Company],
) -> Result<BTreeMap<String, (i64, String)>> {
    let rows = "SELECT t.tenant_id, t.stripe_customer_id, s.stripe_subscription_id,
                greatest(s.stripe_paid_until, s.term_end) AS given,
                EXISTS (SELECT FROM flags f WHERE f.tenant_id = t.tenant_id) AS flagged
                FROM tenants t JOIN subscriptions s USING (tenant_id)
                WHERE t.tenant_id = ANY($1) AND s.parent_subscription_id IS NULL
                AND s.stripe_subscription_id IS NOT NULL";
    let tenants: Vec<String> = companies.iter().map(Company::tenant).collect();
    let mut collected = BTreeMap::new();
    for row in seeder.database.query(rows, &[&tenants]).await? {
        let (tenant, stripe): (String, &str) = (row.get(0), row.get(2));
        let path = format!("invoices?subscription={stripe}&status=paid&limit=100");
        let invoices = answer(seeder.stripe(Method::GET, &path)?).await?;
        let paid = invoices["data"].as_array().context("a list of invoices")?;
        let paid: Vec<&Value> = paid.iter().filter(|invoice| invoice["amount_paid"] != 0).collect();
        let sum = paid.iter().filter_map(|invoice| invoice["amount_paid"].as_i64()).sum::<i64>();
        let ends = paid.iter().flat_map(|invoice| {
            let lines = invoice["lines"]["data"].as_array().into_iter().flatten();
            lines.filter_map(|line| line["period"]["end"].as_i64())
        });
        let until = ends.max().map(Timestamp::from_second).transpose()?;
        let given: Timestamp = row.get("given");
        ensure!(
            until.is_none_or(|until| until <= given) || row.get("flagged"),
            "{tenant} paid until {until:?}, and has it until {given}"
        );
        let currency = paid.first().and_then(|invoice| invoice["currency"].as_str());
        collected.insert(tenant, (sum, currency.unwrap_or_default().to_owned()));
    }
    println!("what was collected is given, or flagged: {} companies at Stripe", collected.len());
    Ok(collected)
}

/// What became of the companies of a kind.
#[derive(Default)]
struct Row<'a> {
    /// How many have which status.
    states: BTreeMap<String, u32>,
    /// What Stripe collected of them, by currency.
    sums: BTreeMap<&'a str, i64>,
}

/// A table of what became of whom.
async fn became(
    seeder: &Seeder<'_>,
    companies: &[Company],
    collected: &BTreeMap<String, (i64, String)>,
) -> Result<()> {
    let sql = "SELECT status FROM subscriptions WHERE tenant_id = $1
               AND parent_subscription_id IS NULL";
    let mut table: BTreeMap<String, Row<'_>> = BTreeMap::new();
    for company in companies {
        let tenant = company.tenant();
        let status: String = seeder.database.query_one(sql, &[&tenant]).await?.get(0);
        let Row { states, sums } = table.entry(format!("{:?}", company.kind)).or_default();
        *states.entry(status).or_default() += 1;
        if let Some((sum, currency)) = collected.get(&tenant) {
            *sums.entry(currency).or_default() += sum;
        }
    }
    println!("{:<10} {:<44} collected", "kind", "became");
    for (kind, Row { states, sums }) in table {
        let list = |pairs: Vec<String>| pairs.join(", ");
        let states = list(states.iter().map(|(state, of)| format!("{of} {state}")).collect());
        let sums = sums.iter().filter(|(_, sum)| **sum > 0);
        let sums =
            list(sums.map(|(of, sum)| format!("{}.{:02} {of}", sum / 100, sum % 100)).collect());
        println!("{kind:<10} {states:<44} {sums}");
    }
    Ok(())
}
