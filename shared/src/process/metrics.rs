//! Metrics in CloudWatch's embedded metric format: one JSON line on standard output, from which
//! CloudWatch Logs extracts the values.
//!
//! Namespace `PulseBilling`, dimension `Stage` and no other; docs/deploy.md lists the names and the
//! alarms on them.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::config::Env;
use crate::Result;
use crate::base::clock::Clock;

/// The deployment's stage; `local` by default.
static STAGE: OnceLock<String> = OnceLock::new();

/// The unit of a value, by CloudWatch's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Time.
    Milliseconds,
    /// Time.
    Seconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
            Self::Seconds => "Seconds",
        }
    }
}

/// Reads `STAGE`; values before that have the stage `local`.
///
/// # Errors
/// `Setting` if it is empty.
pub fn init(env: &Env) -> Result<()> {
    if let Some(stage) = env.optional("STAGE")? {
        // A second call (tests) keeps the first.
        let _ = STAGE.set(stage);
    }
    Ok(())
}

/// Puts one value.
pub fn put(name: &'static str, unit: Unit, value: i64) {
    put_all(&[(name, unit, value)]);
}

/// Puts several values of one time, in one line.
#[expect(clippy::print_stdout, reason = "CloudWatch reads metrics from stdout")]
pub fn put_all(metrics: &[(&'static str, Unit, i64)]) {
    if !metrics.is_empty() {
        // One write of a whole line, as the log does: lines cannot mix.
        println!(
            "{}",
            line(STAGE.get().map_or("local", String::as_str), Clock::system().now(), metrics)
        );
    }
}

/// CloudWatch's "Specification: Embedded metric format": the names are declared, the values are
/// members next to `_aws`.
fn line(stage: &str, at: Timestamp, metrics: &[(&'static str, Unit, i64)]) -> Value {
    let declared: Vec<Value> =
        metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit.name()})).collect();
    let aws = json!({
        "Timestamp": at.as_millisecond(),
        "CloudWatchMetrics": [{"Namespace": "PulseBilling", "Dimensions": [["Stage"]],
            "Metrics": declared}],
    });
    let values = metrics.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value)));
    [("_aws".to_owned(), aws), ("Stage".to_owned(), json!(stage))]
        .into_iter()
        .chain(values)
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_declares_each_metric_and_has_its_value() {
        let at: Timestamp = "2026-11-21T10:00:00.5Z".parse().expect("a time");
        let line = line(
            "prod",
            at,
            &[("EventsApplied", Unit::Count, 7), ("OldestEvent", Unit::Seconds, 0)],
        );
        assert!(!line.to_string().contains('\n'));
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1_795_255_200_500_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "PulseBilling",
                        "Dimensions": [["Stage"]],
                        "Metrics": [{"Name": "EventsApplied", "Unit": "Count"},
                            {"Name": "OldestEvent", "Unit": "Seconds"}],
                    }],
                },
                "Stage": "prod",
                "EventsApplied": 7,
                "OldestEvent": 0,
            })
        );
    }

    #[test]
    fn an_empty_stage_is_refused() {
        assert_eq!(
            init(&Env::of([("STAGE".to_owned(), String::new())].into()))
                .expect_err("refused")
                .to_string(),
            "STAGE is empty"
        );
    }
}
