//! Stripe's API: reads of the state that entitlements depend on, checkouts, the billing portal, and
//! changes of subscriptions and their items.
//!
//! Requests, their paths and the pinned API version are async-stripe's; the transport is ours
//! (pooled connections, time-outs, retries, key rotation), and so are the answers' types: only the
//! fields that a rule needs, absent and `null` alike, both payload generations
//! (docs/adr/0003-stripe-reads.md). Nothing here knows the database.

mod client;
mod errors;
mod events;
mod objects;
mod reads;
mod slots;
mod writes;

pub use self::client::Stripe;
pub(crate) use self::errors::unreadable;
pub use self::errors::{KEY_SPENT, SESSION_TOO_SHORT};
pub use self::events::{EventPage, EventQuery};
pub use self::objects::{
    Address, CheckoutSession, CustomerDetails, Invoice, Item, Items, Metadata, Subscription,
    SubscriptionPage,
};
pub use self::slots::NewPayment;
pub(crate) use self::slots::is_known_currency;
pub use self::writes::{AddressChange, CustomerChange, NewCustomer, NewSession, OpenSession};
