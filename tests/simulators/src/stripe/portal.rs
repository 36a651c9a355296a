//! The billing portal: its configurations, and the sessions that customers open it by.

use serde_json::Value;
use serde_json::json;

use super::Simulator;
use super::objects;
use super::objects::metadata;
use super::objects::ordered;
use super::objects::text;
use super::state::ApiError;
use super::state::Result;
use super::state::State;

/// What a configuration can offer, and the parameters of each.
pub(super) const FEATURES: [(&str, &[&str]); 5] = [
    ("customer_update", &["allowed_updates", "enabled"]),
    ("invoice_history", &["enabled"]),
    ("payment_method_update", &["enabled"]),
    ("subscription_cancel", &["enabled", "mode", "proration_behavior"]),
    ("subscription_update", &["default_allowed_updates", "enabled", "proration_behavior"]),
];

impl Simulator {
    /// Saves the portal's settings, as an operator does once in the Dashboard. Before that, a
    /// session needs a configuration of its own.
    pub fn save_portal_settings(&self) {
        let enabled = json!({ "enabled": "true" });
        let features = json!({
            "invoice_history": enabled, "payment_method_update": enabled,
            "subscription_cancel": enabled,
        });
        self.state(|state| {
            if state.default_configuration().is_none() {
                state.insert_configuration(&json!({ "features": features }), true);
            }
        });
    }
}

impl State {
    fn default_configuration(&self) -> Option<&Value> {
        self.all("billing_portal.configuration").find(|found| found["is_default"] == true)
    }

    pub(super) fn create_configuration(&mut self, params: &Value) -> Result<Value> {
        if params.get("features").is_none() {
            return Err(ApiError::required("features"));
        }
        for (feature, _) in FEATURES {
            let given = &params["features"][feature];
            if !given.is_null() && given.get("enabled").is_none() {
                return Err(ApiError::required(format!("features[{feature}][enabled]")));
            }
        }
        Ok(self.insert_configuration(params, false))
    }

    fn insert_configuration(&mut self, params: &Value, is_default: bool) -> Value {
        let id = self.id("bpc_1", 23);
        let configuration = configuration(&id, self.stamp(), params, is_default);
        self.store(configuration.clone());
        configuration
    }

    pub(super) fn create_portal(&mut self, params: &Value) -> Result<Value> {
        let customer = params["customer"].as_str().ok_or_else(|| ApiError::required("customer"))?;
        self.customer(customer)?;
        let configuration = match params["configuration"].as_str() {
            Some(id) => self.find("billing_portal.configuration", id).ok_or_else(|| {
                ApiError::missing("billing_portal.configuration", id, "configuration")
            })?,
            None => self.default_configuration().ok_or_else(|| self.no_configuration())?,
        };
        let configuration = configuration["id"].clone();
        let id = self.id("bps_1", 23);
        let url = format!("{}pay/portal/{id}", self.base);
        let stamp = self.stamp();
        let session = json!({
            "id": id, "object": "billing_portal.session", "configuration": configuration,
            "created": stamp.created(), "customer": customer, "customer_account": null,
            "flow": null, "livemode": stamp.livemode, "locale": null, "on_behalf_of": null,
            "return_url": params["return_url"], "url": url,
        });
        self.store(session.clone());
        Ok(session)
    }

    fn no_configuration(&self) -> ApiError {
        let (mode, path) = if self.livemode { ("live", "") } else { ("test", "test/") };
        ApiError::invalid(format!(
            "No configuration provided and your {mode} mode default configuration has not been \
             created. Provide a configuration or create your default by saving your customer \
             portal settings in {mode} mode at \
             https://dashboard.stripe.com/{path}settings/billing/portal."
        ))
    }
}

fn configuration(id: &str, stamp: objects::Stamp, params: &Value, is_default: bool) -> Value {
    let features = &params["features"];
    let enabled = |feature: &str| text(&features[feature], "enabled") == "true";
    let list = |value: &Value| -> Vec<Value> {
        ordered(value).into_iter().map(|(_, entry)| entry.clone()).collect()
    };
    let proration = |feature: &str| {
        features[feature]["proration_behavior"].as_str().unwrap_or("none").to_owned()
    };
    json!({
        "id": id, "object": "billing_portal.configuration", "active": true, "application": null,
        "business_profile": {
            "headline": params["business_profile"]["headline"],
            "privacy_policy_url": params["business_profile"]["privacy_policy_url"],
            "terms_of_service_url": params["business_profile"]["terms_of_service_url"],
        },
        "created": stamp.created(), "default_return_url": params["default_return_url"],
        "features": {
            "customer_update": {
                "allowed_updates": list(&features["customer_update"]["allowed_updates"]),
                "enabled": enabled("customer_update"),
            },
            "invoice_history": { "enabled": enabled("invoice_history") },
            "payment_method_update": {
                "enabled": enabled("payment_method_update"), "payment_method_configuration": null,
            },
            "subscription_cancel": {
                "cancellation_reason": {
                    "enabled": false,
                    "options": ["too_expensive", "missing_features", "switched_service", "unused",
                        "other"],
                },
                "enabled": enabled("subscription_cancel"),
                "mode": features["subscription_cancel"]["mode"].as_str().unwrap_or("at_period_end"),
                "proration_behavior": proration("subscription_cancel"),
            },
            "subscription_update": {
                "default_allowed_updates":
                    list(&features["subscription_update"]["default_allowed_updates"]),
                "enabled": enabled("subscription_update"),
                "proration_behavior": proration("subscription_update"),
                "schedule_at_period_end": { "conditions": [] },
                "trial_update_behavior": "end_trial",
            },
        },
        "is_default": is_default, "livemode": stamp.livemode,
        "login_page": { "enabled": false, "url": null }, "metadata": metadata(params),
        "name": params["name"], "updated": stamp.created(),
    })
}
