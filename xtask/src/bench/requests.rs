//! Requests to one instance, one after the other, and to sixteen at once. Their floor is a
//! hello-world function and the same statements under pgbench.

use std::borrow::Cow;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use simulators::keycloak::Fake;
use tokio::process::Command;

use super::Bench;
use super::database::Fleet;
use super::milliseconds;
use super::report::Aim;
use super::report::Measure;
use super::runtime::Instance;
use super::runtime::SECONDS;
use super::runtime::body;
use super::runtime::call;
use super::runtime::invoke_at_once;
use super::runtime::processor;

/// Requests per round.
const REQUESTS: u32 = 300;
/// Instances at once.
const INSTANCES: i32 = 16;

/// Statements for pgbench.
pub(super) struct Script {
    pub name: &'static str,
    pub sql: Cow<'static, str>,
    /// The database role; for a route, also the token's role.
    pub role: &'static str,
}

/// A request that is measured.
pub(super) struct Route {
    pub name: &'static str,
    pub function: &'static str,
    pub script: Script,
    aim: f64,
    pub event: fn(&str, u32) -> Vec<u8>,
}

pub(super) const ROUTES: [Route; 7] = [
    Route {
        name: "tier assignment",
        function: "device-tier",
        script: Script {
            name: "assign_tier",
            sql: Cow::Borrowed(include_str!("sql/assign_tier.sql")),
            role: "customer",
        },
        aim: 1.4,
        event: |token, number| assign(token, 1, number),
    },
    Route {
        name: "plan list",
        function: "operator-plans",
        script: Script {
            name: "plan_list",
            sql: Cow::Borrowed(include_str!("sql/plan_list.sql")),
            role: "operator",
        },
        aim: 1.5,
        event: |token, _| call("GET", "/api/v1/operator/plans", Some(token), None),
    },
    Route {
        name: "subscription page of 100",
        function: "subscriptions",
        script: Script {
            name: "subscription_page",
            sql: Cow::Borrowed(include_str!("sql/subscription_page.sql")),
            role: "operator",
        },
        aim: 1.5,
        event: |token, _| {
            call("GET", "/api/v1/operator/subscriptions?limit=100", Some(token), None)
        },
    },
    Route {
        name: "entitlement check",
        function: "billing",
        script: Script {
            name: "entitlement_check",
            sql: Cow::Borrowed(include_str!("sql/entitlement_check.sql")),
            role: "customer",
        },
        aim: 1.5,
        event: |token, _| {
            call(
                "POST",
                "/api/v1/customer/entitlements/check",
                Some(token),
                Some(r#"{"resource":"devices","requested":1}"#),
            )
        },
    },
    Route {
        name: "device page of 100",
        function: "device-tier",
        script: Script {
            name: "device_page",
            sql: Cow::Borrowed(include_str!("sql/device_page.sql")),
            role: "customer",
        },
        aim: 1.5,
        event: |token, _| call("GET", "/api/v1/customer/devices?limit=100", Some(token), None),
    },
    Route {
        name: "audit page of 100",
        function: "operations",
        script: Script {
            name: "audit_page",
            sql: Cow::Borrowed(include_str!("sql/audit_page.sql")),
            role: "operator",
        },
        aim: 1.5,
        event: |token, _| {
            call("GET", "/api/v1/operator/audit?tenant_id=t1&limit=100", Some(token), None)
        },
    },
    Route {
        name: "event page of 100",
        function: "operations",
        script: Script {
            name: "event_page",
            sql: Cow::Borrowed(include_str!("sql/event_page.sql")),
            role: "operator",
        },
        aim: 1.5,
        event: |token, _| {
            call("GET", "/api/v1/operator/stripe-events?tenant_id=t1&limit=100", Some(token), None)
        },
    },
];

/// Gives a device the other of two tiers.
fn assign(token: &str, device: i32, number: u32) -> Vec<u8> {
    let tier = if number.is_multiple_of(2) { r#"{"tier_id":2}"# } else { r#"{"tier_id":1}"# };
    call("PUT", &format!("/api/v1/customer/devices/dev-{device}/tier"), Some(token), Some(tier))
}

/// Measures one request after the other, over a fleet.
pub(super) async fn one_by_one(bench: &Bench, fleet: &Fleet) -> Result<Vec<Measure>> {
    let step = bench.progress.step(format!("requests, one by one, over {}", fleet.rows));
    let issuer = bench.issuer().await?;
    let hello = hello(bench).await?;
    fleet.run(include_str!("grow.sql")).await?;
    revive(fleet).await?;
    let mut measures = Vec::new();
    for route in &ROUTES {
        measures.extend(measure(bench, fleet, &issuer, &hello, route).await?);
    }
    hello.stop().await?;
    step.done();
    Ok(measures)
}

/// Measures the requests over a fleet against those over the first one. An instance on each fleet
/// is called in turns, so that both have the same conditions on the machine.
pub(super) async fn growth(bench: &Bench, first: &Fleet, fleet: &Fleet) -> Result<Vec<Measure>> {
    let step = bench.progress.step(format!("requests over {} against {}", fleet.rows, first.rows));
    let issuer = bench.issuer().await?;
    let port = bench.env.get("DATABASE_PORT")?;
    revive(first).await?;
    let mut measures = Vec::new();
    for route in &ROUTES {
        let event = (route.event)(&token(&issuer, route.script.role, 1)?, 1);
        let great = start(bench, fleet, &issuer, (route.function, port), &event).await?;
        let small = start(bench, first, &issuer, (route.function, port), &event).await?;
        let mut growth = Measure::new(
            format!("{} over {} / over {}", route.name, fleet.rows, first.rows),
            "ms",
            Aim::AtMost(1.2),
        );
        for _ in 0..bench.rounds {
            // Not for each request: a request that follows a signature waits longer for the
            // processor.
            let token = token(&issuer, route.script.role, 1)?;
            let (mut ours, mut floor) = (Duration::ZERO, Duration::ZERO);
            for number in 0..REQUESTS {
                let event = (route.event)(&token, number);
                ours += great.invoke(event.clone()).await?.1;
                floor += small.invoke(event).await?.1;
            }
            growth.push(milliseconds(ours / REQUESTS), milliseconds(floor / REQUESTS));
        }
        measures.push(growth);
        great.stop().await?;
        small.stop().await?;
    }
    step.done();
    Ok(measures)
}

fn over(route: &Route, rows: i32) -> String {
    format!("{} over {rows}", route.name)
}

async fn measure(
    bench: &Bench,
    fleet: &Fleet,
    issuer: &Fake,
    hello: &Instance,
    route: &Route,
) -> Result<Vec<Measure>> {
    let function = start(
        bench,
        fleet,
        issuer,
        (route.function, bench.env.get("DATABASE_PORT")?),
        &(route.event)(&token(issuer, route.script.role, 1)?, 1),
    )
    .await?;
    let backend: i32 = fleet
        .db
        .query_one(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pulse'",
            &[&fleet.name],
        )
        .await?
        .get(0);
    let backend = u32::try_from(backend)?;
    let mut time = Measure::new(over(route, fleet.rows), "ms", Aim::AtMost(route.aim));
    let mut used = Measure::new(
        over(route, fleet.rows) + ", processor",
        "ms",
        if route.script.name == "assign_tier" { Aim::AtMost(1.5) } else { Aim::None },
    );
    let greeting = call("GET", "/", None, None);
    let port = bench.env.get("DATABASE_PORT")?;
    for _ in 0..bench.rounds {
        let token = token(issuer, route.script.role, 1)?;
        let (mut ours, mut floor) = (Duration::ZERO, Duration::ZERO);
        let before = (function.processor()? + processor(backend)?, hello.processor()?);
        for number in 0..REQUESTS {
            let (answer, took) = function.invoke((route.event)(&token, number)).await?;
            body(&answer, 200)?;
            ours += took;
            floor += hello.invoke(greeting.clone()).await?.1;
        }
        let after = (function.processor()? + processor(backend)?, hello.processor()?);
        let sql = pgbench(bench, fleet, (&route.script, port), 1, 1).await?;
        time.push(milliseconds(ours / REQUESTS), milliseconds(floor / REQUESTS + sql.each));
        used.push(
            milliseconds(after.0.saturating_sub(before.0) / REQUESTS),
            milliseconds(after.1.saturating_sub(before.1) / REQUESTS + sql.processor),
        );
    }
    function.stop().await?;
    Ok(vec![time, used])
}

/// Measures sixteen instances at once: on many subscriptions, and all on one.
pub(super) async fn at_once(bench: &Bench, fleet: &Fleet) -> Result<Vec<Measure>> {
    let step = bench.progress.step(format!("{INSTANCES} instances at once over {}", fleet.rows));
    let issuer = bench.issuer().await?;
    let sql = "INSERT INTO devices (tenant_id, device_id, subscription_id, tier_id, registered_at)
               SELECT 't1', 'dev-' || n, 'SUB-2025-0000001', 1, now() FROM generate_series(2, 16) n
               ON CONFLICT DO NOTHING";
    fleet.db.batch_execute(sql).await?;
    revive(fleet).await?;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(
            start(
                bench,
                fleet,
                &issuer,
                ("device-tier", bench.env.get("DATABASE_PORT")?),
                &assign(&token(&issuer, "customer", 1)?, 1, 1),
            )
            .await?,
        );
    }
    let mut many = Measure::new(
        format!("tier assignments a second, {INSTANCES} instances, many subscriptions"),
        "/s",
        Aim::AtLeast(0.5),
    );
    let mut one = Measure::new(
        format!("tier assignments a second, {INSTANCES} instances, one subscription"),
        "/s",
        Aim::AtLeast(0.5),
    );
    let (script, port) = (&ROUTES[0].script, bench.env.get("DATABASE_PORT")?);
    for _ in 0..bench.rounds {
        // In the fleet, every second tenant has a device.
        let apart = (0..INSTANCES).map(|n| (2 * n + 1, 2 * n + 1)).collect::<Vec<_>>();
        let rate = assign_at_once(&mut instances, &issuer, &apart).await?;
        many.push(rate, pgbench(bench, fleet, (script, port), INSTANCES, 1).await?.rate);
        let together = (1..=INSTANCES).map(|n| (1, n)).collect::<Vec<_>>();
        let rate = assign_at_once(&mut instances, &issuer, &together).await?;
        one.push(
            rate,
            pgbench(bench, fleet, (script, port), INSTANCES, fleet.rows / 2).await?.rate,
        );
    }
    for instance in instances {
        instance.stop().await?;
    }
    step.done();
    Ok(vec![many, one])
}

/// Each instance assigns a tier to one tenant's device again and again; returns the assignments per
/// second of all of them.
async fn assign_at_once(
    instances: &mut Vec<Instance>,
    issuer: &Fake,
    devices: &[(i32, i32)],
) -> Result<f64> {
    let calls = devices
        .iter()
        .map(|(tenant, device)| Ok((token(issuer, "customer", *tenant)?, *device)))
        .collect::<Result<Vec<_>>>()?;
    let events =
        calls.into_iter().map(|(token, device)| move |number| assign(&token, device, number));
    invoke_at_once(instances, 1, events, |answer| body(answer, 200).map(drop)).await
}

/// Restores the subscriptions that the requests use: earlier hourly runs may have ended them, and
/// events may have set their limits to the plan's.
async fn revive(fleet: &Fleet) -> Result<()> {
    let sql = "UPDATE subscriptions SET status = 'ACTIVE', grace_end = NULL,
               term_end = greatest(term_end, now() + interval '300 days'), device_limit = 2000000000
               WHERE subscription_id <= 'SUB-2025-0000032'";
    fleet.db.batch_execute(sql).await?;
    Ok(())
}

/// Starts the hello-world function: the floor of a request that does nothing.
pub(super) async fn hello(bench: &Bench) -> Result<Instance> {
    Instance::start(&bench.program("hello"), &[], call("GET", "/", None, None), &bench.log).await
}

pub(super) async fn start(
    bench: &Bench,
    fleet: &Fleet,
    issuer: &Fake,
    (function, port): (&str, &str),
    first: &[u8],
) -> Result<Instance> {
    let settings = bench.settings(&[
        ("DATABASE_NAME", &fleet.name),
        ("DATABASE_PORT", port),
        ("JWT_ISSUER", &issuer.issuer()),
    ]);
    let instance =
        Instance::start(&bench.program(function), &settings, first.to_vec(), &bench.log).await?;
    body(&instance.first, 200).with_context(|| format!("{function}'s first answer"))?;
    Ok(instance)
}

/// A token of a customer of this tenant, or of an operator.
pub(super) fn token(issuer: &Fake, role: &str, tenant: i32) -> Result<String> {
    let tenant = format!("t{tenant}");
    issuer.sign(&issuer.claims(&[role], (role == "customer").then_some(&tenant)))
}

/// What pgbench measured.
pub(super) struct Sql {
    pub each: Duration,
    processor: Duration,
    pub rate: f64,
}

fn pgbench_of(
    bench: &Bench,
    fleet: &Fleet,
    (script, port): (&Script, &str),
    args: &[&str],
) -> Result<Command> {
    let file = bench.log.with_file_name(format!("{}.pgbench.sql", script.name));
    std::fs::write(&file, &*script.sql)?;
    let passwords = &bench.credentials;
    let role = match script.role {
        "customer" => ("pulse_app", &passwords.customer),
        "system" => ("pulse_system", &passwords.system),
        _ => ("pulse_operator", &passwords.operator),
    };
    let mut pgbench = Command::new(&bench.pgbench);
    pgbench.args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-U", role.0, "-p", port]).args(args);
    pgbench
        .arg("-f")
        .arg(&file)
        .arg(&fleet.name)
        .env("PGPASSWORD", role.1)
        .env("PGAPPNAME", "pgbench")
        .kill_on_drop(true);
    Ok(pgbench)
}

/// How long a new connection and the smallest statement take.
pub(super) async fn connection(bench: &Bench, fleet: &Fleet) -> Result<Duration> {
    let script = Script { name: "connection", sql: Cow::Borrowed("SELECT 1;"), role: "operator" };
    let port = bench.env.get("DATABASE_PORT")?;
    let output = pgbench_of(bench, fleet, (&script, port), &["-C", "-t", "50"])?.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate =
        text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    Ok(super::each(rate.with_context(|| format!("pgbench -C: {text}"))?, 1))
}

/// Runs the script's prepared statements with this many clients. `:devices` is the number of the
/// fleet's devices; the script says what `:width` is.
pub(super) async fn pgbench(
    bench: &Bench,
    fleet: &Fleet,
    (script, port): (&Script, &str),
    clients: i32,
    width: i32,
) -> Result<Sql> {
    let (devices, width) = (format!("devices={}", fleet.rows / 2), format!("width={width}"));
    let (clients_arg, seconds) = (clients.to_string(), SECONDS.to_string());
    let mut pgbench = pgbench_of(
        bench,
        fleet,
        (script, port),
        &["-c", &clients_arg, "-j", "2", "-T", &seconds, "-D", &devices, "-D", &width],
    )?;
    let running = tokio::spawn(async move { pgbench.output().await });
    // Processor time of its backends, from shortly after their start to shortly before their end.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let backends = fleet
        .db
        .query(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pgbench'",
            &[&fleet.name],
        )
        .await?;
    let backends: Vec<u32> =
        backends.iter().filter_map(|row| u32::try_from(row.get::<_, i32>(0)).ok()).collect();
    let used = || backends.iter().map(|pid| processor(*pid)).sum::<Result<Duration>>();
    let (began, before) = (Instant::now(), used()?);
    tokio::time::sleep(Duration::from_millis(u64::from(SECONDS) * 1000 - 1500)).await;
    let (took, used) = (began.elapsed(), used()?.saturating_sub(before));
    let output = running.await??;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let failed = text
        .lines()
        .find(|line| line.starts_with("number of failed transactions: "))
        .is_none_or(|line| !line.contains(": 0 "));
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    let rate = rate
        .filter(|_| output.status.success() && !failed)
        .with_context(|| format!("pgbench of {}: {text}", script.name))?;
    let each = super::each(rate, clients);
    Ok(Sql { each, processor: super::share(each, used, took), rate })
}
