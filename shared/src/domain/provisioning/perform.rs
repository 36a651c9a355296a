//! What each kind of step does outside the database.

use serde_json::{Value, json};

use super::payload::Payload;
use super::{Outbox, RECORD_BUDGET};
use crate::base::ids::{SubscriptionId, TenantId};
use crate::domain::audit::model::AuditEvent;
use crate::domain::mails::MailOutcome;
use crate::domain::mails::model::{Mail, MailKind};
use crate::domain::outbox::model::{AddonQuantity, CustomerField, StripeCancel, StripeSync};
use crate::domain::outbox::store;
use crate::domain::outbox::store::Step;
use crate::domain::usage::model::Used;
use crate::domain::{addons, mails, tenants, usage};
use crate::outside::keycloak::{Account, NewAccount, not_to_be_found, user_exists};
use crate::{Error, Result};

/// What a step did, for its row and the audit.
pub(super) struct Effect {
    pub result: Value,
    /// The audit event. Its details are the fields of `result` except `to`: the audit is never
    /// deleted, and must not hold a mail address.
    pub audit: Option<AuditEvent>,
    /// The subscription that it changed.
    pub subscription: Option<SubscriptionId>,
    /// The users whom the tenant has now, of a step that made one.
    pub users: Option<Used>,
}

impl Effect {
    /// An effect that is not audited.
    fn quiet(result: Value) -> Self {
        Self { result, audit: None, subscription: None, users: None }
    }
}

impl Outbox {
    pub(super) async fn perform(&self, step: &Step) -> Result<Effect> {
        match Payload::decode(step)? {
            Payload::NewAccount { user, tenant } => self.create_account(step, &user, &tenant).await,
            Payload::WelcomeMail { user_id } => self.send_welcome_mail(&user_id).await,
            Payload::Organization { tenant } => self.set_organization(step, &tenant).await,
            Payload::StripeCancel(cancel) => self.cancel_at_stripe(cancel).await,
            Payload::StripeCustomer { change, tenant } => {
                self.write_customer(step, &change.fields, &tenant).await
            }
            Payload::StripeSync(sync) => self.sync_with_stripe(&sync).await,
            Payload::StripeAddonQuantity(quantity) => self.set_quantity(step, quantity).await,
            Payload::Mail(mail) => self.send_mail(&mail).await,
        }
    }

    /// Makes the user. One that exists is taken over only if this step began to make it: no such
    /// user was there when it began, and Keycloak has it with this tenant.
    async fn create_account(
        &self,
        step: &Step,
        user: &NewAccount,
        tenant: &TenantId,
    ) -> Result<Effect> {
        let email = user.email.to_lowercase();
        let began = step.began_email.as_deref() == Some(&email);
        let own = |account: Account| account.id_of(tenant).ok_or_else(user_exists);
        let id = match self.keycloak.find(&email).await? {
            Some(account) if began => own(account)?,
            Some(_) => return Err(user_exists()),
            None => {
                self.begin_account(step, &email).await?;
                match self.create_named(user, tenant).await? {
                    Some(id) => id,
                    None => own(self.keycloak.find(&email).await?.ok_or_else(not_to_be_found)?)?,
                }
            }
        };
        self.keycloak.customer(&id, tenant).await?;
        self.keycloak.grant_customer_role(&id).await?;
        Ok(Effect {
            audit: Some(AuditEvent::UserCreated),
            users: Some(usage::count_users(&self.keycloak, tenant, &self.applier.clock).await?),
            ..Effect::quiet(json!({"user_id": id}))
        })
    }

    async fn begin_account(&self, step: &Step, email: &str) -> Result<()> {
        let begin = async {
            let db = self.applier.db.connection().await?;
            store::begin_account(&db, step, email, self.applier.clock.now()).await
        };
        self.applier.db.bounded(RECORD_BUDGET, begin).await
    }

    /// A name that Keycloak refuses costs the name, and not the login.
    async fn create_named(&self, user: &NewAccount, tenant: &TenantId) -> Result<Option<String>> {
        match self.keycloak.create(&user.with_clean_names(), tenant).await {
            Err(Error::Invalid(faults))
                if faults.iter().all(|fault| fault.field.ends_with("_name")) =>
            {
                self.keycloak.create(&user.nameless(), tenant).await
            }
            made => made,
        }
    }

