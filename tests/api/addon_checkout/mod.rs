//! `billing`, the route by which customers buy slots, and what a payment of them becomes.

use serde_json::Value;
use tests::World;

mod order;
mod payment;

async fn orders(world: &World) -> Vec<Value> {
    world
        .rows(
            "SELECT status, amount_cents, subscription_id, stripe_checkout_session_id
                FROM addon_orders ORDER BY created_at",
        )
        .await
}
