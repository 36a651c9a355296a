//! The breaker: too many changes at once are an operator's decision.

use deadpool_postgres::Object;
use jiff::Timestamp;

use super::model::Breaker;
use super::{Renewal, model, store};
use crate::Result;
use crate::domain::flags;
use crate::domain::flags::model::{Flag, FlagKind};

/// Whether the changes that are due may be made.
pub(crate) enum Verdict {
    Free,
    /// An operator approved them.
    Approved(i64),
    Stop(Breaker),
}

/// Over all that is due and what the last day's runs did, before the first change.
pub(crate) async fn judge(db: &Object, now: Timestamp, refreshed: &[&str]) -> Result<Verdict> {
    let due = store::count_due(db, now, refreshed).await?.all();
    if due == 0 {
        return Ok(Verdict::Free);
    }
    let with_before = due + store::counted_lately(db, now).await?;
    // Whether there are more of them than this makes no difference.
    let live = store::count_live(db, with_before * 20).await?;
    if !model::is_too_many(with_before, live) {
        return Ok(Verdict::Free);
    }
    match store::approval(db, now).await? {
        Some(approval) if approval.left >= due => Ok(Verdict::Approved(approval.id)),
        approval => Ok(Verdict::Stop(Breaker {
            due: with_before,
            live,
            approved: approval.map_or(0, |approval| approval.left.max(0)),
        })),
    }
}

impl Renewal {
    pub(super) async fn flag_breaker(
        &self,
        Breaker { due, live, approved }: Breaker,
        now: Timestamp,
    ) -> Result<()> {
        let tx = self.applier.db.begin().await?;
        let detail = "So many subscriptions would get grace or lose access within a day that the \
                      hourly run waits for an operator's word"
            .to_owned();
        flags::store::raise_while_open(
            &tx,
            &Flag {
                kind: FlagKind::RenewalBreaker.into(),
                tenant: None,
                subscription: None,
                stripe_event: None,
                subject: None,
                detail,
            },
            now,
        )
        .await?;
        tx.commit().await?;
        tracing::error!(
            due,
            live,
            approved,
            "the breaker is open: nobody gets grace or loses access until an operator says so"
        );
        Ok(())
    }
}
