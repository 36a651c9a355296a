//! The functions: built by cargo, served by `cargo lambda watch` at one address.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::process::Command;

use super::listens;
use super::settings::Env;
use crate::process::{Supervisor, run_logged, tail};
use crate::tools::Tools;
use crate::ui::Progress;

/// How many instances a function may have: the pump's pollers and a delivery or two at once.
const CONCURRENCY: &str = "8";

/// Builds every function. `cargo lambda watch` runs them by `cargo run --bin`, and finds its work done.
pub async fn build(root: &Path, progress: &Progress, log: &Path) -> Result<()> {
    let step = progress.step("functions: cargo build (minutes the first time)");
    let mut cargo = Command::new("cargo");
    cargo.arg("build").current_dir(root);
    for entry in fs::read_dir(root.join("functions"))? {
        // The package, its folder and its binary have one name. No --package: it would select other features than
        // `cargo run --bin` does, and everything would be built twice.
        cargo.arg("--bin").arg(entry?.file_name());
    }
    super::remove(log)?;
    run_logged("cargo build of the functions", &mut cargo, log).await?;
    step.done();
    Ok(())
}

/// How to serve the functions.
pub struct Functions {
    root: PathBuf,
    program: PathBuf,
    port: u16,
    env: Env,
}

impl Functions {
    /// On this port, with the settings of this stack.
    pub fn new(root: &Path, tools: &Tools, port: u16, env: Env) -> Self {
        Self { root: root.to_owned(), program: tools.program("cargo-lambda"), port, env }
    }

    /// Starts the server and waits until each function of the checkout's path has answered once.
    pub async fn start(&self, supervisor: &Supervisor, progress: &Progress) -> Result<()> {
        let step = progress.step("functions: cargo lambda watch");
        let mut watch = Command::new(&self.program);
        watch.args(["lambda", "watch", "-A", "127.0.0.1", "-P", &self.port.to_string(), "--ignore-changes", "--concurrency", CONCURRENCY]);
        watch.current_dir(&self.root);
        // A developer's own AWS settings have no place here.
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"] {
            watch.env_remove(name);
        }
        // These are the owner's, or not the functions' to have: secrets come from Secrets Manager.
        let kept_back = ["DATABASE_URL", "KEYCLOAK_CLIENT_SECRET", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "SMTP_HOST", "SMTP_PORT", "MAIL_DIR"];
        for name in kept_back {
            watch.env_remove(name);
        }
        watch.envs(self.env.pairs().filter(|(name, _)| !kept_back.contains(name)));
        watch.env("DATABASE_SSLMODE", "disable").env("DATABASE_OWNER", "pulse_owner");
        watch.env("NO_PROXY", "127.0.0.1,localhost").env("no_proxy", "127.0.0.1,localhost");
        supervisor.start("functions", &mut watch)?;
        supervisor.ready("functions", Duration::from_secs(30), || listens(self.port)).await?;
        let warm = async { tokio::try_join!(self.warm_webhook(), self.invoke("stripe-events"), self.invoke("provisioning")) };
        if let Err(error) = warm.await {
            let log = supervisor.log("functions");
            bail!("{error:#}; the end of {}:\n{}", log.display(), tail(&log, 25));
        }
        step.done();
        Ok(())
    }

    /// A request without a signature: refused, by a function that has started.
    async fn warm_webhook(&self) -> Result<()> {
        let http = crate::http_client(Duration::from_mins(2))?;
        let url = format!("http://127.0.0.1:{}/webhook/stripe", self.port);
        let status = http.post(url).body("{}").send().await.context("webhook does not answer")?.status();
        if status.as_u16() != 400 {
            bail!("webhook answers {status} where 400 is right");
        }
        Ok(())
    }

    async fn invoke(&self, function: &str) -> Result<()> {
        let http = crate::http_client(Duration::from_mins(2))?;
        let url = format!("http://127.0.0.1:{}/2015-03-31/functions/{function}/invocations", self.port);
        let answer = http.post(url).json(&json!({ "Records": [] })).send().await.with_context(|| format!("{function} does not answer"))?;
        if !answer.status().is_success() {
            bail!("{function} answers {}: {}", answer.status(), answer.text().await.unwrap_or_default());
        }
        Ok(())
    }
}
