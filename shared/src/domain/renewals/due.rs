//! Changes and notices that are due, in chunks.

use futures::try_join;
use jiff::Timestamp;
use serde_json::json;

use super::breaker::{Verdict, judge};
use super::store::{DueSet, Position};
use super::summary::Summary;
use super::{Renewal, Run, model, store};
use crate::base::ids::SubscriptionId;
use crate::domain::audit::model::{Actor, Entry};
use crate::domain::families::subscription::Subscription;
use crate::domain::mails::model::{MailKind, Notice};
use crate::domain::outbox::model::MailStep;
use crate::domain::{audit, families, outbox};
use crate::{Error, Result};

/// How many subscriptions one transaction changes.
pub(crate) const CHUNK: i64 = 2_000;

pub(crate) fn entry<'a>(
    before: &'a Subscription,
    after: &'a Subscription,
    now: Timestamp,
) -> Entry<'a> {
    Entry {
        tenant: Some(&after.tenant_id),
        subscription: Some(&after.subscription_id),
        previous_state: Some(json!(before)),
        new_state: Some(json!(after)),
        ..Entry::new(model::describe_change(before, after).0, Actor::Renewal, now)
    }
}

/// A mail about a subscription, as a step.
pub(crate) fn mail(subscription: &Subscription, mail: MailKind, at: Timestamp) -> MailStep<'_> {
    let (key, payload) =
        Notice { mail, subscription_id: subscription.subscription_id.clone(), at }.step();
    MailStep { tenant: Some(&subscription.tenant_id), key, payload }
}

impl Renewal {
    /// Ends terms and graces that have ended, if they are not too many.
    pub(super) async fn change(
        &self,
        run: Run,
        refreshed: &[SubscriptionId],
        summary: &mut Summary,
    ) -> Result<()> {
        let refreshed: Vec<&str> = refreshed.iter().map(SubscriptionId::as_str).collect();
        let approval = match judge(&self.connection().await?, run.now, &refreshed).await? {
            Verdict::Free => None,
            Verdict::Approved(id) => Some(id),
            Verdict::Stop(breaker) => {
                summary.breaker = Some(breaker);
                return self.flag_breaker(breaker, run.now).await;
            }
        };
        for set in DueSet::ALL {
            let mut after = Position::None;
            while !run.time.is_up() {
                let chunk = self.change_chunk(run, set, &refreshed, approval, &mut after).await?;
                let Some(changed) = chunk else { break };
                for subscription in changed {
                    *summary.changes.entry(subscription.status.as_str()).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// Changes the next chunk of a set; none after the last.
    async fn change_chunk(
        &self,
        run: Run,
        set: DueSet,
        refreshed: &[&str],
        approval: Option<i64>,
        after: &mut Position,
    ) -> Result<Option<Vec<Subscription>>> {
        let tx = self.applier.db.begin().await?;
        let now = run.now;
        let chunk = store::due(&tx, set, now, refreshed, after, CHUNK, true).await?;
        let Some(last) = chunk.last() else { return Ok(None) };
        *after = Some(store::position(set, last));
        let changed: Vec<(&Subscription, Subscription)> = chunk
            .iter()
            .filter_map(|before| {
                let is_refreshed = refreshed.contains(&before.subscription_id.as_str());
                Some((before, model::change_due(before, now, is_refreshed)?))
            })
            .collect();
        let counted = i64::try_from(changed.len()).unwrap_or(i64::MAX);
        if !store::count(&tx, run.id, approval, counted).await? {
            return Err(Error::conflict(
                "breaker_open",
                "The operator's word goes no further: the next run asks for another",
            ));
        }
        let entries: Vec<Entry<'_>> =
            changed.iter().map(|(before, after)| entry(before, after, now)).collect();
        let mails = changed.iter().map(|(before, after)| {
            let (_, kind, at) = model::describe_change(before, after);
            mail(after, kind, at)
        });
        let mails = mails.collect();
        audit::store::insert_all(&tx, &entries, now).await?;
        let after: Vec<Subscription> = changed.iter().map(|(_, after)| after.clone()).collect();
        families::rows::save_statuses(&tx, &after, now).await?;
        try_join!(outbox::store::insert_mails(&tx, mails, now), tx.commit())?;
        Ok(Some(after))
    }

    /// Leaves the mails before terms end, each once, and saves when the next is due.
    pub(super) async fn notice(&self, run: Run, summary: &mut Summary) -> Result<()> {
        let now = run.now;
        while !run.time.is_up() {
            let tx = self.applier.db.begin().await?;
            let chunk = store::unnoticed(&tx, now, CHUNK).await?;
            if chunk.is_empty() {
                break;
            }
            let plans: Vec<_> = chunk
                .iter()
                .map(|subscription| (subscription, model::plan_notice(subscription, now)))
                .collect();
            let (kinds, mails): (Vec<MailKind>, Vec<MailStep<'_>>) = plans
                .iter()
                .filter_map(|(subscription, plan)| {
                    let kind = plan.notice?;
                    Some((kind, mail(subscription, kind, subscription.term_end)))
                })
                .unzip();
            let keys: Vec<String> = mails.iter().map(|mail| mail.key.clone()).collect();
            let next: Vec<_> = plans
                .iter()
                .map(|(subscription, plan)| (&subscription.subscription_id, plan.next))
                .collect();
            families::rows::save_notice_times(&tx, &next).await?;
            let (inserted, ()) =
                try_join!(outbox::store::insert_mails(&tx, mails, now), tx.commit())?;
            for (kind, _) in kinds.iter().zip(&keys).filter(|(_, key)| inserted.contains(*key)) {
                *summary.notices.entry(kind.as_str()).or_default() += 1;
            }
        }
        Ok(())
    }
}
