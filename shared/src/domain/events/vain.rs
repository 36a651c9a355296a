//! A checkout that was paid and gives nothing, or something a second time: it is made, because it
//! is paid, and an operator must look (docs/events.md, "First status").

use super::sale::Sale;
use crate::Result;
use crate::base::ids::{SubscriptionId, TenantId};
use crate::domain::families;
use crate::domain::families::subscription::Subscription;
use crate::domain::flags::model::FlagKind;

/// The one that keeps what was bought from giving access, if any: itself, or an ADDON's parent.
pub(super) fn without_access<'a>(
    bought: &'a Subscription,
    parent: Option<&'a Subscription>,
) -> Option<&'a Subscription> {
    [Some(bought), parent].into_iter().flatten().find(|it| !it.status.is_live())
}

impl Sale<'_> {
    /// Flags money that buys nothing: the session's, or `invoice_paid` of an invoice that followed
    /// a trial. `parent` is an ADDON's.
    pub(super) async fn warn_of_vain_payment(
        &self,
        bought: &Subscription,
        invoice_paid: Option<i64>,
        parent: Option<&Subscription>,
    ) -> Result<()> {
        let is_paid = self.is_paid || invoice_paid > Some(0);
        let Some(blocked) = without_access(bought, parent).filter(|_| is_paid) else {
            return Ok(());
        };
        let id = &bought.subscription_id;
        let detail = format!(
            "{id} was paid, and {} is {}: it gives no access",
            blocked.subscription_id,
            blocked.status.as_str()
        );
        self.flag(FlagKind::PaidWithoutAccess, &bought.tenant_id, Some(id), detail).await
    }

    /// Flags a MAIN that is bought while Stripe goes on charging for another one, unless the
    /// company said that it wants both.
    pub(super) async fn warn_of_two(&self, tenant: &TenantId, id: &SubscriptionId) -> Result<()> {
        if self.named("additional").as_deref() == Some("true") {
            return Ok(());
        }
        let others = families::rows::mains_at_stripe(self.tx, tenant).await?;
        let Some(other) = others.iter().find(|other| other.id != *id) else { return Ok(()) };
        let detail = format!(
            "{id} was bought while {} goes on at Stripe ({}): the company is charged for both",
            other.id, other.stripe_status
        );
        self.flag(FlagKind::PaidTwice, tenant, Some(id), detail).await
    }
}
