//! The state of this function.

use axum::extract::FromRef;
use shared::Result;
use shared::base::clock::Clock;
use shared::db::Db;
use shared::http::app::{App, AppState, CustomerApp, OperatorApp};
use shared::process::config::Env;

/// Customers' routes, operators', and other backends'.
#[derive(Clone)]
pub struct DevicesApp {
    /// For most requests.
    pub customer: CustomerApp,
    /// For operators' routes, and for what telemetry says.
    pub operator: OperatorApp,
}

impl AppState for DevicesApp {
    async fn start(env: &Env, clock: Clock) -> Result<Self> {
        let app = App::new(env, clock)?;
        let (customer, operator) =
            tokio::try_join!(CustomerApp::new(app.clone(), env), OperatorApp::new(app, env))?;
        Ok(Self { customer, operator })
    }

    fn app(&self) -> &App {
        self.customer.app()
    }

    fn db(&self) -> &Db {
        self.customer.db()
    }
}

impl FromRef<DevicesApp> for CustomerApp {
    fn from_ref(app: &DevicesApp) -> Self {
        app.customer.clone()
    }
}

impl FromRef<DevicesApp> for OperatorApp {
    fn from_ref(app: &DevicesApp) -> Self {
        app.operator.clone()
    }
}
