//! `bench`: what the functions cost (docs/performance.md).
//!
//! Each measure has a floor: what the same work costs without the function. Both are measured in
//! turns, for several rounds of one run. The ratio counts; the times depend on the machine and the
//! hour.
//!
//! The functions are the release binaries, in processes of their own under a runtime interface of
//! ours. Database server, queues and secrets are the running stack's; the data is in databases of
//! the benchmark.

mod database;
mod distance;
mod events;
mod renewals;
mod report;
mod requests;
mod runtime;
mod starts;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use simulators::keycloak::Fake;

use crate::package;
use crate::stack;
use crate::stack::StackArgs;
use crate::stack::settings::Credentials;
use crate::stack::settings::Env;
use crate::tools;
use crate::ui::Progress;
use database::Fleet;
use report::Measure;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// The groups to measure; all by default
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Number of rounds, in each of which a measure and its floor take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Sizes of the fleets to measure over
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    rows: Vec<i32>,
    /// Use the programs of the last `package` or `bench`
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    stack: StackArgs,
}

/// What can be measured alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// The hourly run, over each fleet
    Renewals,
    /// Requests to one instance, over each fleet
    Requests,
    /// The same with a database some way off, over the first fleet
    Distance,
    /// Sixteen instances at once, over the first fleet
    Instances,
    /// Starts and memory of every function, on the first fleet
    Starts,
    /// Deliveries of Stripe to the queue
    Ingest,
    /// Events applied by one consumer and by eight, on the first fleet
    Events,
}

impl Group {
    const ALL: [Self; 7] = [
        Self::Renewals,
        Self::Requests,
        Self::Distance,
        Self::Instances,
        Self::Starts,
        Self::Ingest,
        Self::Events,
    ];

    /// Measures it over one of the fleets.
    async fn run(self, bench: &Bench, fleet: &Fleet, is_first: bool) -> Result<Vec<Measure>> {
        match self {
            Self::Renewals => renewals::run(bench, fleet).await,
            Self::Requests => requests::one_by_one(bench, fleet).await,
            Self::Distance if is_first => distance::run(bench, fleet).await,
            Self::Instances if is_first => requests::at_once(bench, fleet).await,
            Self::Starts if is_first => starts::run(bench, fleet).await,
            Self::Ingest if is_first => starts::ingest(bench).await,
            Self::Events if is_first => events::run(bench, fleet).await,
            Self::Distance | Self::Instances | Self::Starts | Self::Ingest | Self::Events => {
                Ok(Vec::new())
            }
        }
    }
}

/// What the groups share.
struct Bench {
    env: Env,
    credentials: Credentials,
    rounds: u32,
    log: PathBuf,
    folder: PathBuf,
    pgbench: PathBuf,
    progress: Progress,
}

impl Bench {
    /// The path of a packaged program.
    fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name).join("bootstrap")
    }

    /// A function's settings, with some replaced.
    fn settings(&self, replaced: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut settings = stack::function_settings(&self.env);
        // Its rate limit for reads from Stripe is not part of the cost.
        let replaced = replaced.iter().copied().chain([("STRIPE_READS_PER_SECOND", "0")]);
        for (name, value) in replaced {
            settings.retain(|(known, _)| known != name);
            settings.push((name.to_owned(), value.to_owned()));
        }
        settings
    }

    /// An issuer in this process, which signs tokens here and answers requests for its keys at
    /// once.
    async fn issuer(&self) -> Result<Fake> {
        Fake::start(simulators::keycloak::Options {
            listen: ([127, 0, 0, 1], 0).into(),
            realm: stack::REALM.to_owned(),
            client_id: stack::CLIENT_ID.to_owned(),
            client_secret: self.env.get("KEYCLOAK_CLIENT_SECRET")?.to_owned(),
            smtp: None,
            origins: Vec::new(),
        })
        .await
    }
}

/// `cargo xtask bench`.
pub(crate) async fn run(args: &BenchArgs) -> Result<()> {
    let progress = Progress::new();
    let state = args.stack.state();
    let env = crate::demo::running_or_started(&args.stack, &progress).await?;
    let log = state.join("logs/bench.log");
    stack::remove(&log)?;
    let groups: Vec<Group> = Group::ALL
        .into_iter()
        .filter(|group| args.groups.is_empty() || args.groups.contains(group))
        .collect();
    // As they are deployed, but for this machine's architecture.
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86-64" };
    let folder = if args.no_build {
        stack::root().join("target/package").join(machine)
    } else {
        // Built alone: built together, the functions would get its features.
        package::build(&["hello".to_owned()], Some("as-new"), machine, &progress).await?;
        package::build(&stack::function_names(&stack::root())?, None, machine, &progress).await?.0
    };
    let pgbench = tools::ensure(&stack::root(), args.stack.no_jdk, &progress)
        .await?
        .postgres()?
        .join("pgbench");
    let bench = Bench {
        env,
        credentials: Credentials::keep(&state)?,
        rounds: args.rounds,
        log,
        folder,
        pgbench,
        progress,
    };
    let mut measures: Vec<Measure> = Vec::new();
    let mut first = None;
    for rows in &args.rows {
        let step = bench.progress.step(format!("a fleet of {rows}"));
        let fleet = Fleet::new(&bench.env, *rows).await?;
        step.done();
        for group in &groups {
            let mut of_group = group.run(&bench, &fleet, first.is_none()).await?;
            if let (Group::Requests, Some(first)) = (group, &first) {
                of_group.extend(requests::growth(&bench, first, &fleet).await?);
            }
            report::print(&of_group);
            measures.extend(of_group);
        }
        match first {
            None => first = Some(fleet),
            Some(_) => fleet.drop().await?,
        }
    }
    if let Some(first) = first {
        first.drop().await?;
    }
    let about = json!({
        "at": shared::base::clock::Clock::system().now(), "rounds": bench.rounds,
        "processors": std::thread::available_parallelism()?.get(),
        "database": "PostgreSQL of the local stack, fsync off", "functions": format!(
            "as packaged for {machine}, in processes of their own")
    });
    let file = stack::root().join("target/bench.json");
    report::write(&file, &measures, &about)?;
    println!("\nWritten to {}; docs/performance.md explains it.", file.display());
    Ok(())
}

/// Milliseconds, for the report.
#[expect(clippy::float_arithmetic, reason = "a time, not money")]
fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a size, not money")]
fn megabytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

/// The count per second.
#[expect(clippy::float_arithmetic, reason = "a rate, not money")]
fn rate(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

/// How long each operation takes, if this many clients together have this rate.
#[expect(clippy::float_arithmetic, reason = "a rate, not money")]
fn each(rate: f64, clients: i32) -> Duration {
    Duration::from_secs_f64(f64::from(clients) / rate)
}

/// Processor time of one operation, if the processors were `used` in `time`.
#[expect(clippy::float_arithmetic, reason = "a rate, not money")]
fn share(each: Duration, used: Duration, time: Duration) -> Duration {
    each.mul_f64(used.as_secs_f64() / time.as_secs_f64())
}
