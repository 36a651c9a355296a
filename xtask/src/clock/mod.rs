//! `clock`: shows and moves the business time of the running stack
//! (docs/adr/0018-business-time.md).

mod on_stack;
pub(crate) mod time;

use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use jiff::Span;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use journey::Happened;
use journey::Journey;

use crate::stack;
use crate::stack::settings::Env;
use crate::ui::Progress;
use crate::ui::seconds;
use on_stack::OnStack;
use shared::base::clock::BusinessTime;
use time::Plan;
use time::Times;

/// Arguments of `clock`.
#[derive(clap::Args)]
pub(crate) struct ClockArgs {
    #[command(subcommand)]
    command: Option<ClockCommand>,
    #[arg(long, env = "PULSE_DEV_DIR", hide = true, global = true)]
    state: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum ClockCommand {
    /// Move it forward; what would have happened on the way happens, in order
    Advance {
        /// How far, such as `30d`, `1mo` or `to 2027-06-01T00:00:00Z`; without it, what was begun
        /// and not finished goes on
        #[arg(value_name = "SPAN | to INSTANT")]
        by: Vec<String>,
        /// Do the hourly run at every hour, and not only where it has something to do
        #[arg(long)]
        every_hour: bool,
    },
}

/// `cargo xtask clock`.
pub(crate) async fn run(args: &ClockArgs) -> Result<()> {
    let state = stack::state_folder(args.state.as_deref());
    let env = crate::dev::require_running(Some(&state))?;
    match &args.command {
        None => show(&Times::of(&state)),
        Some(ClockCommand::Advance { by, every_hour }) => {
            let start = Instant::now();
            let way = Way::begin(&state, &by.join(" "), *every_hour)?;
            let (from, to) = (way.from, way.plan.to);
            let mut told = Told::new(&Progress::new(), from, to);
            way.lead(&env, |at, happened| told.tell(at, happened)).await?;
            drop(told);
            println!("from {from:.0} to {to:.0} in {}", seconds(start.elapsed()));
            Ok(())
        }
    }
}

fn show(times: &Times) -> Result<()> {
    let time = times.read()?;
    println!("{:.0}", time.now());
    match time {
        BusinessTime::Ahead(ahead) if ahead.is_zero() => println!("as on this machine"),
        BusinessTime::Ahead(ahead) => println!("{ahead:#} ahead of this machine"),
        BusinessTime::Held(_) => println!("held here"),
    }
    if let Some(plan) = times.plan()? {
        println!("on the way to {}: {GO_ON}", plan.to);
    }
    Ok(())
}

const GO_ON: &str = "go on with `cargo xtask clock advance`";

/// A way through time that has begun, and that no one else leads now.
pub(crate) struct Way {
    times: Times,
    _lock: File,
    from: Timestamp,
    plan: Plan,
}

impl Way {
    /// Begins a way, or takes up the one that was begun before.
    pub(crate) fn begin(state: &Path, by: &str, every_hour: bool) -> Result<Self> {
        let times = Times::of(state);
        let lock = times.lock()?;
        let from = times.read()?.now();
        let plan = match times.plan()? {
            Some(plan) if by.is_empty() || plan.by == by => plan,
            Some(plan) => bail!("a way to {} was begun and not finished: {GO_ON}", plan.to),
            None if by.is_empty() => bail!("how far? `30d`, `1mo` or `to 2027-06-01T00:00:00Z`"),
            None => {
                let plan = Plan { to: target(by, from)?, by: by.to_owned(), every_hour };
                times.begin(&plan)?;
                plan
            }
        };
        Ok(Self { times, _lock: lock, from, plan })
    }

    /// Leads the running stack to its end.
    pub(crate) async fn lead(
        self,
        env: &Env,
        tell: impl FnMut(Timestamp, &[Happened]),
    ) -> Result<()> {
        let mut business = OnStack::new(env, self.times.clone()).await?;
        let journey = Journey { to: self.plan.to, every_hour: self.plan.every_hour };
        journey::lead(&mut business, journey, self.from, tell).await.with_context(|| {
            let at = self.times.read().map(|time| time.now().to_string()).unwrap_or_default();
            format!("stopped at {at}; when the cause is mended, {GO_ON}")
        })?;
        self.times.end()
    }
}

/// Where `by` leads from here.
fn target(by: &str, from: Timestamp) -> Result<Timestamp> {
    let to = if let Some(instant) = by.strip_prefix("to ") {
        instant.trim().parse().context("no instant, such as 2027-06-01T00:00:00Z")?
    } else {
        let span: Span = by.parse().with_context(|| format!("no span, such as 30d: {by:?}"))?;
        from.to_zoned(TimeZone::UTC).checked_add(span)?.timestamp()
    };
    ensure!(to > from, "business time goes only forward: it is {from}");
    Ok(to)
}

/// Shows what happens: a line each, and how far the time has come.
struct Told {
    progress: Progress,
    bar: indicatif::ProgressBar,
    from: Timestamp,
}

impl Told {
    fn new(progress: &Progress, from: Timestamp, to: Timestamp) -> Self {
        let bar = progress.bar(u64::try_from(to.duration_since(from).as_secs()).unwrap_or(0));
        Self { progress: progress.clone(), bar, from }
    }

    fn tell(&mut self, at: Timestamp, happened: &[Happened]) {
        for one in happened {
            self.progress.result(format!("{at:.0}  {one}"));
        }
        let past = at.duration_since(self.from).as_secs();
        self.bar.set_position(u64::try_from(past).unwrap_or(0));
        self.bar.set_message(format!("{at:.0}"));
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_span_of_the_calendar_or_an_instant_and_never_behind() {
        let from: Timestamp = "2027-01-31T10:00:00Z".parse().expect("an instant");
        for (by, to) in [
            ("30d", "2027-03-02T10:00:00Z"),
            ("1mo", "2027-02-28T10:00:00Z"),
            ("1y", "2028-01-31T10:00:00Z"),
            ("2h 30m", "2027-01-31T12:30:00Z"),
            ("to 2027-06-01T00:00:00Z", "2027-06-01T00:00:00Z"),
        ] {
            let found = target(by, from).unwrap_or_else(|error| panic!("{by}: {error:#}"));
            assert_eq!(found.to_string(), to, "{by}");
        }
        for by in ["-1d", "0s", "to 2027-01-31T10:00:00Z", "to 2026-06-01T00:00:00Z", "tomorrow"] {
            assert!(target(by, from).is_err(), "{by}");
        }
    }
}
