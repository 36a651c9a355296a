//! The outbox: once its step is committed, it is done at least once, visibly, and by one worker at
//! a time.

use serde_json::{Value, json};
use tests::World;

mod cancellation;
mod claims;
mod organizations;
mod real_keycloak;
mod users;

async fn provisioned(world: &World, company: &str, email: &str) {
    let (_, event) = world.paid_checkout(company, email);
    world.receive(&[&event]).await;
}

fn summary(done: u32, retried: u32, failed: u32) -> Value {
    json!({"done": done, "retried": retried, "failed": failed})
}
