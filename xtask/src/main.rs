//! The developer's commands: `cargo xtask …` (docs/local-stack.md). Nothing of the product is here.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod bench;
mod demo;
mod dev;
mod load;
mod package;
mod process;
mod stack;
mod stripe;
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
    /// Stop a stack that runs in the background
    Down(dev::DownArgs),
    /// Show the main job on the running stack (or start one): from a paid checkout to a customer
    /// who logs in
    Demo(stack::StackArgs),
    /// Stripe's part, by hand
    #[command(subcommand)]
    Stripe(StripeCommand),
    /// Run a function now
    #[command(subcommand)]
    Invoke(InvokeCommand),
    /// Print a bearer token of the running stack: it works for five minutes
    Token(token::TokenArgs),
    /// Measure what the functions cost, each beside its floor, on the running stack (or start one);
    /// builds them for release
    Bench(bench::BenchArgs),
    /// Check many companies out at once, with a share of all outside calls failing, on a stack of
    /// its own
    Load(load::LoadArgs),
    /// Lead many random lives of customers at Stripe, their events in any order; needs a running
    /// stack. The suite leads 500
    Lives {
        /// How many
        #[arg(default_value_t = 10_000)]
        lives: u64,
        /// Only this one, as a failure names it
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Write docs/openapi.json, and the reviewed lists of the tests, anew from the code; needs a
    /// running stack
    Openapi {
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Build every function for Lambda (arm64), zipped, without Docker
    Package(package::PackageArgs),
    /// Run the pinned AWS SAM, which finds cargo-lambda and zig: `sam build`, `sam deploy
    /// --config-env dev`
    Sam {
        /// SAM's own
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Run everything that CI runs, on a stack of its own
    Test(test::TestArgs),
}

#[derive(Subcommand)]
enum InvokeCommand {
    /// One hourly run, on the running stack
    Renewal {
        /// As if it were this instant, such as 2027-01-01T00:00:00Z
        #[arg(long)]
        as_of: Option<String>,
        /// Only say what it would do
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
        /// Another event type than the file's
        #[arg(long = "type")]
        kind: Option<String>,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Put a waiting or failed event on the queue again, after its cause was mended
    Replay {
        /// `evt_…`
        event: String,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// End a waiting or failed event that needs nothing
    Dismiss {
        /// `evt_…`
        event: String,
        /// Why
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
        Command::Down(args) => dev::down(args).await,
        Command::Demo(args) => demo::run(&args).await,
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

/// A client for what runs on this machine: no proxy, no redirects followed, and never without a
/// time limit.
fn http_client(limit: Duration) -> Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(limit);
    client.build().context("HTTP client")
}
