//! What is secret, from AWS Secrets Manager: one JSON secret a role, read at the start of an
//! instance, and again, at most once a minute, after an authentication or signature failure, so
//! that a rotated value is picked up without a deployment.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::error::DisplayErrorContext;
use serde::Deserialize;

use super::aws::SdkConfig;
use crate::base::error::Service;
use crate::process::config::Env;
use crate::{Error, Result};

/// The owner of a secret. A secret with a database password belongs to a database user as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stripe's signing secrets; no database.
    Webhook,
    /// Customers' routes.
    Customer,
    /// Operators' routes.
    Operator,
    /// Events, outbox and the hourly run.
    System,
    /// Migrations.
    Owner,
}

impl Role {
    /// The last part of the secret's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Customer => "customer",
            Self::Operator => "operator",
            Self::System => "system",
            Self::Owner => "owner",
        }
    }

    /// Its user in the database. The owner's name is a setting, and `webhook` has none.
    #[must_use]
    pub fn database_user(self) -> Option<&'static str> {
        match self {
            Self::Webhook | Self::Owner => None,
            Self::Customer => Some("pulse_app"),
            Self::Operator => Some("pulse_operator"),
            Self::System => Some("pulse_system"),
        }
    }
}

/// The values of one role's secret. No `Debug`: it must not reach a log.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub struct Values {
    database_password: Option<String>,
    stripe_secret_key: Option<String>,
    stripe_webhook_secret: Option<Vec<String>>,
    keycloak_client_secret: Option<String>,
    smtp_password: Option<String>,
}

impl Values {
    fn parse(id: &str, text: &str) -> Result<Self> {
        // serde's message would quote the value.
        serde_json::from_str(text).map_err(|error| {
            Error::Setting(format!(
                "secret {id} is not a JSON object of its documented fields (line {}, column {})",
                error.line(),
                error.column()
            ))
        })
    }
}

/// One role's secret, kept in memory.
pub struct Secrets {
    client: aws_sdk_secretsmanager::Client,
    id: String,
    refresh_after: Duration,
    held: RwLock<(Arc<Values>, Instant)>,
}

impl Secrets {
    /// Reads the secret `{SECRETS_PREFIX}{role}`.
    ///
    /// # Errors
    /// `Setting` where the prefix is missing or the secret is malformed, `Upstream` where it cannot
    /// be read.
    pub async fn read(aws: &SdkConfig, env: &Env, role: Role) -> Result<Arc<Self>> {
        Self::read_with(aws, env, role, Duration::from_mins(1)).await
    }

    /// The same with another shortest time between two reads.
    ///
    /// # Errors
    /// As `read`.
    pub async fn read_with(
        aws: &SdkConfig,
        env: &Env,
        role: Role,
        refresh_after: Duration,
    ) -> Result<Arc<Self>> {
        let client = aws_sdk_secretsmanager::Client::new(aws);
        let id = format!("{}{}", env.required("SECRETS_PREFIX")?, role.name());
        let values = fetch(&client, &id).await?;
        Ok(Arc::new(Self {
            client,
            id,
            refresh_after,
            held: RwLock::new((Arc::new(values), Instant::now())),
        }))
    }

    /// Reads again after a value was refused elsewhere. False where the last read is too recent to
    /// be worth it.
    ///
    /// # Errors
    /// As `read`.
    pub async fn refresh(&self) -> Result<bool> {
        {
            let mut held = self.held.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            if held.1.elapsed() < self.refresh_after {
                return Ok(false);
            }
            // Marked before the read: of many failing requests one asks.
            held.1 = Instant::now();
        }
        let values = fetch(&self.client, &self.id).await?;
        self.held.write().unwrap_or_else(std::sync::PoisonError::into_inner).0 = Arc::new(values);
        tracing::info!(secret.id = self.id, "secret read again");
        Ok(true)
    }

