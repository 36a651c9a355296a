//! `templates`: what CloudFormation would find in the templates, found before a deployment does.
//!
//! SAM's own translator transforms them; everything is checked on the result and not on what we
//! wrote: types and properties (cfn-lint), references and their order (graph.rs), new versions
//! (versions.rs), permissions (permissions.rs), and a deployment into moto (emulation.rs).
//! `samconfig.toml` is read by SAM itself (settings.rs).

mod emulation;
mod graph;
mod permissions;
mod settings;
mod values;
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::stack;
use crate::tools;
use crate::ui::Progress;

pub(crate) use settings::Section;
pub(crate) use settings::read as read_settings;
pub(crate) use values::accepts;

/// The templates, in the order of their deployment.
const TEMPLATES: [&str; 2] = ["foundation.yaml", "template.yaml"];

/// Names of parameters with their values.
pub(crate) type Values = BTreeMap<String, String>;

/// The folders of the two virtual environments that have SAM and moto.
pub(crate) struct Programs {
    pub deployment: PathBuf,
    pub stack: PathBuf,
}

/// `cargo xtask templates`.
pub(crate) async fn run() -> Result<()> {
    let (root, progress) = (stack::root(), Progress::new());
    let programs = Programs {
        deployment: tools::deployment(&root, &progress).await?,
        stack: tools::python(&root, &progress).await?,
    };
    check(&root, &programs).await
}

/// Checks everything, and fails with all that was found.
pub(crate) async fn check(root: &Path, programs: &Programs) -> Result<()> {
    let [foundation, application] = TEMPLATES;
    let mut found = Vec::new();
    let jobs: Vec<_> =
        TEMPLATES.iter().map(|name| job(root, name, &values::first(root, name))).collect();
    let transformed = transform(root, programs, &jobs).await?;
    for (name, template) in TEMPLATES.iter().zip(&transformed) {
        found.extend(graph::check(template).into_iter().map(|what| format!("{name}: {what}")));
    }
    found.extend(lint(root, programs, &transformed).await?);
    found.extend(versions::check(root, programs, application).await?);
    found.extend(permissions::check(root, programs, &transformed[1]).await?);
    found.extend(settings::check(root, programs).await?);
    found.extend(emulation::check(root, programs, [foundation, application]).await?);
    for what in &found {
        println!("✗ {what}");
    }
    ensure!(found.is_empty(), "{} findings in the templates", found.len());
    println!("✓ the templates as SAM transforms them, samconfig.toml as SAM reads it");
    Ok(())
}

/// A template with the values that it is transformed with.
fn job(root: &Path, template: &str, parameters: &Values) -> Value {
    json!({"template": root.join(template), "region": stack::REGION, "parameters": parameters})
}

async fn transform(root: &Path, programs: &Programs, jobs: &[Value]) -> Result<Vec<Value>> {
    ask(root, &programs.deployment, "sam.py", &json!({"do": "transform", "jobs": jobs})).await
}

/// Has a script of `xtask/templates/` answer.
async fn ask<T: DeserializeOwned>(
    root: &Path,
    environment: &Path,
    script: &str,
    request: &Value,
) -> Result<T> {
    let mut python = Command::new(environment.join("bin/python"))
        .arg("-B")
        .arg(root.join("xtask/templates").join(script))
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {script}"))?;
    let mut stdin = python.stdin.take().context("no stdin")?;
    let text = request.to_string();
    let (written, output) = tokio::join!(
        async move { stdin.write_all(text.as_bytes()).await },
        python.wait_with_output()
    );
    let output = output?;
    if !output.status.success() {
        // The last lines are the error; before them is its way through the libraries.
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = text.trim_end().lines().collect();
        bail!("{script}: {}", lines[lines.len().saturating_sub(3)..].join("\n"));
    }
    written?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("the answer of {script}"))
}

/// cfn-lint on what CloudFormation gets; each line of its output is a finding.
async fn lint(root: &Path, programs: &Programs, transformed: &[Value]) -> Result<Vec<String>> {
    let folder = root.join("target/templates");
    fs::create_dir_all(&folder)?;
    let mut cfn_lint = Command::new(programs.stack.join("bin/cfn-lint"));
    // W2001, a parameter that is not used: some are for SAM alone, which has filled them in. The
    // check of the templates as we wrote them has it.
    let arguments = ["--format", "parseable", "--ignore-checks", "W2001", "--"];
    cfn_lint.args(arguments).current_dir(&folder);
    for (name, template) in TEMPLATES.iter().zip(transformed) {
        let file = folder.join(Path::new(name).with_extension("json"));
        fs::write(&file, serde_json::to_vec_pretty(template)?)?;
        cfn_lint.arg(file);
    }
    let output = cfn_lint.output().await.context("cannot run cfn-lint")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    ensure!(
        output.status.success() || !lines.is_empty(),
        "cfn-lint: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(lines)
}
