//! What a claimed step does, decoded from its row.

use serde::de::DeserializeOwned;

use crate::base::ids::TenantId;
use crate::domain::mails::model::Mail;
use crate::domain::outbox::model::{
    AddonQuantity, StepKind, StripeCancel, StripeCustomer, StripeSync,
};
use crate::domain::outbox::store::Step;
use crate::outside::keycloak::NewAccount;
use crate::{Error, Result};

/// One variant for each `StepKind`, with everything that the step needs.
#[derive(Debug)]
pub(super) enum Payload {
    NewAccount {
        user: NewAccount,
        tenant: TenantId,
    },
    /// The user is the result of the step before it.
    WelcomeMail {
        user_id: String,
    },
    Organization {
        tenant: TenantId,
    },
    StripeCancel(StripeCancel),
    StripeCustomer {
        change: StripeCustomer,
        tenant: TenantId,
    },
    StripeSync(StripeSync),
    StripeAddonQuantity(AddonQuantity),
    Mail(Mail),
}

impl Payload {
    /// Decodes the payload of a step.
    ///
    /// # Errors
    /// `Internal` where it is not that of the step's kind: the step fails, and the others go on.
    pub(super) fn decode(step: &Step) -> Result<Self> {
        let tenant = || {
            step.tenant.clone().ok_or_else(|| Error::Internal("the step has no tenant".to_owned()))
        };
        Ok(match step.kind {
            StepKind::NewAccount => Self::NewAccount { user: read(step)?, tenant: tenant()? },
            StepKind::Organization => Self::Organization { tenant: tenant()? },
            StepKind::StripeCustomer => {
                Self::StripeCustomer { change: read(step)?, tenant: tenant()? }
            }
            StepKind::WelcomeMail => Self::WelcomeMail {
                user_id: step
                    .before
                    .as_ref()
                    .and_then(|before| before["user_id"].as_str())
                    .ok_or_else(|| {
                        Error::Internal("the step before it has no user in its result".to_owned())
                    })?
                    .to_owned(),
            },
            StepKind::StripeCancel => Self::StripeCancel(read(step)?),
            StepKind::StripeSync => Self::StripeSync(read(step)?),
            StepKind::StripeAddonQuantity => Self::StripeAddonQuantity(read(step)?),
            StepKind::Mail => Self::Mail(Mail::decode(&step.payload)?),
        })
    }
}

fn read<T: DeserializeOwned>(step: &Step) -> Result<T> {
    T::deserialize(&step.payload).map_err(|error| Error::Internal(format!("payload: {error}")))
}
