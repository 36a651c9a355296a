//! Child processes: each has a log file and a process group of its own. They are stopped together,
//! and found again after a crash of xtask.

use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use tokio::process::Child;
use tokio::process::Command;

/// How long a service may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

struct Service {
    name: &'static str,
    child: Child,
    pid: u32,
}

/// The services of one stack.
pub(crate) struct Supervisor {
    logs: PathBuf,
    pids: PathBuf,
    services: Mutex<Vec<Service>>,
}

impl Supervisor {
    /// Keeps logs and process ids in `state`, and kills the orphans of an earlier run that was
    /// killed.
    pub(crate) fn new(state: &Path) -> Result<Self> {
        let logs = state.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let supervisor = Self { logs, pids: state.join("pids"), services: Mutex::default() };
        supervisor.kill_orphans();
        Ok(supervisor)
    }

    /// The log file of a service.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts a service in a process group of its own, so that Ctrl-C reaches only xtask, which
    /// stops the services in order.
    pub(crate) fn start(&self, name: &'static str, command: &mut Command) -> Result<()> {
        let log = self.log(name);
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file).process_group(0);
        let child = command.spawn().with_context(|| {
            format!("cannot start {name} ({})", command.as_std().get_program().display())
        })?;
        let pid = child.id().context("a process that has just started has an id")?;
        self.remember(Some(pid))?;
        self.lock().push(Service { name, child, pid });
        Ok(())
    }

    /// Records a process, so that the next start kills it if this run cannot.
    pub(crate) fn remember(&self, pid: Option<u32>) -> Result<()> {
        let pid = pid.context("a process that has just started has an id")?;
        let mut pids = OpenOptions::new().create(true).append(true).open(&self.pids)?;
        writeln!(pids, "{pid} {}", started(pid))?;
        Ok(())
    }

    /// Waits until `probe` returns true.
    pub(crate) async fn ready<F: Future<Output = bool>>(
        &self,
        name: &'static str,
        limit: Duration,
        probe: impl Fn() -> F,
    ) -> Result<()> {
        let start = Instant::now();
        while !probe().await {
            self.check()?;
            if start.elapsed() > limit {
                bail!(
                    "{name} was not ready after {} s; the end of {}:\n{}",
                    limit.as_secs(),
                    self.log(name).display(),
                    tail(&self.log(name), 15)
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Fails with a service's name and log if it has ended unexpectedly.
    fn check(&self) -> Result<()> {
        for service in self.lock().iter_mut() {
            if let Some(status) = service.child.try_wait()? {
                let log = self.log(service.name);
                bail!(
                    "{} ended unexpectedly ({status}); the end of {}:\n{}",
                    service.name,
                    log.display(),
                    tail(&log, 15)
                );
            }
        }
        Ok(())
    }

    /// Returns the reason once a service has ended unexpectedly.
    pub(crate) async fn watch(&self) -> anyhow::Error {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Stops everything.
    pub(crate) async fn stop_all(&self) {
        let services = std::mem::take(&mut *self.lock());
        let stopping: Vec<_> =
            services.into_iter().map(|service| tokio::spawn(stop(service))).collect();
        for service in stopping {
            // Fails only if the task was cancelled, and then nothing is left to stop.
            let _ = service.await;
        }
        // If the file stays, the next start only looks for processes that have ended.
        let _ = fs::remove_file(&self.pids);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Service>> {
        self.services.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn kill_orphans(&self) {
        for line in fs::read_to_string(&self.pids).unwrap_or_default().lines() {
            // Ids are reused: only a process that started when ours did is ours.
            if let Some((pid, start)) = line.split_once(' ')
                && let Ok(pid) = pid.parse()
                && !start.is_empty()
                && started(pid) == start
            {
                signal("KILL", pid);
            }
        }
        let _ = fs::remove_file(&self.pids);
    }
}

async fn stop(mut service: Service) {
    let polite = match service.name {
        // At SIGTERM it waits for its clients, at SIGINT it disconnects them.
        "postgres" => "INT",
        // It stores nothing, and at SIGTERM it would wait for its long polls.
        "elasticmq" => "KILL",
        _ => "TERM",
    };
    signal(polite, service.pid);
    if tokio::time::timeout(STOP_LIMIT, service.child.wait()).await.is_err() {
        signal("KILL", service.pid);
        let _ = service.child.wait().await;
    }
}

/// Signals a process group with the shell's built-in `kill`: a small image has no other.
fn signal(name: &str, group: u32) {
    let mut kill = std::process::Command::new("sh");
    kill.args(["-c", "kill -s \"$1\" -- \"-$2\"", "sh", name, &group.to_string()]);
    // Fails if the group has ended already, which is what the signal is for.
    let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Signals a single process.
pub(crate) fn signal_one(name: &str, pid: u32) {
    let mut kill = std::process::Command::new("sh");
    kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]);
    let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// When a process started, in the system's own unit; empty if there is no such process.
fn started(pid: u32) -> String {
    if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        // Field 22 of proc(5), counted from the end of the name, which may hold anything.
        return stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(19))
            .unwrap_or_default()
            .to_owned();
    }
    let ps =
        std::process::Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output();
    ps.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Runs a command to its end, with its output in `log`; an error shows the last lines.
pub(crate) async fn run_logged(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file).kill_on_drop(true);
    let status = command.status().await.with_context(|| {
        format!("{what}: cannot run {}", command.as_std().get_program().display())
    })?;
    succeeded(what, status, log)
}

fn succeeded(what: &str, status: ExitStatus, log: &Path) -> Result<()> {
    if !status.success() {
        bail!("{what} failed ({status}); the end of {}:\n{}", log.display(), tail(log, 25));
    }
    Ok(())
}

/// The last lines of a file, indented.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "    {line}");
        out
    })
}
