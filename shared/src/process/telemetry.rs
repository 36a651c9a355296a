//! Logs, and the start of a function's process.
//!
//! JSON, one line per event, with `request.id`, `stripe.event_id` and `tenant.id` where they apply
//! (docs/operations.md, "Logs"). Never a body, a token, a mail address or a secret.

use std::io::Write as _;
use std::process::ExitCode;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::config::Env;
use crate::base::clock::Clock;
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
    let lines = tracing_subscriber::registry().with(LevelFilter::from_level(level)).with(Lines);
    let _ = tracing::subscriber::set_global_default(lines);
    Ok(())
}

/// The span of a request, or of another invocation: every line that is written in it has the id that
/// Lambda or API Gateway gave it, and that of X-Ray's trace.
#[must_use]
pub fn request_span(id: &str, trace: Option<&str>) -> Span {
    tracing::info_span!("request", request.id = id, trace.id = trace)
}

/// Writes what happens as lines of JSON. The fields of the spans around it stand beside its own, so
/// that one query finds `request.id` in every line of every function.
struct Lines;

/// The fields of a span or of a line, in their order.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        line.put("timestamp", format!("{:.6}", Clock::system().now()));
        line.put("level", event.metadata().level().as_str());
        event.record(&mut line);
        for span in context.event_scope(event).into_iter().flatten() {
            // The innermost span comes first, and wins.
            for (name, value) in span.extensions().get::<Fields>().iter().flat_map(|all| &all.0) {
                if !line.has(name) {
                    line.put(name, value.clone());
                }
            }
        }
        line.put("target", event.metadata().target());
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            // Nobody can be told that a log cannot be written.
            let _ = std::io::stdout().lock().write_all(&line);
        }
    }
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
