//! The functions: built with cargo, and run under the Lambda runtime interface that `cargo lambda
//! watch` serves.
//!
//! cargo-lambda serves routes and invocations (`--only-lambda-apis`), but xtask runs the processes.
//! cargo-lambda would start each with `cargo run`, which waits for every other cargo on the
//! machine, and would not restart one that has ended, whose callers then hang.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::json;
use tokio::process::Child;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::Starting;
use super::listens;
use super::remove;
use super::settings::Env;
use crate::process::Supervisor;
use crate::process::run_logged;
use crate::process::tail;
use crate::tools::Tools;
use crate::ui::Progress;

/// Instances per function: as many as the pump has pollers.
const INSTANCES: usize = 4;

/// The functions of this workspace. Package, folder and binary have the same name.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("functions"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds every function.
pub(super) async fn build(root: &Path, progress: &Progress, log: &Path) -> Result<()> {
    let step = progress.step("functions: cargo build (minutes the first time)");
    let mut cargo = Command::new("cargo");
    cargo.arg("build").current_dir(root);
    for name in names(root)? {
        // Not --package, which would select other features than --workspace does: everything would
        // be built twice.
        cargo.args(["--bin", &name]);
    }
    remove(log)?;
    run_logged("cargo build of the functions", &mut cargo, log).await?;
    step.done();
    Ok(())
}

/// Starts the Lambda API and the instances, and waits until every function but `migrate` has
/// answered.
pub(super) async fn start(
    stack: &Starting<'_>,
    tools: &Tools,
    env: &Env,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let step = stack.progress.step("functions");
    let port = stack.ports.api;
    let mut lambda = Command::new(tools.program("cargo-lambda"));
    lambda.args([
        "lambda",
        "watch",
        "-A",
        "127.0.0.1",
        "-P",
        &port.to_string(),
        "--only-lambda-apis",
        "--ignore-changes",
    ]);
    stack.supervisor.start("lambda", lambda.current_dir(stack.root))?;
    stack.supervisor.ready("lambda", Duration::from_secs(30), || listens(port)).await?;

    let settings = settings(env);
    // Cargo puts the functions where it puts this program.
    let folder =
        std::env::current_exe()?.parent().context("this program is in no folder")?.to_owned();
    for name in names(stack.root)? {
        let log = stack.supervisor.log(&name);
        remove(&log)?;
        // Only a deployment calls it.
        let instances = if name == "migrate" { 1 } else { INSTANCES };
        let function = Arc::new(Function {
            program: folder.join(&name),
            name,
            port,
            settings: settings.clone(),
            log,
        });
        for _ in 0..instances {
            tasks.spawn(function.clone().keep_running(stack.supervisor.clone()));
        }
    }
    tasks.spawn(refuse_unrouted(port));
    for (name, path, status) in [
        ("webhook", "webhook/stripe", 400),
        ("stripe-events", "2015-03-31/functions/stripe-events/invocations", 200),
        ("provisioning", "2015-03-31/functions/provisioning/invocations", 200),
        ("renewal", "2015-03-31/functions/renewal/invocations", 200),
        ("operator-plans", "api/v1/operator/plans", 401),
        ("operations", "api/v1/operator/audit", 405),
        ("tenants", "api/v1/operator/tenants", 401),
        ("subscriptions", "api/v1/operator/subscriptions", 401),
        ("allocations", "api/v1/operator/subscriptions/SUB-1/sync-tier-allocations", 401),
        ("billing", "api/v1/customer/entitlements/check", 401),
        ("device-tier", "api/v1/operator/devices", 401),
    ] {
        if let Err(error) = warm(port, path, status).await {
            let log = stack.supervisor.log(name);
            bail!("{name} {error:#}; the end of {}:\n{}", log.display(), tail(&log, 25));
        }
    }
    step.done();
    Ok(())
}

/// Settings that functions do not get: they are the owner's, or secrets, which come from Secrets
/// Manager.
const WITHHELD: [&str; 6] = [
    "DATABASE_URL",
    "KEYCLOAK_ADMIN_PASSWORD",
    "KEYCLOAK_CLIENT_SECRET",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "MAIL_DIR",
];
/// Variables of a developer's environment that would change the functions.
const REMOVED: [&str; 2] = ["AWS_SESSION_TOKEN", "STRIPE_API_BASE"];

