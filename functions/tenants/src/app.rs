//! The state of this function.

use std::sync::Arc;

use axum::extract::FromRef;
use shared::Result;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::http::app::{App, AppState, OperatorApp};
use shared::outside::keycloak::Keycloak;
use shared::process::config::{Env, KeycloakSettings};

/// Operators' routes, and Keycloak for the users of tenants.
#[derive(Clone)]
pub struct TenantsApp {
    /// The database.
    pub operator: OperatorApp,
    /// By operators' secret.
    pub keycloak: Arc<Keycloak>,
}

impl TenantsApp {
    /// Reads the settings of Keycloak; connects at the first use.
    ///
    /// # Errors
    /// `Setting`.
    pub fn new(operator: OperatorApp, env: &Env) -> Result<Self> {
        let keycloak = Keycloak::new(KeycloakSettings::from_env(env)?, operator.secrets().clone())?;
        Ok(Self { operator, keycloak: Arc::new(keycloak) })
    }
}

impl AppState for TenantsApp {
    async fn start(env: &Env, clock: Clock) -> Result<Self> {
        Self::new(OperatorApp::start(env, clock).await?, env)
    }

    fn app(&self) -> &App {
        self.operator.app()
    }

    fn db(&self) -> &Db {
        self.operator.db()
    }
}

impl FromRef<TenantsApp> for OperatorApp {
    fn from_ref(app: &TenantsApp) -> Self {
        app.operator.clone()
    }
}
