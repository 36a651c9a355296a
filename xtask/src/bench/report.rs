//! What was measured: the rounds of each measure and of its floor.

#![expect(clippy::float_arithmetic, reason = "times and ratios, not money")]

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use serde_json::json;

/// How far from its floor a measure may be.
#[derive(Clone, Copy)]
pub(super) enum Aim {
    /// At most this multiple of the floor.
    AtMost(f64),
    /// At least this share of the floor, for rates.
    AtLeast(f64),
    /// No aim: the measure is only shown.
    None,
}

/// One line of the report.
pub(super) struct Measure {
    /// What was measured, and its floor.
    pub name: String,
    pub unit: &'static str,
    /// One value per round.
    pub ours: Vec<f64>,
    pub floor: Vec<f64>,
    pub aim: Aim,
}

impl Measure {
    /// A measure without values.
    pub(super) fn new(name: impl Into<String>, unit: &'static str, aim: Aim) -> Self {
        Self { name: name.into(), unit, ours: Vec::new(), floor: Vec::new(), aim }
    }

    /// Adds the two values of a round.
    pub(super) fn push(&mut self, ours: f64, floor: f64) {
        self.ours.push(ours);
        self.floor.push(floor);
    }

    fn ratio(&self) -> f64 {
        median(&self.ours) / median(&self.floor)
    }

    fn holds(&self) -> Option<bool> {
        match self.aim {
            Aim::AtMost(most) => Some(self.ratio() <= most),
            Aim::AtLeast(least) => Some(self.ratio() >= least),
            Aim::None => None,
        }
    }

    fn line(&self) -> String {
        let (aim, verdict) = match (self.aim, self.holds()) {
            (Aim::AtMost(most), holds) => {
                (format!("≤ {most}"), if holds == Some(true) { "holds" } else { "MISSED" })
            }
            (Aim::AtLeast(least), holds) => {
                (format!("≥ {least}"), if holds == Some(true) { "holds" } else { "MISSED" })
            }
            (Aim::None, _) => (String::new(), ""),
        };
        let values = |values: &[f64]| {
            format!(
                "{} ({}–{})",
                short(median(values)),
                short(extreme(values, f64::min)),
                short(extreme(values, f64::max))
            )
        };
        format!(
            "{:<58} {:>4} {:>24} {:>24} {:>7.2} {aim:>7} {verdict}",
            self.name,
            self.unit,
            values(&self.ours),
            values(&self.floor),
            self.ratio()
        )
    }

    fn json(&self) -> Value {
        let values = |values: &[f64]| {
            json!({ "median": median(values),
            "min": extreme(values, f64::min), "max": extreme(values, f64::max), "rounds": values })
        };
        let aim = match self.aim {
            Aim::AtMost(most) => json!({ "at_most": most }),
            Aim::AtLeast(least) => json!({ "at_least": least }),
            Aim::None => Value::Null,
        };
        json!({ "name": self.name, "unit": self.unit, "ours": values(&self.ours),
            "floor": values(&self.floor), "ratio": self.ratio(), "aim": aim,
            "holds": self.holds() })
    }
}

/// The median.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn extreme(values: &[f64], of: fn(f64, f64) -> f64) -> f64 {
    values.iter().copied().fold(f64::NAN, of)
}

fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Prints the measures of a group.
pub(super) fn print(measures: &[Measure]) {
    if measures.is_empty() {
        return;
    }
    println!(
        "{:<58} {:>4} {:>24} {:>24} {:>7} {:>7}",
        "", "", "median (min–max)", "floor", "ratio", "aim"
    );
    for measure in measures {
        println!("{}", measure.line());
    }
}

/// Writes all measures as JSON.
pub(super) fn write(path: &Path, measures: &[Measure], about: &Value) -> Result<()> {
    let all: Vec<Value> = measures.iter().map(Measure::json).collect();
    fs::write(path, format!("{:#}\n", json!({ "about": about, "measures": all })))?;
    Ok(())
}
