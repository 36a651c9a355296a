//! `dev` and `down`: a stack in this terminal or in the background.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::process::signal_one;
use crate::stack;
use crate::stack::StackArgs;
use crate::stack::settings::Env;
use crate::ui::Progress;
use crate::ui::seconds;

/// Arguments of `dev`.
#[derive(clap::Args)]
pub(crate) struct DevArgs {
    /// Continue in the background once everything is ready
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    stack: StackArgs,
}

/// Arguments of `down`.
#[derive(clap::Args)]
pub(crate) struct DownArgs {
    /// Also delete the stack's data: database, users, mails, logs
    #[arg(long)]
    wipe: bool,
    #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
    state: Option<PathBuf>,
}

/// `cargo xtask dev`.
pub(crate) async fn dev(args: DevArgs) -> Result<()> {
    let start = Instant::now();
    let progress = Progress::new();
    let state = args.stack.state();
    if args.detach {
        let again = std::env::args_os().skip(1).filter(|arg| arg != "--detach").collect();
        let env = detach(again, &state, &progress).await?;
        println!("{}", summary(&env, &state, start.elapsed(), "cargo xtask down")?);
        return Ok(());
    }
    let stack = stack::start(&args.stack, &progress).await?;
    println!("{}", summary(&stack.env, &state, start.elapsed(), "Ctrl-C, or cargo xtask down")?);
    let outcome = stack.run().await;
    progress.say("stopping …");
    stack.stop().await;
    progress.say("stopped");
    outcome
}

/// `cargo xtask down`.
pub(crate) async fn down(args: DownArgs) -> Result<()> {
    let state = stack::state_folder(args.state.as_deref());
    let start = Instant::now();
    if stack::stop_running(&state).await? {
        println!("stopped ({})", seconds(start.elapsed()));
    } else {
        println!("no stack runs in {}", state.display());
    }
    if args.wipe {
        wipe(&state).with_context(|| format!("cannot delete {}", state.display()))?;
        println!("deleted {}", state.display());
    }
    Ok(())
}

/// Deletes a stack's folder, but not other stacks in it: that of `cargo xtask test` may be running.
fn wipe(state: &Path) -> Result<()> {
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        if entry.path().join("lock").exists() {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    // Fails if another stack is in it.
    let _ = fs::remove_dir(state);
    Ok(())
}

/// The settings of the stack that runs in this folder; `None` if none runs.
pub(crate) fn running(state: &Path) -> Result<Option<Env>> {
    if stack::try_lock(state)?.is_some() {
        return Ok(None);
    }
    let file = state.join("stack.env");
    if !file.exists() {
        bail!("a stack is starting or stopping in {}: try again when it is done", state.display());
    }
    Env::read(&file).map(Some)
}

/// The settings of the stack that must be running in this folder.
pub(crate) fn require_running(state: Option<&Path>) -> Result<Env> {
    let Some(env) = running(&stack::state_folder(state))? else {
        bail!("no stack runs: start one with `cargo xtask dev`")
    };
    Ok(env)
}

/// `cargo xtask invoke renewal`: prints the run's summary.
pub(crate) async fn invoke_renewal(
    as_of: Option<&str>,
    dry_run: bool,
    state: Option<&Path>,
) -> Result<()> {
    let env = require_running(state)?;
    let url = format!("{}/2015-03-31/functions/renewal/invocations", env.get("LAMBDA_URL")?);
    let event = serde_json::json!({ "as_of": as_of, "dry_run": dry_run });
    let answer = crate::http_client(Duration::from_mins(15))?.post(url).json(&event).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if !status.is_success() {
        bail!("the run answered {status}: {text}");
    }
    let summary: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
    println!("{summary:#}");
    Ok(())
}

/// Runs this program again in the background, in a process group of its own, and waits until the
/// stack is ready.
pub(crate) async fn detach(args: Vec<OsString>, state: &Path, progress: &Progress) -> Result<Env> {
    if stack::try_lock(state)?.is_none() {
        bail!(
            "a stack is running in {} already: use it, or stop it with `cargo xtask down`",
            state.display()
        );
    }
    let ready = state.join("stack.env");
    stack::remove(&ready)?;
    fs::create_dir_all(state.join("logs"))?;
    let log = state.join("logs/dev.log");
    let file = File::create(&log)?;
    let mut again = Command::new(std::env::current_exe()?);
    again.args(args).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut child = again.spawn().context("cannot start the background process")?;
    let mut shown = 0;
    let follow = async {
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let complete = text.rfind('\n').map_or(0, |end| end + 1);
            if ready.exists() {
                return Env::read(&ready);
            }
            text.get(shown..complete)
                .unwrap_or_default()
                .lines()
                .for_each(|line| progress.say(line));
            shown = complete;
            if let Some(status) = child.try_wait()? {
                // Its own message is above.
                bail!("the stack did not start ({status}); see also {}", log.display());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let outcome = tokio::select! {
        outcome = follow => Some(outcome),
        () = stack::interrupted() => None,
    };
    if let Some(outcome) = outcome {
        return outcome;
    }
    signal_one("TERM", child.id());
    child.wait()?;
    bail!("interrupted")
}

fn summary(env: &Env, state: &Path, took: Duration, stop: &str) -> Result<String> {
    let keycloak = match env.get("KEYCLOAK_KIND")? {
        "keycloak" => format!(
            "{}/admin  (admin, {})",
            env.get("KEYCLOAK_URL")?,
            env.get("KEYCLOAK_ADMIN_PASSWORD")?
        ),
        _ => format!(
            "{}  (embedded issuer: no JDK and Maven; forgets its users when it stops)",
            env.get("KEYCLOAK_URL")?
        ),
    };
    let queues = match env.get("QUEUE_KIND")? {
        "elasticmq" => format!("{}  (ElasticMQ)", env.get("AWS_ENDPOINT_URL_SQS")?),
        _ => format!(
            "{}  (moto: no JDK and Maven; can lose the order of a message group after a failure)",
            env.get("AWS_ENDPOINT_URL_SQS")?
        ),
    };
    let stripe = match env.get("STRIPE_API_BASE") {
        Ok(base) => format!("{base}  (simulator; forgets everything when it stops)"),
        Err(_) => "real test mode".to_owned(),
    };
    Ok(format!(
        "\nThe stack is ready ({took}).\n\
         \x20 API         {api}  (POST /webhook/stripe)\n\
         \x20 Console     {console}\n\
         \x20 Database    {database}\n\
         \x20 Keycloak    {keycloak}\n\
         \x20 Queues      {queues}\n\
         \x20 Stripe      {stripe}\n\
         \x20 Mails       {mail}\n\
         \x20 Logs        {state}/logs  (one file per function and service)\n\
         \x20 Settings    {state}/stack.env\n\
         \x20 Try         cargo xtask demo\n\
         \x20 Stop        {stop}\n",
        took = seconds(took),
        api = env.get("API_URL")?,
        console = console(env)?,
        database = env.get("DATABASE_URL")?,
        mail = env.get("MAIL_DIR")?,
        state = state.display(),
    ))
}

/// Where the console is and who can log in there; without a build, how to get one.
fn console(env: &Env) -> Result<String> {
    let url = env.get("CONSOLE_URL")?;
    if !stack::root().join("console/dist/index.html").exists() {
        return Ok("not built: it needs Node 20.19 or newer with npm".to_owned());
    }
    let customer = stack::DEMO_CUSTOMER;
    let password = crate::token::keycloak(env)?.password(customer);
    Ok(format!("{url}  ({}, {password})", customer.username()))
}