/// A function's settings.
pub(crate) fn settings(env: &Env) -> Vec<(String, String)> {
    let given = env.pairs().filter(|(name, _)| !WITHHELD.contains(name));
    let more = [
        ("DATABASE_SSLMODE", "disable"),
        ("DATABASE_OWNER", "pulse_owner"),
        ("NO_PROXY", "127.0.0.1,localhost"),
        ("no_proxy", "127.0.0.1,localhost"),
    ];
    // The simulator has no limit that others need their share of.
    let unpaced = env.get("STRIPE_API_BASE").is_ok().then_some(("STRIPE_READS_PER_SECOND", "0"));
    given
        .chain(more)
        .chain(unpaced)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

struct Function {
    name: String,
    program: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    log: PathBuf,
}

impl Function {
    /// Runs one instance, and restarts it when it ends or when cargo has built it again.
    async fn keep_running(self: Arc<Self>, supervisor: Arc<Supervisor>) {
        loop {
            let built = self.built();
            match self.spawn(&supervisor) {
                Ok(mut child) => {
                    let status = tokio::select! {
                        status = child.wait() => status.map_or_else(|error| error.to_string(),
                            |status| status.to_string()),
                        () = self.rebuilt(built) => "rebuilt".to_owned(),
                    };
                    self.note(&format!("instance ended ({status}), starting another"));
                }
                Err(error) => self.note(&format!("cannot start: {error:#}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn spawn(&self, supervisor: &Supervisor) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        for name in WITHHELD.iter().chain(&REMOVED) {
            command.env_remove(name);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.env(
            "AWS_LAMBDA_RUNTIME_API",
            format!("http://127.0.0.1:{}/.rt/{}", self.port, self.name),
        );
        command
            .env("AWS_LAMBDA_FUNCTION_NAME", &self.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256");
        command
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        supervisor.remember(child.id())?;
        Ok(child)
    }

    fn built(&self) -> Option<SystemTime> {
        fs::metadata(&self.program).and_then(|file| file.modified()).ok()
    }

    async fn rebuilt(&self, running: Option<SystemTime>) {
        // None while cargo replaces the file.
        while self.built().is_none_or(|built| Some(built) == running) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn note(&self, line: &str) {
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(&self.log) {
            // A log line is not worth an error.
            let _ = writeln!(log, "xtask: {line}");
        }
    }
}

/// Calls a function, and checks the status of its answer.
async fn warm(port: u16, path: &str, wanted: u16) -> Result<()> {
    let http = crate::http_client(Duration::from_secs(30))?;
    let answer = http
        .post(format!("http://127.0.0.1:{port}/{path}"))
        .json(&json!({ "Records": [] }))
        .send()
        .await;
    let answer = answer.map_err(|error| {
        anyhow::anyhow!(if error.is_timeout() { "did not answer" } else { "cannot be reached" })
    })?;
    if answer.status().as_u16() != wanted {
        bail!("answered {}: {}", answer.status(), answer.text().await.unwrap_or_default());
    }
    Ok(())
}

/// Answers requests that match no route as API Gateway does; otherwise their callers would wait for
/// ever. Such requests go to a function without a name: this is its instance, by AWS's "Using the
/// Lambda runtime API".
async fn refuse_unrouted(port: u16) {
    let api = format!("http://127.0.0.1:{port}/.rt/2018-06-01/runtime/invocation");
    let not_found = json!({
        "statusCode": 404, "headers": { "content-type": "application/json" },
        "multiValueHeaders": {}, "cookies": [],
        "body": "{\"message\":\"Not Found\"}", "isBase64Encoded": false,
    });
    let Ok(http) = crate::http_client(Duration::from_hours(1)) else { return };
    loop {
        let next = http.get(format!("{api}/next")).send().await;
        let id = next
            .as_ref()
            .ok()
            .and_then(|next| next.headers().get("lambda-runtime-aws-request-id")?.to_str().ok());
        match id {
            // If the caller has gone, no one needs the answer.
            Some(id) => {
                drop(http.post(format!("{api}/{id}/response")).json(&not_found).send().await);
            }
            None => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}