    async fn send_welcome_mail(&self, user_id: &str) -> Result<Effect> {
        self.keycloak.send_welcome_mail(user_id).await?;
        Ok(Effect {
            audit: Some(AuditEvent::WelcomeEmailSent),
            ..Effect::quiet(json!({"user_id": user_id}))
        })
    }

    /// Sets what is true now, so a repetition changes nothing.
    async fn set_organization(&self, step: &Step, tenant: &TenantId) -> Result<Effect> {
        let skipped = |reason| Ok(Effect::quiet(json!({"skipped": reason})));
        if !self.has_organizations {
            return skipped("switched_off");
        }
        let found = tenants::store::find(&self.applier.db.connection().await?, tenant).await?;
        let Some(found) = found.filter(|tenant| !tenant.is_deleted()) else {
            return skipped("tenant_deleted");
        };
        let set = self.keycloak.set_organization(tenant, &found.profile.name).await?;
        // Without the name: this row keeps its result, and a company may have a person's name.
        let result = json!({
            "organization_id": set.id, "tenant_version": found.version, "members": set.members,
        });
        // An attempt that died may have done it, so it counts what was recorded.
        let is_news = step.earlier.as_ref() != Some(&result);
        let audit = is_news.then_some(AuditEvent::KeycloakOrganizationSet);
        Ok(Effect { audit, ..Effect::quiet(result) })
    }

    async fn cancel_at_stripe(&self, cancel: StripeCancel) -> Result<Effect> {
        self.applier.stripe.cancel_subscription(&cancel.stripe_subscription_id).await?;
        Ok(Effect {
            audit: Some(AuditEvent::StripeSubscriptionCancelled),
            subscription: Some(cancel.subscription_id),
            ..Effect::quiet(json!({"status": "canceled"}))
        })
    }

    /// Sets what the profile says now, so a repetition changes nothing.
    async fn write_customer(
        &self,
        step: &Step,
        fields: &[CustomerField],
        tenant: &TenantId,
    ) -> Result<Effect> {
        let tenant = tenants::store::find(&self.applier.db.connection().await?, tenant).await?;
        let Some((customer, profile)) = tenant.and_then(|tenant| {
            tenant.stripe_customer_id.map(|customer| (customer, tenant.profile))
        }) else {
            return Ok(Effect::quiet(json!({"skipped": "not_linked"})));
        };
        let change = tenants::follow::customer_change(&profile, fields);
        let key = format!("stripe_customer:{}:{}", step.id, step.claim);
        self.applier.stripe.update_customer(&customer, &change, &key).await?;
        Ok(Effect {
            audit: Some(AuditEvent::StripeCustomerUpdated),
            ..Effect::quiet(json!({"stripe_customer_id": customer, "fields": fields}))
        })
    }

    /// The sync itself audits what it changes.
    async fn sync_with_stripe(&self, sync: &StripeSync) -> Result<Effect> {
        if !self.applier.catch_up(&sync.stripe_subscription_id).await? {
            return Err(Error::Internal(format!(
                "{} is not one of our subscriptions",
                sync.stripe_subscription_id
            )));
        }
        Ok(Effect::quiet(json!({"status": "applied"})))
    }

    async fn set_quantity(&self, step: &Step, quantity: AddonQuantity) -> Result<Effect> {
        let root = quantity.subscription_id;
        self.applier.pace().await?;
        let key = format!("addon_quantity:{}:{}", step.id, step.claim);
        let done =
            addons::quantity::set(&self.applier.db, &self.applier.stripe, &root, &key).await?;
        Ok(Effect {
            audit: done.is_some().then_some(AuditEvent::StripeAddonQuantitySet),
            subscription: Some(root),
            ..Effect::quiet(done.unwrap_or_else(|| json!({"items": []})))
        })
    }

    async fn send_mail(&self, mail: &Mail) -> Result<Effect> {
        let now = self.applier.clock.now();
        let skipped = |reason| Effect::quiet(json!({"sent": false, "skipped": reason}));
        Ok(match mails::send(&self.applier.db, &self.mailer, mail, now).await? {
            MailOutcome::Sent { message_id, to, about } => {
                let (kind, subscription) = about.unzip();
                let result = json!({
                    "sent": true, "mail": kind.unwrap_or(MailKind::Digest),
                    "message_id": message_id, "to": to,
                });
                let audit = kind.map(|_| AuditEvent::MailSent);
                Effect { audit, subscription, ..Effect::quiet(result) }
            }
            MailOutcome::Overtaken => skipped("overtaken"),
            MailOutcome::NoAddress => skipped("no_address"),
        })
    }
}
