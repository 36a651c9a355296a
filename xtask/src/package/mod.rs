//! `package` and `sam`: builds and zips every function for Lambda and, with `--check`, starts each
//! as a deployment would and calls it.

mod check;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use tokio::process::Command;

use crate::process::run_logged;
use crate::stack;
use crate::tools;
use crate::ui::Progress;

/// Arguments of `package`.
#[derive(clap::Args)]
pub(crate) struct PackageArgs {
    /// Build for x86-64 instead of arm64
    #[arg(long)]
    x86: bool,
    /// Start each packaged function with the environment that template.yaml gives it, and check its
    /// answer; needs a running stack, and --x86 on an x86-64 machine
    #[arg(long)]
    check: bool,
    #[arg(long, env = "PULSE_DEV_DIR", hide = true)]
    state: Option<PathBuf>,
}

/// Writes a zip that is the same for the same program: its entry has a fixed time.
const ZIP: &str = "
import sys, zipfile
entry = zipfile.ZipInfo('bootstrap', (1980, 1, 1, 0, 0, 0))
entry.create_system, entry.external_attr = 3, 0o100755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
with open(sys.argv[1], 'rb') as program, zipfile.ZipFile(sys.argv[2], 'w') as archive:
    archive.writestr(entry, program.read(), compresslevel=9)
";

/// `cargo xtask package`.
pub(crate) async fn run(args: &PackageArgs) -> Result<()> {
    // Fails before minutes are spent on the build.
    let env =
        if args.check { Some(crate::dev::require_running(args.state.as_deref())?) } else { None };
    let root = stack::root();
    let progress = Progress::new();
    let tools = tools::python(&root, &progress).await?;
    let names = stack::function_names(&root)?;
    let machine = if args.x86 { "x86-64" } else { "arm64" };
    let (folder, log) = build(&names, None, machine, &progress).await?;
    for name in &names {
        zip(
            &tools,
            &folder.join(name).join("bootstrap"),
            &folder.join(format!("{name}.zip")),
            &log,
        )
        .await?;
    }
    println!("{:<16} {:>10} {:>10}", machine, "program", "zip");
    for name in &names {
        let size = |path: PathBuf| {
            fs::metadata(&path)
                .map(|file| file.len())
                .with_context(|| format!("no {}", path.display()))
        };
        println!(
            "{name:<16} {:>10} {:>10}",
            size(folder.join(name).join("bootstrap"))?,
            size(folder.join(format!("{name}.zip")))?
        );
    }
    println!("in {}", folder.display());
    match env {
        Some(env) => check::run(&root, &folder, &env).await,
        None => Ok(()),
    }
}

/// Builds these packages for `arm64` or `x86-64` Lambda, with `feature` on top of their default
/// ones. Returns the folder that has one folder per package, and the log.
pub(crate) async fn build(
    names: &[String],
    feature: Option<&str>,
    machine: &str,
    progress: &Progress,
) -> Result<(PathBuf, PathBuf)> {
    let root = stack::root();
    let tools = tools::python(&root, progress).await?;
    let folder = root.join("target/package").join(machine);
    fs::create_dir_all(&folder)?;
    let log = folder.join("build.log");
    let step = progress.step(format!(
        "functions for {machine}: release build (half an hour the first time); {}",
        log.display()
    ));
    stack::remove(&log)?;
    // Without rustup there is nothing to add: the target is installed with Rust, or not at all.
    let target =
        if machine == "arm64" { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    if let Ok(rustup) = Command::new("rustup").args(["target", "add", target]).output().await
        && !rustup.status.success()
    {
        anyhow::bail!(
            "rustup target add {target}: {}",
            String::from_utf8_lossy(&rustup.stderr).trim()
        );
    }
    let mut build = Command::new(tools.join("bin/cargo-lambda"));
    build
        .args(["lambda", "build", "--release", &format!("--{machine}"), "--lambda-dir"])
        .arg(&folder);
    for name in names {
        // By package: --bin would select the features of the whole workspace, and with them the
        // fault points of the tests.
        build.args(["--package", name]);
    }
    build.args(feature.iter().flat_map(|feature| ["--features", feature]));
    run_logged("cargo lambda build", build.current_dir(&root).env("PATH", path_with(&tools)), &log)
        .await?;
    step.done();
    Ok((folder, log))
}

async fn zip(tools: &Path, program: &Path, archive: &Path, log: &Path) -> Result<()> {
    let mut python = Command::new(tools.join("bin/python"));
    run_logged("zip", python.args(["-c", ZIP]).arg(program).arg(archive), log).await
}

/// `cargo xtask sam`.
pub(crate) async fn sam(arguments: &[OsString]) -> Result<()> {
    let (root, progress) = (stack::root(), Progress::new());
    let (python, deployment) =
        (tools::python(&root, &progress).await?, tools::deployment(&root, &progress).await?);
    let mut sam = Command::new(deployment.join("bin/sam"));
    sam.args(arguments)
        .current_dir(&root)
        .env("PATH", path_with(&python))
        .env("SAM_CLI_TELEMETRY", "0");
    let status = sam.status().await.context("cannot run sam")?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// PATH with cargo-lambda, and with zig, which links.
fn path_with(tools: &Path) -> OsString {
    let mut path = tools.join("bin").into_os_string();
    if let Some(others) = std::env::var_os("PATH") {
        path.push(":");
        path.push(others);
    }
    path
}
