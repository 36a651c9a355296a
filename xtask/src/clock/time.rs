//! The files of business time in a stack's folder: the time itself, and how far it is to go.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use shared::base::clock::BusinessTime;
use shared::process::business_time::moved;

use crate::stack::remove;

/// A way that was begun.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Where it ends.
    pub to: Timestamp,
    /// How that was said.
    pub by: String,
    /// Whether the hourly run happens at every hour.
    pub every_hour: bool,
}

/// A stack's business time.
#[derive(Clone)]
pub(crate) struct Times(PathBuf);

impl Times {
    /// Those of the stack in this folder.
    pub(crate) fn of(state: &Path) -> Self {
        Self(state.to_owned())
    }

    /// The file that the functions follow.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("business-time")
    }

    fn plan_file(&self) -> PathBuf {
        self.0.join("business-time.plan")
    }

    /// Holds off whoever else wants to move the time.
    pub(crate) fn lock(&self) -> Result<File> {
        let lock = File::options().create(true).append(true).open(self.0.join("clock.lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => bail!("another command moves the time now"),
            Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock the time"),
        }
    }

    /// The time.
    pub(crate) fn read(&self) -> Result<BusinessTime> {
        Ok(moved::read(&self.file())?)
    }

    /// The way that was begun and not finished.
    pub(crate) fn plan(&self) -> Result<Option<Plan>> {
        let file = self.plan_file();
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))
    }

    /// Begins a way.
    pub(crate) fn begin(&self, plan: &Plan) -> Result<()> {
        replace(&self.plan_file(), &serde_json::to_string(plan)?)
    }

    /// Holds the time at an instant. It never goes back.
    pub(crate) fn hold(&self, at: Timestamp) -> Result<()> {
        let time = self.read()?;
        if matches!(time, BusinessTime::Held(_)) && time.now() > at {
            bail!("business time is {} already", time.now());
        }
        replace(&self.file(), &BusinessTime::Held(at).to_string())
    }

    /// Ends the way: the time runs on from where it is held.
    pub(crate) fn end(&self) -> Result<()> {
        replace(&self.file(), &self.read()?.released().to_string())?;
        remove(&self.plan_file())
    }
}

/// Writes a file so that a reader finds the old text or the new one, and nothing else.
fn replace(file: &Path, text: &str) -> Result<()> {
    let draft = file.with_extension("draft");
    fs::write(&draft, text)?;
    fs::rename(&draft, file).with_context(|| format!("cannot write {}", file.display()))
}