    /// The fields that are there and not filled in yet, as a deployment makes them (docs/deploy.md).
    #[must_use]
    pub fn unfilled(&self) -> Vec<&'static str> {
        let held = self.held.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let empty =
            |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        let values = &held.0;
        [
            (empty(&values.database_password), "DATABASE_PASSWORD"),
            (empty(&values.stripe_secret_key), "STRIPE_SECRET_KEY"),
            (
                values.stripe_webhook_secret.as_ref().is_some_and(Vec::is_empty),
                "STRIPE_WEBHOOK_SECRET",
            ),
            (empty(&values.keycloak_client_secret), "KEYCLOAK_CLIENT_SECRET"),
            (empty(&values.smtp_password), "SMTP_PASSWORD"),
        ]
        .into_iter()
        .filter_map(|(is_empty, name)| is_empty.then_some(name))
        .collect()
    }

    /// Checks a value at the start of an instance. One that is not filled in yet keeps nothing from
    /// starting: it is asked for when it is needed.
    ///
    /// # Errors
    /// `Setting` where it is missing or malformed.
    pub fn check<T>(&self, name: &str, pick: impl Fn(&Self) -> Result<T>) -> Result<()> {
        if self.unfilled().contains(&name) {
            tracing::warn!(secret.id = self.id, secret.field = name, "not filled in yet");
            return Ok(());
        }
        pick(self).map(drop)
    }

    /// A value when it is needed. Where there is none the secret is read again, so that it is found
    /// by instances that are older than it.
    ///
    /// # Errors
    /// `Setting`, and as `read`.
    pub async fn needed<T>(&self, pick: impl Fn(&Self) -> Result<T>) -> Result<T> {
        match pick(self) {
            Err(Error::Setting(_)) if self.refresh().await? => pick(self),
            found => found,
        }
    }

    fn text(&self, name: &str, pick: impl Fn(&Values) -> Option<String>) -> Result<String> {
        let held = self.held.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match pick(&held.0) {
            Some(value) if !value.trim().is_empty() => Ok(value),
            Some(_) => Err(Error::Setting(format!("secret {}: {name} is empty", self.id))),
            None => Err(Error::Setting(format!("secret {}: {name} is missing", self.id))),
        }
    }

    /// `DATABASE_PASSWORD`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn database_password(&self) -> Result<String> {
        self.text("DATABASE_PASSWORD", |v| v.database_password.clone())
    }

    /// `STRIPE_SECRET_KEY`.
    ///
    /// # Errors
    /// `Setting`, also where it is not a secret or restricted key of either mode.
    pub fn stripe_secret_key(&self) -> Result<String> {
        let key = self.text("STRIPE_SECRET_KEY", |v| v.stripe_secret_key.clone())?;
        if ["sk_test_", "sk_live_", "rk_test_", "rk_live_"]
            .iter()
            .any(|prefix| key.starts_with(prefix))
        {
            return Ok(key);
        }
        Err(Error::Setting(format!(
            "secret {}: STRIPE_SECRET_KEY is not a key that starts with sk_ or rk_",
            self.id
        )))
    }

    /// `STRIPE_WEBHOOK_SECRET`: every secret that signs at present, so that they can rotate.
    ///
    /// # Errors
    /// `Setting`, also where the list or one of them is empty: an empty secret would accept
    /// anybody's signature.
    pub fn stripe_webhook_secrets(&self) -> Result<Vec<String>> {
        let held = self.held.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &held.0.stripe_webhook_secret {
            Some(list)
                if !list.is_empty() && list.iter().all(|secret| !secret.trim().is_empty()) =>
            {
                Ok(list.clone())
            }
            Some(_) => {
                Err(Error::Setting(format!("secret {}: STRIPE_WEBHOOK_SECRET is empty", self.id)))
            }
            None => {
                Err(Error::Setting(format!("secret {}: STRIPE_WEBHOOK_SECRET is missing", self.id)))
            }
        }
    }

    /// `KEYCLOAK_CLIENT_SECRET`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn keycloak_client_secret(&self) -> Result<String> {
        self.text("KEYCLOAK_CLIENT_SECRET", |v| v.keycloak_client_secret.clone())
    }

    /// `SMTP_PASSWORD`.
    ///
    /// # Errors
    /// `Setting`.
    pub fn smtp_password(&self) -> Result<String> {
        self.text("SMTP_PASSWORD", |v| v.smtp_password.clone())
    }
}

async fn fetch(client: &aws_sdk_secretsmanager::Client, id: &str) -> Result<Values> {
    let answer = client.get_secret_value().secret_id(id).send().await;
    let answer = answer.map_err(|error| {
        Error::unavailable(
            Service::Secrets,
            format!("secret {id}: {}", DisplayErrorContext(&error)),
        )
    })?;
    let text =
        answer.secret_string().ok_or_else(|| Error::Setting(format!("secret {id} is not text")))?;
    Values::parse(id, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_secret_is_named_and_never_quoted() {
        let error = Values::parse("pulse/webhook", r#"{"STRIPE_WEBHOOK_SECRET": "whsec_hidden"}"#)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains("pulse/webhook") && !error.contains("hidden"), "{error}");
    }
}
