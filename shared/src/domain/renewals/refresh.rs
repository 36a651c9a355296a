//! Subscriptions whose term or grace has ended are synced with Stripe before anything is decided.

use jiff::Timestamp;

use super::store::{Overdue, Position};
use super::summary::Summary;
use super::{Renewal, Run, store};
use crate::base::ids::SubscriptionId;
use crate::domain::flags;
use crate::domain::flags::model::{Flag, FlagKind};
use crate::{Error, Result};

/// How many are read from the database at a time.
pub(crate) const PAGE: i64 = 500;

/// After so many failures in a row Stripe is given up for this run.
pub(crate) const FAILURES_IN_A_ROW: u32 = 5;

/// The share of a run's time that this takes at most, so that the parts after it are not starved.
pub(crate) const REFRESH_SHARE: u32 = 3;

impl Renewal {
    /// Syncs the subscriptions that are overdue, and returns those that were; of the others nothing
    /// is decided in this run.
    pub(super) async fn refresh_overdue(
        &self,
        run: Run,
        summary: &mut Summary,
    ) -> Vec<SubscriptionId> {
        let (now, time) = (run.now, run.time.part(REFRESH_SHARE));
        let (mut refreshed, mut after, mut failures) = (Vec::new(), Position::None, 0);
        loop {
            let page = self.overdue(now, &after).await;
            let Some(page) = summary.part("asking", page).filter(|page| !page.is_empty()) else {
                return refreshed;
            };
            for overdue in page {
                after = Some((overdue.at, overdue.id.clone()));
                if time.is_up() || failures == FAILURES_IN_A_ROW {
                    summary.unreachable += 1;
                    continue;
                }
                let answer = self.refresh(&overdue, now).await;
                failures =
                    if answer.as_ref().is_err_and(Error::is_transient) { failures + 1 } else { 0 };
                match answer {
                    Ok(()) => refreshed.push(overdue.id),
                    Err(error) => {
                        summary.unreachable += 1;
                        tracing::warn!(subscription.id = %overdue.id, code = error.code(), %error,
                            "an overdue subscription could not be read from Stripe");
                    }
                }
                summary.asked += 1;
            }
        }
    }

    async fn overdue(&self, now: Timestamp, after: &Position) -> Result<Vec<Overdue>> {
        store::overdue(&self.connection().await?, now, after, PAGE).await
    }

    /// A refusal is flagged: a wrong key or account must not look like a subscription that has
    /// ended.
    async fn refresh(
        &self,
        Overdue { id, tenant, stripe, .. }: &Overdue,
        now: Timestamp,
    ) -> Result<()> {
        let Err(error) = self.applier.catch_up(stripe).await else { return Ok(()) };
        if !error.is_transient() {
            let tx = self.applier.db.begin().await?;
            let detail =
                format!("{id} is past its end, and Stripe could not be asked of it: {error}");
            let flag = Flag {
                kind: FlagKind::StripeNotAsked.into(),
                tenant: Some(tenant),
                subscription: Some(id),
                stripe_event: None,
                subject: None,
                detail,
            };
            flags::store::raise_while_open(&tx, &flag, now).await?;
            tx.commit().await?;
        }
        Err(error)
    }
}
