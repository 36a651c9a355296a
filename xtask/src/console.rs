//! `console …`: the web console's checks, its tests on the running stack, and its build
//! (docs/console.md). Without Node each says so.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use tokio::process::Command;

use crate::process::run_logged;
use crate::stack;
use crate::stack::settings::Env;
use crate::ui::Progress;

/// `cargo xtask console …`.
#[derive(clap::Subcommand)]
pub(crate) enum ConsoleCommand {
    /// Install, generate, type-check, lint, build, and compare sizes with the budget
    Check,
    /// Play the stories and look at every page on the running stack, with Chromium
    Test {
        /// Only what has this in its name
        story: Option<String>,
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
    /// Write the pictures of docs/console.md from the running stack
    Screenshots {
        #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
        state: Option<PathBuf>,
    },
}

/// Runs one of them.
pub(crate) async fn run(command: ConsoleCommand) -> Result<()> {
    if let Err(why) = find_node().await {
        bail!("the console needs Node 20.19 or newer with npm: {why}");
    }
    match command {
        ConsoleCommand::Check => check().await,
        ConsoleCommand::Test { story, state } => {
            let env = crate::dev::require_running(state.as_deref())?;
            let browser = find_chromium().context(NO_CHROMIUM)?;
            test(&env, &browser, story.as_deref()).await
        }
        ConsoleCommand::Screenshots { state } => {
            let env = crate::dev::require_running(state.as_deref())?;
            let browser = find_chromium().context(NO_CHROMIUM)?;
            install().await?;
            playwright(&env, &browser).env("PULSE_PICTURES", "1").arg("pictures").run().await
        }
    }
}

const NO_CHROMIUM: &str =
    "Chromium is needed (Debian: apt install chromium), on PATH or named by PULSE_CHROMIUM";

/// All that needs no stack.
pub(crate) async fn check() -> Result<()> {
    npm(&["ci", "--no-audit", "--no-fund"]).run().await?;
    npm(&["run", "check"]).run().await
}

/// The stories and the look at every page.
pub(crate) async fn test(env: &Env, browser: &Path, story: Option<&str>) -> Result<()> {
    install().await?;
    let mut tests = playwright(env, browser);
    if let Some(story) = story {
        tests.args(["--grep", story]);
    }
    tests.run().await
}

fn playwright(env: &Env, browser: &Path) -> Command {
    let mut tests = npm(&["exec", "--", "playwright", "test"]);
    tests.envs(env.pairs()).env("PULSE_CHROMIUM", browser);
    tests
}

/// Builds the pages if a source is newer than they are. Without Node, what was built earlier is
/// served.
pub(crate) async fn build(progress: &Progress, log: &Path) -> Result<()> {
    if let Err(why) = find_node().await {
        progress.say(format!("  the web console is not built: {why}"));
        return Ok(());
    }
    let folder = folder();
    let built = modified(&folder.join("dist/.vite/manifest.json"));
    let inputs = ["src", "public", "index.html", "package-lock.json", "vite.config.ts", "scripts"];
    let mut newest = modified(&stack::root().join("docs/openapi.json"));
    for input in inputs {
        newest = newest.max(newest_in(&folder.join(input))?);
    }
    if built > newest {
        return Ok(());
    }
    let step = progress.step("web console: npm ci, vite build");
    stack::remove(log)?;
    install_logged(log).await?;
    run_logged("npm run generate", &mut npm(&["run", "generate"]), log).await?;
    run_logged("npm run build", &mut npm(&["run", "build"]), log).await?;
    step.done();
    Ok(())
}

async fn install() -> Result<()> {
    let log = stack::root().join("target/console-npm.log");
    install_logged(&log).await
}

/// Installs what the lockfile names, unless that is what is there.
async fn install_logged(log: &Path) -> Result<()> {
    let installed = modified(&folder().join("node_modules/.package-lock.json"));
    if installed > modified(&folder().join("package-lock.json")) {
        return Ok(());
    }
    run_logged("npm ci", &mut npm(&["ci", "--no-audit", "--no-fund"]), log).await
}

fn folder() -> PathBuf {
    stack::root().join("console")
}

fn npm(args: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.args(args).current_dir(folder()).kill_on_drop(true);
    npm
}

trait Run {
    /// Runs to the end, with its output shown.
    async fn run(&mut self) -> Result<()>;
}

impl Run for Command {
    async fn run(&mut self) -> Result<()> {
        let status = self.status().await.context("cannot run npm")?;
        if !status.success() {
            bail!("npm: {status}");
        }
        Ok(())
    }
}

/// Says why there is no Node that Vite runs on.
pub(crate) async fn find_node() -> Result<(), String> {
    // "v20.19.0".
    let node = Command::new("node")
        .arg("--version")
        .output()
        .await
        .map_err(|_| "no node on PATH".to_owned())?;
    let text = String::from_utf8_lossy(&node.stdout).trim().to_owned();
    let mut parts = text.trim_start_matches('v').split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (20, 19) => {}
        _ => return Err(format!("node is {text}")),
    }
    match Command::new("npm").arg("--version").output().await {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("no npm on PATH".to_owned()),
    }
}

/// A Chromium of this machine; none is downloaded.
pub(crate) fn find_chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PULSE_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|at| at.modified()).ok()
}

/// The latest change below a path.
fn newest_in(path: &Path) -> Result<Option<SystemTime>> {
    let mut newest = modified(path);
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?.path();
            if !entry.to_string_lossy().ends_with(".gen.ts") {
                newest = newest.max(newest_in(&entry)?);
            }
        }
    }
    Ok(newest)
}
