//! A dry run: what a run would do.

use std::time::Instant;

use jiff::Timestamp;

use super::breaker::{Verdict, judge};
use super::due::{CHUNK, mail};
use super::model::Announced;
use super::refresh::PAGE;
use super::store::{DueSet, Position};
use super::summary::Summary;
use super::{model, store};
use crate::Result;
use crate::db::Db;
use crate::domain::families::subscription::Subscription;
use crate::domain::outbox;

/// How many changes a dry run lists; all are counted.
pub(crate) const LISTED: usize = 1_000;

/// What a run at `now` would do, and nothing of it done. Stripe is not read.
///
/// # Errors
/// `Database`.
pub async fn dry_run(db: &Db, now: Timestamp) -> Result<Summary> {
    let began = Instant::now();
    let db = db.connection().await?;
    let mut summary = Summary { dry_run: true, as_of: now, ..Summary::default() };
    if let Verdict::Stop(breaker) = judge(&db, now, &[]).await? {
        summary.breaker = Some(breaker);
    }
    let mut after = Position::None;
    loop {
        let page = store::overdue(&db, now, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.id.clone()));
        summary.asked += u32::try_from(page.len()).unwrap_or(u32::MAX);
    }
    for part in DueSet::ALL {
        let mut after = Position::None;
        loop {
            let page = store::due(&db, part, now, &[], &after, CHUNK, false).await?;
            let Some(last) = page.last() else { break };
            after = Some(store::position(part, last));
            for subscription in
                page.iter().filter_map(|before| model::change_due(before, now, false))
            {
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
            Some((subscription, model::plan_notice(subscription, now).notice?))
        });
        let (kinds, keys): (Vec<_>, Vec<_>) = due
            .map(|(subscription, kind)| (kind, mail(subscription, kind, subscription.term_end).key))
            .unzip();
        let left = outbox::store::existing_keys(&db, &keys).await?;
        for (kind, _) in kinds.iter().zip(&keys).filter(|(_, key)| !left.contains(*key)) {
            *summary.notices.entry(kind.as_str()).or_default() += 1;
        }
    }
    summary.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(summary)
}
