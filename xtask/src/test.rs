//! `test`: everything that CI runs, on a stack of its own that begins empty.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::stack::{self, StackArgs};
use crate::ui::{Progress, seconds};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct TestArgs {
    /// Do without the real Keycloak and queue server even where a JDK and Maven are found
    #[arg(long, env = "PULSE_NO_JDK", value_parser = clap::builder::FalseyValueParser::new(), action = clap::ArgAction::SetTrue)]
    no_jdk: bool,
    /// Folder of the stack's data and logs; emptied first
    #[arg(long, hide = true, default_value = ".dev/test")]
    state: PathBuf,
}

/// `cargo xtask test`.
pub async fn run(args: &TestArgs) -> Result<()> {
    let start = Instant::now();
    let mut report = Report { steps: Vec::new(), parts: None };
    let outcome = tokio::select! {
        outcome = checks(args, &mut report) => outcome,
        () = stack::interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    let outcome = match outcome {
        Ok(()) => with_stack(args, &mut report).await,
        Err(error) => Err(error),
    };
    report.print(start.elapsed(), outcome.is_ok());
    outcome
}

/// What was done, for the end.
struct Report {
    steps: Vec<(&'static str, Duration, bool)>,
    parts: Option<(String, String)>,
}

impl Report {
    /// Runs a step between two lines that name it.
    async fn step<T>(&mut self, name: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        eprintln!("\n=== {name}");
        let start = Instant::now();
        let outcome = work.await;
        self.steps.push((name, start.elapsed(), outcome.is_ok()));
        eprintln!("=== {name}: {} ({})", if outcome.is_ok() { "ok" } else { "FAILED" }, seconds(start.elapsed()));
        outcome.with_context(|| name.to_owned())
    }

    fn print(&self, took: Duration, ok: bool) {
        println!();
        for (name, took, ok) in &self.steps {
            println!("{} {name} ({})", if *ok { "✓" } else { "✗" }, seconds(*took));
        }
        match &self.parts {
            Some((keycloak, queue)) if keycloak == "keycloak" => {
                println!("real parts: PostgreSQL, Keycloak, {queue}, the Lambda runtime interface; skipped: nothing");
            }
            Some(_) => println!(
                "real parts: PostgreSQL, the Lambda runtime interface; skipped for want of a JDK and Maven: Keycloak (the embedded issuer instead), ElasticMQ (moto instead)"
            ),
            None => println!("the stack was not started"),
        }
        println!("{} in {}", if ok { "all passed" } else { "FAILED" }, seconds(took));
    }
}

async fn checks(args: &TestArgs, report: &mut Report) -> Result<()> {
    let state = stack::state_folder(Some(&args.state));
    if stack::try_lock(&state)?.is_none() {
        bail!("another `cargo xtask test` is running in {}", state.display());
    }
    report.step("cargo fmt --check", cargo(&["fmt", "--all", "--check"], None)).await?;
    report.step("cargo clippy", cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], None)).await
}

async fn with_stack(args: &TestArgs, report: &mut Report) -> Result<()> {
    let state = stack::state_folder(Some(&args.state));
    let progress = Progress::new();
    let stack = report
        .step("stack", async {
            empty(&state)?;
            stack::start(&StackArgs::own(state.clone(), args.no_jdk), &progress).await
        })
        .await?;
    report.parts = Some((stack.env.get("KEYCLOAK_KIND")?.to_owned(), stack.env.get("QUEUE_KIND")?.to_owned()));
    let env = stack.env.clone();
    let cfn_lint = stack::root().join(".tools/python/bin/cfn-lint");
    let work = async {
        report.step("cargo test --workspace", cargo(&["test", "--workspace"], Some(&env))).await?;
        report.step("demo", crate::demo::tell(&env)).await?;
        report.step("cfn-lint template.yaml", status(Command::new(cfn_lint).arg("template.yaml"))).await
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        end = stack.run() => end.and_then(|()| bail!("interrupted")),
    };
    if outcome.is_err() {
        progress.say(format!("  logs of the stack: {}", state.join("logs").display()));
    }
    let down = async {
        stack.stop().await;
        anyhow::Ok(())
    };
    report.step("stack down", down).await?;
    outcome
}

fn empty(state: &Path) -> Result<()> {
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("cannot empty {}", state.display())),
        _ => Ok(()),
    }
}

async fn cargo(args: &[&str], env: Option<&stack::settings::Env>) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(args);
    if let Some(env) = env {
        cargo.envs(env.pairs());
    }
    status(&mut cargo).await
}

/// Runs a command whose output is shown as it comes.
async fn status(command: &mut Command) -> Result<()> {
    let status = command.current_dir(stack::root()).kill_on_drop(true).status().await;
    let status = status.with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
