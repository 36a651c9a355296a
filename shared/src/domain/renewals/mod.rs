//! The hourly run: notices before a term ends, what becomes of terms and graces that have ended,
//! and what keeps all of it true (docs/renewals.md).
//!
//! Everything that is due stands in the data: a run that dies leaves the rest to the next, and two
//! runs at once share the work. Chunks are transactions of their own, with the change, its audit
//! row and its mail.

pub mod model;
pub mod operator;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use self::model::{Forecast, ForecastFilter};
use self::store::{Counts, Part, Position, ToAsk};
use crate::base::caller::Person;
use crate::base::ids::{StripeSubscriptionId, SubscriptionId, TenantId};
use crate::base::paging::{Page, Slice};
use crate::db::{Db, in_chunks};
use crate::domain::allocations::comparison::Counted;
use crate::domain::audit::AUDIT_MONTHS_AHEAD;
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::events::backfill::Backfiller;
use crate::domain::events::{Applier, Compared};
use crate::domain::families::subscription::{Status, Subscription};
use crate::domain::flags::model::Flag;
use crate::domain::invariants::model::Invariant;
use crate::domain::mails::model::{Digest, MailKind, Notice};
use crate::domain::{allocations, audit, events, flags, idempotency, invariants, outbox};
use crate::outside::queue::Queue;
use crate::process::metrics;
use crate::process::metrics::Unit;
use crate::{Error, Result};

/// How many subscriptions one transaction changes.
const CHUNK: i64 = 2_000;

/// How many changes a dry run lists; all are counted.
const LISTED: usize = 1_000;

/// Stripe is asked of so many at a time, and given up for this run after so many failures on end.
const ASKED_AT_ONCE: i64 = 500;
const FAILURES_ON_END: u32 = 5;

/// Shares of a run's time that parts take at most, so that the ones after them are not starved.
const ASKING_SHARE: u32 = 3;
const SLICE_SHARE: u32 = 8;

/// How far back a run looks for events that never came. Hourly runs overlap four times.
const BACKFILL: SignedDuration = SignedDuration::from_hours(4);

/// How long an event may be under way before it is missed.
const UNDER_WAY: SignedDuration = SignedDuration::from_mins(2);

/// When, after midnight UTC, the day's digest is due.
const DIGEST_AT: SignedDuration = SignedDuration::from_hours(6);

/// What the run needs.
pub struct Renewal {
    /// The database as `pulse_system`, Stripe and the time.
    pub applier: Applier,
    /// The FIFO queue of events.
    pub queue: Queue,
    /// Whether nothing here is real, so that a run may write as if it were another hour.
    pub may_rehearse: bool,
}

/// What a run is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Changes nothing.
    pub dry_run: bool,
    /// As if it were this instant.
    pub as_of: Option<Timestamp>,
    /// By whom; none: the schedule.
    pub requested_by: Option<String>,
}

/// What a run did, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Summary {
    /// Its row; none of a dry run.
    pub run_id: Option<i64>,
    /// Whether it changed nothing.
    pub dry_run: bool,
    /// The instant that it decided by.
    pub as_of: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// Mails that it left, by kind.
    pub notices: BTreeMap<&'static str, u64>,
    /// Subscriptions that it changed, by their new status.
    pub changes: BTreeMap<&'static str, u64>,
    /// Whether so many were due that a person must say so first.
    pub breaker: Option<Breaker>,
    /// Of which Stripe was asked.
    pub asked: u32,
    /// Of which Stripe could not be asked: they stay as they are.
    pub unreachable: u32,
    /// Counts against the devices.
    pub counts: Counted,
    /// Answers to repeated requests that were deleted, and old events whose payload was dropped.
    pub tidied: u64,
    /// Stripe's list against ours.
    pub drift: Compared,
    /// Events that never came, and are on the queue now.
    pub backfilled: usize,
    /// What must never be, and how often it is; the counts as they were before they were
    /// corrected.
    pub broken: BTreeMap<&'static str, i64>,
    /// What is due and was not done: held by others at that moment, over the time, or before the
    /// breaker.
    pub left: Left,
    /// What went wrong, by part; the others went on.
    pub errors: BTreeMap<&'static str, String>,
    /// Of a dry run: the first thousand changes that a run would make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub announced: Vec<Announced>,
}

/// Why a run did not take access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Breaker {
    /// How many would get grace, or lose access, with those of the last day.
    pub due: i64,
    /// Of so many that have access, or more.
    pub live: i64,
    /// What an operator's word still allows.
    pub approved: i64,
}

