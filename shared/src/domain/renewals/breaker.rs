//! The breaker: too many changes at once are an operator's decision.

use deadpool_postgres::Object;
use futures::try_join;
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

/// What the breaker goes by.
pub(super) struct Numbers {
    /// Changes that are due.
    pub(super) due: i64,
    /// Those that the runs of the last day made.
    pub(super) counted: i64,
    /// Subscriptions with access; whether there are more than counted makes no difference.
    pub(super) live: i64,
}

impl Numbers {
    pub(super) fn is_too_many(&self) -> bool {
        self.due > 0 && model::is_too_many(self.due + self.counted, self.live)
    }
}

pub(super) async fn numbers(db: &Object, now: Timestamp, refreshed: &[&str]) -> Result<Numbers> {
    let (due, counted) =
        try_join!(store::count_due(db, now, refreshed), store::counted_lately(db, now))?;
    let due = due.all();
    let live = store::count_live(db, ((due + counted) * 20).max(1_000)).await?;
    Ok(Numbers { due, counted, live })
}

/// Over all that is due and what the last day's runs did, before the first change.
pub(crate) async fn judge(db: &Object, now: Timestamp, refreshed: &[&str]) -> Result<Verdict> {
    let numbers = numbers(db, now, refreshed).await?;
    if !numbers.is_too_many() {
        return Ok(Verdict::Free);
    }
    let Numbers { due, counted, live } = numbers;
    match store::approval(db, now).await? {
        Some(approval) if approval.left >= due => Ok(Verdict::Approved(approval.id)),
        approval => Ok(Verdict::Stop(Breaker {
            due: due + counted,
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
