//! The codes that answers have, so that a program can know them all.

use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, schema};

/// Every `code` of a problem (docs/api.md, "Problems"), by the alphabet. `contract::codes` compares
/// it with what the code refuses with; no answer in any test has another.
pub const CODES: &[&str] = &[
    "addon_term",
    "allocation_exists",
    "allocation_not_found",
    "already_subscribed",
    "amount_too_large",
    "amount_too_small",
    "another_tenant",
    "billing_account_gone",
    "billing_email_refused",
    "body_too_large",
    "checkout_under_way",
    "counted_on_parent",
    "customer_of_another_tenant",
    "customer_required",
    "customer_taken",
    "device_ambiguous",
    "device_exists",
    "device_limit_reached",
    "device_not_found",
    "devices_assigned",
    "event_final",
    "feature_not_in_plan",
    "flag_not_found",
    "flag_resolved",
    "internal",
    "invalid",
    "invalid_token",
    "limit_reached",
    "live_subscription",
    "malformed_json",
    "malformed_query",
    "method_not_allowed",
    "missing_token",
    "no_billing_account",
    "no_fields",
    "no_free_slot",
    "no_live_subscription",
    "no_plan",
    "no_plans_price",
    "no_subscription",
    "no_such_route",
    "no_tenant",
    "no_tier_defaults",
    "not_found",
    "operator_admin_required",
    "operator_required",
    "order_expired",
    "parent_ended",
    "parent_not_found",
    "parent_not_live",
    "parent_not_main",
    "parent_of_another_tenant",
    "parent_required",
    "payment_refused",
    "plan_exists",
    "plan_not_found",
    "price_currency",
    "price_not_available",
    "price_taken",
    "renewal_near",
    "request_in_progress",
    "run_not_found",
    "service_required",
    "session_not_found",
    "slots_in_use",
    "step_final",
    "step_not_found",
    "stripe_event_not_found",
    "stripe_managed",
    "stripe_refused",
    "stripe_subscription_ended",
    "stripe_subscription_incomplete",
    "stripe_subscription_known",
    "stripe_subscription_not_found",
    "stripe_subscription_of_addon",
    "stripe_subscription_unpaid",
    "subscription_held",
    "subscription_not_found",
    "subscription_not_live",
    "subscription_of_another_tenant",
    "tenant_deleted",
    "tenant_exists",
    "tenant_not_deleted",
    "tenant_not_found",
    "tenant_unfinished",
    "term_required",
    "tier_exists",
    "tier_not_found",
    "tier_not_in_plan",
    "tier_not_sold",
    "token_expired",
    "two_plans",
    "unavailable",
    "unknown_interval",
    "unknown_stripe_status",
    "unsupported_media_type",
    "upstream",
    "user_disabled",
    "user_exists",
    "user_not_found",
    "version_changed",
];

/// A `code` in the document: one of them.
#[derive(Debug)]
pub struct ProblemCode;

impl utoipa::PartialSchema for ProblemCode {
    fn schema() -> RefOr<Schema> {
        let text = schema::SchemaType::Type(schema::Type::String);
        schema::ObjectBuilder::new()
            .schema_type(text)
            .description(Some("Why a request is refused: stable, for programs."))
            .enum_values(Some(CODES.iter().copied()))
            .into()
    }
}

impl utoipa::ToSchema for ProblemCode {}