/// What a run left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Left {
    /// Changes.
    #[serde(flatten)]
    pub changes: Counts,
    /// Subscriptions whose notices are to be looked at.
    pub notices: i64,
}

/// A change that a run would make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Announced {
    /// Which.
    pub subscription_id: SubscriptionId,
    /// Whose.
    pub tenant_id: TenantId,
    /// What it would become.
    pub status: Status,
    /// Up to when it would have access.
    pub grace_end: Option<Timestamp>,
}

/// How long a run may go on.
#[derive(Clone, Copy)]
struct Time {
    began: Instant,
    budget: Duration,
}

impl Time {
    fn left(self) -> Duration {
        self.budget.saturating_sub(self.began.elapsed())
    }

    fn is_up(self) -> bool {
        self.left().is_zero()
    }

    /// A part of the whole, if so much is left.
    fn share(self, of: u32) -> Duration {
        (self.budget / of).min(self.left())
    }

    /// That part, from now on.
    fn part(self, of: u32) -> Self {
        Self { began: Instant::now(), budget: self.share(of) }
    }
}

impl Renewal {
    /// Does what is due, for about `budget`; the rest is for the next run. A part that fails does
    /// not keep the others from their work.
    ///
    /// # Errors
    /// `Invalid` (`as_of`) where a run would write as if it were another hour than it is;
    /// `Database` where the run cannot be noted.
    pub async fn run(&self, asked: &Asked, budget: Duration) -> Result<Summary> {
        let time = Time { began: Instant::now(), budget };
        let started = self.applier.clock.now();
        let now = asked.as_of.unwrap_or(started);
        if asked.dry_run {
            return dry_run(&self.applier.db, now).await;
        }
        if asked.as_of.is_some() && !self.may_rehearse {
            return Err(Error::invalid(
                "as_of",
                "needs dry_run: this deployment is no local or test one",
            ));
        }
        let run = store::begin_run(
            &self.connection().await?,
            started,
            now,
            asked.requested_by.as_deref(),
        )
        .await?;
        let mut summary = Summary { run_id: Some(run), as_of: now, ..Summary::default() };
        let asked = self.ask_stripe(now, time, &mut summary).await;
        let changed = self.change(run, now, &asked, time, &mut summary).await;
        summary.note("changes", changed);
        let noticed = self.notice(now, time, &mut summary).await;
        summary.note("notices", noticed);
        let counted = self.count_devices(now, time).await;
        let counted = summary.note("counts", counted);
        let were_counted = counted.is_some();
        summary.counts = counted.unwrap_or_default();
        let tidied = self.tidy(now, time).await;
        summary.tidied = summary.note("tidying", tidied).unwrap_or_default();
        let found = self.backfill(now, time).await;
        summary.backfilled = summary.note("backfill", found).unwrap_or_default();
        let compared = self.compare(now, time).await;
        summary.drift = summary.note("drift", compared).unwrap_or_default();
        let digest = self.leave_digest(now).await;
        summary.note("digest", digest);
        let broken = invariants::count(&self.applier.db, &summary.counts, now).await;
        let broken = summary.note("invariants", broken).unwrap_or_default();
        // What was not compared is not right either.
        let known = broken.into_iter().filter(|(invariant, _)| {
            were_counted
                || !matches!(invariant, Invariant::SlotsUsedDiffers | Invariant::DeviceCountDiffers)
        });
        summary.broken = known.map(|(invariant, count)| (invariant.as_str(), count)).collect();
        let left = self.left(now).await;
        summary.left = summary.note("left", left).unwrap_or_default();
        summary.duration_ms = u64::try_from(time.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status = if summary.errors.is_empty() && !time.is_up() { "done" } else { "stopped" };
        store::finish_run(
            &self.connection().await?,
            run,
            status,
            &summary,
            self.applier.clock.now(),
        )
        .await?;
        summary.put_metrics();
        Ok(summary)
    }

    async fn connection(&self) -> Result<Object> {
        self.applier.db.connection().await
    }

    /// Has Stripe's word applied where it is overdue. Those of which it was are returned; of the
    /// others nothing is decided in this run.
    async fn ask_stripe(
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

    async fn to_ask(&self, now: Timestamp, after: &Position) -> Result<Vec<ToAsk>> {
        store::to_ask(&self.connection().await?, now, after, ASKED_AT_ONCE).await
    }

    /// A refusal is for a person: a wrong key or account must not look like a subscription that has
    /// ended.
    async fn ask(&self, ToAsk { id, tenant, stripe, .. }: &ToAsk, now: Timestamp) -> Result<()> {
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

    /// Ends terms and graces that have ended, if they are not too many.
    async fn change(
        &self,
        run: i64,
        now: Timestamp,
        asked: &[SubscriptionId],
        time: Time,
        summary: &mut Summary,
    ) -> Result<()> {
        let asked: Vec<&str> = asked.iter().map(SubscriptionId::as_str).collect();
        let judged = judge(&self.connection().await?, now, &asked).await?;
        if let Judged::Stop(breaker) = judged {
            summary.breaker = Some(breaker);
            return self.tell_breaker(breaker, now).await;
        }
        let approval = if let Judged::Approved(id) = judged { Some(id) } else { None };
        for part in Part::ALL {
            let mut after = Position::None;
            while !time.is_up() {
                let chunk = self.change_chunk(run, part, now, &asked, approval, &mut after).await?;
                let Some(changed) = chunk else { break };
                for subscription in changed {
                    *summary.changes.entry(subscription.status.as_str()).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// None after the last.
    async fn change_chunk(
        &self,
        run: i64,
        part: Part,
        now: Timestamp,
        asked: &[&str],
        approval: Option<i64>,
        after: &mut Position,
    ) -> Result<Option<Vec<Subscription>>> {
        let mut db = self.connection().await?;
        let tx = db.transaction().await?;
        let chunk = store::due(&tx, part, now, asked, after, CHUNK, true).await?;
        let Some(last) = chunk.last() else { return Ok(None) };
        *after = Some(store::position(part, last));
        let changed: Vec<(&Subscription, Subscription)> = chunk
            .iter()
            .filter_map(|before| {
                Some((
                    before,
                    model::due(before, now, asked.contains(&before.subscription_id.as_str()))?,
                ))
            })
            .collect();
        let counted = i64::try_from(changed.len()).unwrap_or(i64::MAX);
        if !store::count(&tx, run, approval, counted).await? {
            return Err(Error::conflict(
                "breaker_open",
                "The operator's word goes no further: the next run asks for another",
            ));
        }
        let entries: Vec<Entry<'_>> =
            changed.iter().map(|(before, after)| entry(before, after, now)).collect();
        let mails = changed.iter().map(|(before, after)| {
            let (_, kind, at) = model::told(before, after);
            mail(after, kind, at)
        });
        outbox::store::insert_mails(&tx, mails.collect(), now).await?;
        audit::store::insert_all(&tx, &entries, now).await?;
        let after: Vec<Subscription> = changed.into_iter().map(|(_, after)| after).collect();
        store::save_changes(&tx, &after, now).await?;
        tx.commit().await?;
        Ok(Some(after))
    }

    async fn tell_breaker(
        &self,
        Breaker { due, live, approved }: Breaker,
        now: Timestamp,
    ) -> Result<()> {
        let mut db = self.connection().await?;
        let tx = db.transaction().await?;
        let detail = "So many subscriptions would get grace or lose access within a day that the \
                      hourly run waits for an operator's word"
            .to_owned();
        flags::store::raise_while_open(
            &tx,
            &Flag {
                kind: "renewal_breaker",
                tenant: None,
                subscription: None,
                stripe_event: None,
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

    /// Leaves the mails before terms end, each once, and notes when to look again.
    async fn notice(&self, now: Timestamp, time: Time, summary: &mut Summary) -> Result<()> {
        while !time.is_up() {
            let mut db = self.connection().await?;
            let tx = db.transaction().await?;
            let chunk = store::unnoticed(&tx, now, CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            let looks: Vec<_> = chunk
                .iter()
                .map(|subscription| (subscription, model::look(subscription, now)))
                .collect();
            let mails = looks.iter().filter_map(|(subscription, look)| {
                Some(mail(subscription, look.notice?, subscription.term_end))
            });
            for kind in outbox::store::insert_mails(&tx, mails.collect(), now).await? {
                *summary.notices.entry(kind.as_str()).or_default() += 1;
            }
            let next: Vec<_> = looks
                .iter()
                .map(|(subscription, look)| (&subscription.subscription_id, look.next))
                .collect();
            store::save_looks(&tx, &next).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Compares the next slice of counts with the devices, and corrects them.
    async fn count_devices(&self, now: Timestamp, time: Time) -> Result<Counted> {
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
    async fn tidy(&self, now: Timestamp, time: Time) -> Result<u64> {
        audit::store::ensure_partitions(&self.connection().await?, AUDIT_MONTHS_AHEAD).await?;
        let db = &self.applier.db;
        let answers =
            in_chunks(time.share(SLICE_SHARE), || idempotency::delete_expired(db, now)).await?;
        Ok(answers
            + in_chunks(time.share(SLICE_SHARE), || events::tidying::drop_payloads(db, now))
                .await?)
    }

    /// Queues what Stripe lists of the last hours and was never received.
    async fn backfill(&self, now: Timestamp, time: Time) -> Result<usize> {
        let Applier { db, stripe, reads_per_second, .. } = &self.applier;
        let backfiller =
            Backfiller { db, queue: &self.queue, stripe, reads_per_second: *reads_per_second };
        let done = backfiller
            .run((now - BACKFILL, now - UNDER_WAY), None, time.share(SLICE_SHARE))
            .await?;
        if done.enqueued > 0 {
            tracing::warn!(
                events = done.enqueued,
                "Stripe lists events that never came: they are on the queue now"
            );
        }
        Ok(done.enqueued)
    }

    /// Compares the next slice of Stripe's list with ours.
    async fn compare(&self, now: Timestamp, time: Time) -> Result<Compared> {
        let time = time.part(SLICE_SHARE);
        let position = store::cursor(&self.connection().await?, "drift").await?;
        let mut slice = Compared {
            next: position.as_deref().map(StripeSubscriptionId::parse).transpose()?,
            ..Compared::default()
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
            slice = Compared {
                compared: slice.compared + page.compared,
                repaired: slice.repaired + page.repaired,
                failed: slice.failed + page.failed,
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
    async fn leave_digest(&self, now: Timestamp) -> Result<()> {
        let day = SignedDuration::from_hours(24);
        let since = now - DIGEST_AT;
        let to = now
            - SignedDuration::from_secs(since.as_second().rem_euclid(day.as_secs()))
            - SignedDuration::from_nanos(since.subsec_nanosecond().into());
        let (key, payload) = Digest { from: to - day, to }.step();
        let mut db = self.connection().await?;
        let tx = db.transaction().await?;
        outbox::store::insert_mails(&tx, vec![(None, key, payload)], now).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn left(&self, now: Timestamp) -> Result<Left> {
        let db = self.connection().await?;
        Ok(Left {
            changes: store::count_due(&db, now, &[]).await?,
            notices: store::count_unnoticed(&db, now).await?,
        })
    }
}

impl Summary {
    /// What alarms look at (docs/deploy.md, "Alarms").
    fn put_metrics(&self) {
        metrics::put_all(&[
            ("RenewalRuns", Unit::Count, 1),
            (
                "RenewalDuration",
                Unit::Milliseconds,
                i64::try_from(self.duration_ms).unwrap_or(i64::MAX),
            ),
            ("RenewalBreakerOpen", Unit::Count, self.breaker.is_some().into()),
            ("RenewalUnreachable", Unit::Count, self.unreachable.into()),
            (
                "RenewalPartsFailed",
                Unit::Count,
                i64::try_from(self.errors.len()).unwrap_or(i64::MAX),
            ),
            ("RenewalLeft", Unit::Count, self.left.changes.all().saturating_add(self.left.notices)),
            (
                "RenewalCorrections",
                Unit::Count,
                self.counts.corrected.saturating_add(self.drift.repaired.into()),
            ),
            ("InvariantsBroken", Unit::Count, self.broken.values().sum()),
        ]);
    }

    /// What a part came to; its error is kept, and the run goes on.
    fn note<T>(&mut self, part: &'static str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(part, code = error.code(), %error, "a part of the run failed");
                self.errors.insert(part, error.to_string());
                None
            }
        }
    }
}

/// Whether the changes that are due may be made.
enum Judged {
    Free,
    /// By an operator's word.
    Approved(i64),
    Stop(Breaker),
}

/// Over all that is due and what the last day's runs did, before the first change.
async fn judge(db: &Object, now: Timestamp, asked: &[&str]) -> Result<Judged> {
    let due = store::count_due(db, now, asked).await?.all();
    if due == 0 {
        return Ok(Judged::Free);
    }
    let with_before = due + store::counted_lately(db, now).await?;
    // Whether there are more of them than this makes no difference.
    let live = store::count_live(db, with_before * 20).await?;
    if !model::is_too_many(with_before, live) {
        return Ok(Judged::Free);
    }
    match store::approval(db, now).await? {
        Some(approval) if approval.left >= due => Ok(Judged::Approved(approval.id)),
        approval => Ok(Judged::Stop(Breaker {
            due: with_before,
            live,
            approved: approval.map_or(0, |approval| approval.left.max(0)),
        })),
    }
}

fn entry<'a>(before: &'a Subscription, after: &'a Subscription, now: Timestamp) -> Entry<'a> {
    Entry {
        tenant: Some(&after.tenant_id),
        subscription: Some(&after.subscription_id),
        previous_state: Some(json!(before)),
        new_state: Some(json!(after)),
        ..Entry::new(model::told(before, after).0, Actor::Renewal, now)
    }
}

/// A mail about a subscription, as a step.
fn mail(
    subscription: &Subscription,
    mail: MailKind,
    at: Timestamp,
) -> (Option<&str>, String, Value) {
    let (key, payload) =
        Notice { mail, subscription_id: subscription.subscription_id.clone(), at }.step();
    (Some(subscription.tenant_id.as_str()), key, payload)
}

/// Asks for a run, for a person: it begins within seconds.
///
/// # Errors
/// `Database`; `Upstream` of the queue: then it was not asked for, and may be again.
pub async fn request(db: &Db, queue: &Queue, by: &Person, now: Timestamp) -> Result<()> {
    {
        let mut db = db.connection().await?;
        let tx = db.transaction().await?;
        audit::store::insert(&tx, &Entry::new("RENEWAL_RUN_REQUESTED", Actor::Operator(by), now))
            .await?;
        tx.commit().await?;
    }
    queue.request_run(&by.id).await
}

/// What a run at `now` would do, and nothing of it done. Stripe is not asked.
///
/// # Errors
/// `Database`.
pub async fn dry_run(db: &Db, now: Timestamp) -> Result<Summary> {
    let began = Instant::now();
    let db = db.connection().await?;
    let mut summary = Summary { dry_run: true, as_of: now, ..Summary::default() };
    if let Judged::Stop(breaker) = judge(&db, now, &[]).await? {
        summary.breaker = Some(breaker);
    }
    let mut after = Position::None;
    loop {
        let page = store::to_ask(&db, now, &after, ASKED_AT_ONCE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.id.clone()));
        summary.asked += u32::try_from(page.len()).unwrap_or(u32::MAX);
    }
    for part in Part::ALL {
        let mut after = Position::None;
        loop {
            let page = store::due(&db, part, now, &[], &after, CHUNK, false).await?;
            let Some(last) = page.last() else { break };
            after = Some(store::position(part, last));
            for subscription in page.iter().filter_map(|before| model::due(before, now, false)) {
                *summary.changes.entry(subscription.status.as_str()).or_default() += 1;
                if summary.announced.len() < LISTED {
                    let Subscription { subscription_id, tenant_id, status, grace_end, .. } =
                        subscription;
                    summary.announced.push(Announced {
                        subscription_id,
                        tenant_id,
                        status,
                        grace_end,
                    });
                }
            }
        }
    }
    let mut after = String::new();
    loop {
        let page = store::unnoticed_after(&db, now, &after, CHUNK).await?;
        let Some(last) = page.last() else { break };
        after = last.subscription_id.to_string();
        let due = page.iter().filter_map(|subscription| {
            Some((subscription, model::look(subscription, now).notice?))
        });
        let (kinds, keys): (Vec<_>, Vec<_>) = due
            .map(|(subscription, kind)| (kind, mail(subscription, kind, subscription.term_end).1))
            .unzip();
        let left = outbox::store::left_already(&db, &keys).await?;
        for (kind, _) in kinds.iter().zip(&keys).filter(|(_, key)| !left.contains(*key)) {
            *summary.notices.entry(kind.as_str()).or_default() += 1;
        }
    }
    summary.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(summary)
}

/// What will happen by itself, the first first.
///
/// # Errors
/// `Database`.
pub async fn forecast(
    db: &Db,
    filter: &ForecastFilter,
    page: &Page<(Timestamp, SubscriptionId)>,
    now: Timestamp,
) -> Result<Slice<Forecast>> {
    let until =
        now + SignedDuration::from_hours(24 * filter.within_days.map_or(30, |days| days.0.get()));
    let rows = store::forecast(&db.connection().await?, until, page).await?;
    let items = rows
        .into_iter()
        .filter_map(|(subscription, tenant)| Forecast::of(&subscription, tenant, now))
        .collect();
    Ok(page.cut(items, |item: &Forecast| (item.at, item.subscription_id.clone())))
}
