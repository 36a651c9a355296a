//! What keeps the data true: counts, drift, missed events, old rows, and the operators' digest.

use jiff::{SignedDuration, Timestamp};

use super::model::Remaining;
use super::{Renewal, Run, store};
use crate::Result;
use crate::base::ids::{StripeSubscriptionId, SubscriptionId};
use crate::db::in_chunks;
use crate::domain::allocations::model::CountCheck;
use crate::domain::audit::AUDIT_MONTHS_AHEAD;
use crate::domain::events::backfill::Backfiller;
use crate::domain::events::{Applier, DriftPage};
use crate::domain::mails::model::Digest;
use crate::domain::outbox::model::MailStep;
use crate::domain::{allocations, audit, events, idempotency, outbox};

pub(crate) const SLICE_SHARE: u32 = 8;

/// How far back a run looks for events that never came. Hourly runs overlap four times.
pub(crate) const BACKFILL: SignedDuration = SignedDuration::from_hours(4);

/// How long an event may be under way before it is missed.
pub(crate) const UNDER_WAY: SignedDuration = SignedDuration::from_mins(2);

/// How many steps of organizations may be unfinished before a run leaves more. Where Keycloak refuses
/// them all, no more than these fail.
const ORGANIZATIONS: i64 = 200;

/// When, after midnight UTC, the day's digest is due.
pub(crate) const DIGEST_AT: SignedDuration = SignedDuration::from_hours(6);

impl Renewal {
    /// Compares the next slice of counts with the devices, and corrects them.
    pub(super) async fn count_devices(&self, Run { now, time, .. }: Run) -> Result<CountCheck> {
        let position = store::cursor(&self.connection().await?, "counts").await?;
        let after = position.as_deref().map(SubscriptionId::parse).transpose()?;
        let counted =
            allocations::comparison::correct(&self.applier.db, after, time.share(SLICE_SHARE), now)
                .await?;
        store::save_cursor(
            &self.connection().await?,
            "counts",
            counted.next.as_ref().map(SubscriptionId::as_str),
            now,
        )
        .await?;
        Ok(counted)
    }

    /// Drops what is kept no longer, and makes the audit's next months.
    pub(super) async fn tidy(&self, Run { now, time, .. }: Run) -> Result<u64> {
        let connection = self.connection().await?;
        audit::store::ensure_partitions(&connection, AUDIT_MONTHS_AHEAD, now).await?;
        drop(connection);
        let db = &self.applier.db;
        let answers =
            in_chunks(time.share(SLICE_SHARE), || idempotency::delete_expired(db, now)).await?;
        Ok(answers
            + in_chunks(time.share(SLICE_SHARE), || events::tidying::drop_payloads(db, now))
                .await?)
    }

    /// Leaves steps for tenants that are no organizations in Keycloak yet: those from before the
    /// setting was switched on.
    pub(super) async fn leave_organizations(&self, Run { now, .. }: Run) -> Result<u64> {
        if !self.has_organizations {
            return Ok(0);
        }
        let db = self.connection().await?;
        outbox::store::insert_missing_organizations(&db, ORGANIZATIONS, now).await
    }

    /// Queues what Stripe lists of the last hours and was never received.
    pub(super) async fn backfill(&self, Run { now, time, .. }: Run) -> Result<usize> {
        let Applier { db, stripe, reads_per_second, .. } = &self.applier;
        let backfiller =
            Backfiller { db, queue: &self.queue, stripe, reads_per_second: *reads_per_second };
        let done = backfiller
            .run((now - BACKFILL, now - UNDER_WAY), None, time.share(SLICE_SHARE))
            .await?;
        if done.enqueued > 0 {
            tracing::warn!(events = done.enqueued, "missed events of Stripe were queued");
        }
        Ok(done.enqueued)
    }

    /// Compares the next slice of Stripe's list with ours.
    pub(super) async fn compare(&self, Run { now, time, .. }: Run) -> Result<DriftPage> {
        let time = time.part(SLICE_SHARE);
        let position = store::cursor(&self.connection().await?, "drift").await?;
        let mut slice = DriftPage {
            next: position.as_deref().map(StripeSubscriptionId::parse).transpose()?,
            ..DriftPage::default()
        };
        loop {
            let page = match self.applier.compare(slice.next.as_ref()).await {
                Ok(page) => page,
                Err(error) => {
                    if !error.is_transient() {
                        // The one that it began after may be gone.
                        store::save_cursor(&self.connection().await?, "drift", None, now).await?;
                    }
                    return Err(error);
                }
            };
            slice = DriftPage {
                compared: slice.compared + page.compared,
                repaired: slice.repaired + page.repaired,
                failed: slice.failed + page.failed,
                adopted: slice.adopted + page.adopted,
                unknown: slice.unknown + page.unknown,
                next: page.next,
            };
            let position = slice.next.as_ref().map(StripeSubscriptionId::as_str);
            store::save_cursor(&self.connection().await?, "drift", position, now).await?;
            if slice.next.is_none() || time.is_up() {
                return Ok(slice);
            }
        }
    }

    /// Leaves the operators' mail of the day that ended last.
    pub(super) async fn leave_digest(&self, now: Timestamp) -> Result<()> {
        let day = SignedDuration::from_hours(24);
        let since = now - DIGEST_AT;
        let to = now
            - SignedDuration::from_secs(since.as_second().rem_euclid(day.as_secs()))
            - SignedDuration::from_nanos(since.subsec_nanosecond().into());
        let (key, payload) = Digest { from: to - day, to }.step();
        let tx = self.applier.db.begin().await?;
        outbox::store::insert_mails(&tx, vec![MailStep { tenant: None, key, payload }], now)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn left(&self, now: Timestamp) -> Result<Remaining> {
        let db = self.connection().await?;
        Ok(Remaining {
            changes: store::count_due(&db, now, &[]).await?,
            notices: store::count_unnoticed(&db, now).await?,
        })
    }
}
