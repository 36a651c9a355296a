//! Logs, and the start of a function's process.
//!
//! JSON, one line per event, with `request.id`, `stripe.event_id` and `tenant.id` where they apply
//! (docs/operations.md, "Logs"). Never a body, a token, a mail address or a secret.

use std::process::ExitCode;

use tracing::Level;

use super::config::Env;
use crate::{Error, Result};

/// Sets up logs at `LOG_LEVEL` (info by default), the stage of metrics and the process's TLS
/// provider; called first in every `main`.
///
/// # Errors
/// `Setting` if `LOG_LEVEL` is not a level or is not built in, or `STAGE` is empty.
pub fn init(env: &Env) -> Result<()> {
    let level = match env.optional("LOG_LEVEL")? {
        Some(text) => match text.parse::<Level>() {
            Ok(level) if level <= tracing::level_filters::STATIC_MAX_LEVEL => level,
            // What libraries log below info may hold a secret, so a release is built without it.
            Ok(_) => {
                return Err(Error::Setting(format!(
                    "LOG_LEVEL {text:?} is not built into this program"
                )));
            }
            Err(_) => {
                return Err(Error::Setting(format!("LOG_LEVEL is not a log level: {text:?}")));
            }
        },
        None => Level::INFO,
    };
    crate::process::metrics::init(env)?;
    crate::process::tls::install();
    // A second call (tests) keeps the first subscriber.
    let logs = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_max_level(level)
        .finish();
    let _ = tracing::subscriber::set_global_default(logs);
    Ok(())
}

/// Ends the process. A function that cannot start or go on says why in one line.
#[expect(clippy::print_stderr, reason = "the log may not be set up")]
pub fn exit(result: std::result::Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log: the log's own setting may be the bad one.
            eprintln!("the function stopped: {error}");
            ExitCode::FAILURE
        }
    }
}
