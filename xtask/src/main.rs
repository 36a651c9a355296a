//! The developer's commands, `cargo xtask …` (docs/local-stack.md). No function uses this crate.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod bench;
mod clock;
mod console;
mod demo;
mod deploy;
mod dev;
mod load;
mod package;
mod process;
mod seed;
mod stack;
mod stripe;
mod templates;
mod test;
mod token;
mod tools;
mod ui;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use clap::Subcommand;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Developer commands of Pulse Billing"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the whole system on this machine; Ctrl-C stops it
    Dev(dev::DevArgs),
    /// Check, test or show the web console
    #[command(subcommand)]
    Console(console::ConsoleCommand),
    /// Stop a stack that runs in the background
    Down(dev::DownArgs),
    /// Show the main use case on the running stack, or on a new one: from a paid checkout to a
    /// customer who logs in, and on to the end of what was bought
    Demo(demo::DemoArgs),
    /// Let demo companies of all kinds buy on the running stack; again, those that have not yet
    Seed(seed::SeedArgs),
    /// Show the running stack's business time, or move it forward
    Clock(clock::ClockArgs),
    /// Send a Stripe event, or replay, dismiss or redrive recorded ones
    #[command(subcommand)]
    Stripe(StripeCommand),
    /// Invoke a function now
    #[command(subcommand)]
    Invoke(InvokeCommand),
    /// Print a bearer token for the running stack, valid for five minutes
    Token(token::TokenArgs),
    /// Measure what the functions cost, next to what the same work costs without them, on the
    /// running stack or on a new one; builds them for release
    Bench(bench::BenchArgs),
    /// Run many checkouts at once while a share of all outside calls fails, on a stack of its own
    Load(load::LoadArgs),
    /// Play many random lives of Stripe customers, with their events in any order; needs a running
    /// stack. `cargo xtask test` plays 500
    Lives {
        /// How many lives
        #[arg(default_value_t = 10_000)]
        lives: u64,
        /// Only the life with this seed, which a failure prints
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Write docs/openapi.json and the reviewed lists of the tests again from the code; needs a
    /// running stack
    Openapi {
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Build and zip every function for Lambda (arm64), without Docker
    Package(package::PackageArgs),
    /// Run the pinned AWS SAM, with cargo-lambda and zig on its PATH: `sam build`, `sam deploy
    /// --config-env dev`
    Sam {
        /// Arguments of SAM
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Bring an account to a deployed stage, or check how far it is
    Deploy(deploy::DeployArgs),
    /// Check the templates as SAM transforms them, and deploy them into moto; a part of `test`
    Templates,
    /// Run everything that CI runs, on a stack of its own
    Test(test::TestArgs),
}

#[derive(Subcommand)]
enum InvokeCommand {
    /// Do one hourly run on the running stack
    Renewal {
        /// As if it were this instant, such as 2027-01-01T00:00:00Z
        #[arg(long)]
        as_of: Option<String>,
        /// Only report what it would do
        #[arg(long)]
        dry_run: bool,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum StripeCommand {
    /// Sign a JSON event with the webhook secret of the running stack and post it
    Send {
        /// File with the event
        file: PathBuf,
        /// Event type to send instead of the file's
        #[arg(long = "type")]
        kind: Option<String>,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Put a waiting or failed event on the queue again, after its cause was fixed
    Replay {
        /// `evt_…`
        event: String,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Dismiss a waiting or failed event that needs no action
    Dismiss {
        /// `evt_…`
        event: String,
        /// The reason
        note: String,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Move the dead letters back to the queue
    Redrive {
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    shared::process::tls::install();
    let outcome = match Cli::parse().command {
        Command::Dev(args) => dev::dev(args).await,
        Command::Console(command) => console::run(command).await,
        Command::Down(args) => dev::down(args).await,
        Command::Demo(args) => demo::run(&args).await,
        Command::Seed(args) => seed::run(&args).await,
        Command::Clock(args) => clock::run(&args).await,
        Command::Stripe(StripeCommand::Send { file, kind, state }) => {
            stripe::send(&file, kind, state.as_deref()).await
        }
        Command::Stripe(StripeCommand::Replay { event, state }) => {
            stripe::replay(&event, state.as_deref()).await
        }
        Command::Stripe(StripeCommand::Dismiss { event, note, state }) => {
            stripe::dismiss(&event, &note, state.as_deref()).await
        }
        Command::Stripe(StripeCommand::Redrive { state }) => {
            stripe::redrive(state.as_deref()).await
        }
        Command::Invoke(InvokeCommand::Renewal { as_of, dry_run, state }) => {
            dev::invoke_renewal(as_of.as_deref(), dry_run, state.as_deref()).await
        }
        Command::Token(args) => token::run(&args).await,
        Command::Bench(args) => bench::run(&args).await,
        Command::Load(args) => load::run(&args).await,
        Command::Lives { lives, seed, state } => test::lives(lives, seed, state.as_deref()).await,
        Command::Openapi { state } => test::write_reviewed(state.as_deref()).await,
        Command::Package(args) => package::run(&args).await,
        Command::Sam { arguments } => package::sam(&arguments).await,
        Command::Deploy(args) => deploy::run(&args).await,
        Command::Templates => templates::run().await,
        Command::Test(args) => test::run(&args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A client for servers on this machine: no proxy, no redirects, and always a time limit.
fn http_client(limit: Duration) -> Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(limit);
    client.build().context("HTTP client")
}
