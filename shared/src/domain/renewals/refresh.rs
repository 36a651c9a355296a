//! Subscriptions whose term or grace has ended are read from Stripe again before anything is decided.

use jiff::Timestamp;

use super::store::{Overdue, Position};
use super::summary::Summary;
use super::{Renewal, Time, store};
use crate::base::ids::SubscriptionId;
use crate::domain::flags;
use crate::domain::flags::model::Flag;
use crate::{Error, Result};

/// Stripe is asked of so many at a time, and given up for this run after so many failures on end.
pub(crate) const ASKED_AT_ONCE: i64 = 500;

pub(crate) const FAILURES_ON_END: u32 = 5;

/// Shares of a run's time that parts take at most, so that the ones after them are not starved.
pub(crate) const ASKING_SHARE: u32 = 3;

impl Renewal {
    /// Has Stripe's word applied where it is overdue. Those of which it was are returned; of the
    /// others nothing is decided in this run.
    pub(super) async fn ask_stripe(
        &self,
        now: Timestamp,
        time: Time,
        summary: &mut Summary,
    ) -> Vec<SubscriptionId> {
        let time = time.part(ASKING_SHARE);
        let (mut asked, mut after, mut failures) = (Vec::new(), Position::None, 0);
        loop {
            let page = self.to_ask(now, &after).await;
            let Some(page) = summary.note("asking", page).filter(|page| !page.is_empty()) else {
                return asked;
            };
            for overdue in page {
                after = Some((overdue.at, overdue.id.clone()));
                if time.is_up() || failures == FAILURES_ON_END {
                    summary.unreachable += 1;
                    continue;
                }
                let answer = self.ask(&overdue, now).await;
                failures =
                    if answer.as_ref().is_err_and(Error::is_transient) { failures + 1 } else { 0 };
                match answer {
                    Ok(()) => asked.push(overdue.id),
                    Err(error) => {
                        summary.unreachable += 1;
                        tracing::warn!(subscription.id = %overdue.id, code = error.code(), %error,
                        "Stripe could not be asked: it stays as it is");
                    }
                }
                summary.asked += 1;
            }
        }
    }

    pub(super) async fn to_ask(&self, now: Timestamp, after: &Position) -> Result<Vec<Overdue>> {
        store::to_ask(&self.connection().await?, now, after, ASKED_AT_ONCE).await
    }

    /// A refusal is for a person: a wrong key or account must not look like a subscription that has
    /// ended.
    pub(super) async fn ask(
        &self,
        Overdue { id, tenant, stripe, .. }: &Overdue,
        now: Timestamp,
    ) -> Result<()> {
        let Err(error) = self.applier.catch_up(stripe).await else { return Ok(()) };
        if !error.is_transient() {
            let mut db = self.connection().await?;
            let tx = db.transaction().await?;
            let detail =
                format!("{id} is past its end, and Stripe could not be asked of it: {error}");
            let flag = Flag {
                kind: "stripe_not_asked",
                tenant: Some(tenant),
                subscription: Some(id),
                stripe_event: None,
                detail,
            };
            flags::store::raise_while_open(&tx, &flag, now).await?;
            tx.commit().await?;
        }
        Err(error)
    }
}
