//! What Stripe lists and was never received here is put on the queue, as if it had been delivered
//! (docs/events.md, "Backfill").

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::kind::endpoint_types;
use super::model::{Backfill, Backfilled, Envelope};
use super::{pace, store};
use crate::Result;
use crate::base::caller::Person;
use crate::base::ids::StripeEventId;
use crate::db::Db;
use crate::domain::audit;
use crate::domain::audit::model::{Actor, AuditEvent, Entry};
use crate::outside::queue::Queue;
use crate::outside::stripe;
use crate::outside::stripe::{EventQuery, Stripe};

/// How long an operator's call begins further pages. API Gateway gives up after 30 seconds, and the
/// last page has `LAST_PAGE` more.
const CALL_BUDGET: Duration = Duration::from_secs(20);

/// How long after its budget the page that was begun last may take. What it had put on the queue by
/// then is there, and harmless.
const LAST_PAGE: Duration = Duration::from_secs(6);

/// What a backfill needs.
pub struct Backfiller<'a> {
    /// Where received events are recorded; as `pulse_operator` or `pulse_system`.
    pub db: &'a Db,
    /// The FIFO queue of events.
    pub queue: &'a Queue,
    /// Where events are listed.
    pub stripe: &'a Stripe,
    /// As the applier's.
    pub reads_per_second: i32,
}

impl Backfiller<'_> {
    /// Does a part of a range for an operator, and records what it put on the queue.
    ///
    /// # Errors
    /// `Invalid`, naming the field; as `run`.
    pub async fn for_operator(
        &self,
        by: &Person,
        asked: &Backfill,
        now: Timestamp,
    ) -> Result<Backfilled> {
        asked.check(now)?;
        let range = (asked.from.get(), asked.to.get());
        let done = self.run(range, asked.cursor.clone(), CALL_BUDGET).await?;
        if done.enqueued > 0 {
            let details = json!({
                "from": range.0, "to": range.1, "cursor": asked.cursor, "received": done.received,
                "enqueued": done.enqueued, "already_known": done.already_known,
                "done": done.done,
            });
            let tx = self.db.begin().await?;
            let entry = Entry {
                details: Some(details),
                ..Entry::new(AuditEvent::StripeBackfill, Actor::Operator(by), now)
            };
            audit::store::insert(&tx, &entry).await?;
            tx.commit().await?;
        }
        Ok(done)
    }

    /// Queues what happened in `[from, to)` at Stripe and is not recorded, from `cursor` on, until
    /// the end or for as long as `budget` lets it begin a page of a hundred. A repetition is
    /// harmless: what is queued twice is applied once.
    ///
    /// # Errors
    /// `Upstream` of Stripe and of the queue, and `Database`, where not even one page was done;
    /// `Invalid` of a cursor that Stripe does not know. After that, what went wrong is left to
    /// the next call.
    pub async fn run(
        &self,
        range: (Timestamp, Timestamp),
        cursor: Option<StripeEventId>,
        budget: Duration,
    ) -> Result<Backfilled> {
        let began = Instant::now();
        let mut so_far = Backfilled { next_cursor: cursor, ..Backfilled::default() };
        loop {
            let left = (budget + LAST_PAGE).saturating_sub(began.elapsed());
            let page =
                match self.db.bounded(left, self.page(range, so_far.next_cursor.as_ref())).await {
                    Err(error) if so_far.received > 0 => {
                        tracing::warn!(%error, received = so_far.received,
                    "a backfill stops before its end");
                        return Ok(so_far);
                    }
                    page => page?,
                };
            so_far = Backfilled {
                received: so_far.received + page.received,
                enqueued: so_far.enqueued + page.enqueued,
                already_known: so_far.already_known + page.already_known,
                ..page
            };
            if so_far.done || began.elapsed() >= budget {
                return Ok(so_far);
            }
        }
    }

    async fn page(
        &self,
        (from, to): (Timestamp, Timestamp),
        after: Option<&StripeEventId>,
    ) -> Result<Backfilled> {
        pace::wait(self.db, self.reads_per_second).await?;
        let page =
            self.stripe.events(&EventQuery { from, to, types: &endpoint_types(), after }).await?;
        let read = |event: &serde_json::Value| {
            let text = event.to_string();
            // Stripe's list: what is wrong with it is not the caller's fault.
            Ok((Envelope::parse(text.as_bytes()).map_err(stripe::unreadable)?, text))
        };
        let events: Vec<(Envelope, String)> = page.data.iter().map(read).collect::<Result<_>>()?;
        let ids: Vec<&str> = events.iter().map(|(event, _)| event.id.as_str()).collect();
        let known = store::known(&self.db.connection().await?, &ids).await?;
        // Stripe lists the latest first. Each page is queued in the order in which it happened;
        // which page comes first does not matter.
        for (event, text) in
            events.iter().rev().filter(|(event, _)| !known.contains(event.id.as_str()))
        {
            self.queue.send(event.message(text)).await?;
        }
        let next_cursor =
            events.last().filter(|_| page.has_more).map(|(event, _)| event.id.clone());
        Ok(Backfilled {
            received: events.len(),
            enqueued: events.len() - known.len(),
            already_known: known.len(),
            done: next_cursor.is_none(),
            next_cursor,
        })
    }
}
