//! Leads a business through time (docs/adr/0018-business-time.md): what time alone brings about
//! happens in order, each thing at its own instant, and everything that follows from it before the
//! time goes on.
//!
//! Each instant may be done again: a journey that was killed goes on with the instant at which
//! business time is held, and nothing happens twice.

mod instants;
mod report;

use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Client;

pub use self::report::Happened;

/// A business that time is moved in: the running stack, or a world of the tests.
#[expect(async_fn_in_trait, reason = "no one asks for their futures to be Send")]
pub trait Business {
    /// Its database, as the owner.
    fn database(&self) -> &Client;

    /// Holds business time at this instant, and lets Stripe do what is due by then.
    async fn hold(&mut self, at: Timestamp) -> Result<()>;

    /// When Stripe does something next.
    async fn next_at_stripe(&mut self) -> Result<Option<Timestamp>>;

    /// Waits until Stripe's events are delivered and applied, and no message is under way.
    async fn settle(&mut self) -> Result<()>;

    /// Does the hourly run; returns its summary.
    async fn run_hourly(&mut self) -> Result<Value>;

    /// Does the run that `provisioning` has every minute; returns its summary.
    async fn run_minutely(&mut self) -> Result<Value>;
}

/// How far a journey leads, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Where it ends.
    pub to: Timestamp,
    /// Whether the hourly run happens at every hour, and not only where it has something to do.
    pub every_hour: bool,
}

/// Leads the business from the instant `at`, where its time is held or was stopped, to the end of
/// the journey. Tells of each instant what happened at it.
///
/// # Errors
/// The first thing that goes wrong; the time stays held there.
pub async fn lead(
    business: &mut impl Business,
    journey: Journey,
    mut at: Timestamp,
    mut tell: impl FnMut(Timestamp, &[Happened]),
) -> Result<()> {
    let mut seen = report::Seen::new(business.database()).await?;
    loop {
        business.hold(at).await?;
        business.settle().await?;
        let mut happened = Vec::new();
        if instants::is_hour(at) && !report::has_run(business.database(), at).await? {
            happened.extend(judge_run(&business.run_hourly().await?)?);
        }
        while instants::has_due_step(business.database(), at).await? {
            let summary = business.run_minutely().await?;
            ensure!(summary["failed"] == 0, "outbox steps failed: {summary}");
            business.settle().await?;
            if summary["done"] == 0 {
                break;
            }
        }
        happened.extend(seen.since(business.database(), at).await?);
        tell(at, &happened);
        if at >= journey.to {
            return Ok(());
        }
        let stripe = business.next_at_stripe().await?;
        at = instants::next(business.database(), at, stripe, journey).await?;
    }
}

/// What a run did that is not in the audit.
fn judge_run(summary: &Value) -> Result<Option<Happened>> {
    ensure!(summary["errors"] == serde_json::json!({}), "the hourly run failed: {summary}");
    if summary["breaker"].is_object() {
        bail!(
            "the breaker of the hourly run is open: {}. Look at what is due, approve it \
             (docs/renewals.md, \"The breaker\"), and go on",
            summary["breaker"]
        );
    }
    Ok(Happened::of_run(summary))
}
