//! What an event is about: its type at Stripe, read once.

/// An event's type, as far as it decides what is done (docs/events.md, "Outcomes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A checkout session.
    Checkout(CheckoutEvent),
    /// A subscription: its present state is synced.
    Subscription,
    /// An invoice: the state of its subscription is synced.
    Invoice(InvoiceEvent),
    /// A customer, or a payment of theirs.
    Notice(Notice),
    /// Nothing that concerns us.
    Other,
}

/// What happened to a checkout session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutEvent {
    /// The customer is through; an asynchronous payment may be on its way.
    Completed,
    /// An asynchronous payment came.
    PaymentSucceeded,
    /// An asynchronous payment failed.
    PaymentFailed,
    /// Nobody paid in time.
    Expired,
}

/// What happened to an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceEvent {
    /// It was paid.
    Paid,
    /// The customer must confirm the payment.
    ActionRequired,
    /// Stripe could not finalize it.
    FinalizationFailed,
    /// Anything that the subscription's state says as well.
    Other,
}

/// What happened to a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A payment was refunded.
    Refunded,
    /// A payment is disputed.
    Disputed,
    /// A dispute is over.
    DisputeClosed,
    /// The customer's own data changed.
    CustomerUpdated,
    /// The customer was deleted at Stripe.
    CustomerDeleted,
}

/// What the endpoint is registered for at Stripe, and what a backfill lists: at most 20, which
/// Stripe's list takes at once.
const ENDPOINT: [(&str, EventKind); 20] = [
    ("checkout.session.completed", EventKind::Checkout(CheckoutEvent::Completed)),
    (
        "checkout.session.async_payment_succeeded",
        EventKind::Checkout(CheckoutEvent::PaymentSucceeded),
    ),
    ("checkout.session.async_payment_failed", EventKind::Checkout(CheckoutEvent::PaymentFailed)),
    ("checkout.session.expired", EventKind::Checkout(CheckoutEvent::Expired)),
    ("customer.subscription.created", EventKind::Subscription),
    ("customer.subscription.updated", EventKind::Subscription),
    ("customer.subscription.deleted", EventKind::Subscription),
    ("customer.subscription.paused", EventKind::Subscription),
    ("customer.subscription.resumed", EventKind::Subscription),
    ("customer.updated", EventKind::Notice(Notice::CustomerUpdated)),
    ("customer.deleted", EventKind::Notice(Notice::CustomerDeleted)),
    ("invoice.paid", EventKind::Invoice(InvoiceEvent::Paid)),
    ("invoice.payment_failed", EventKind::Invoice(InvoiceEvent::Other)),
    ("invoice.payment_action_required", EventKind::Invoice(InvoiceEvent::ActionRequired)),
    ("invoice.finalization_failed", EventKind::Invoice(InvoiceEvent::FinalizationFailed)),
    ("invoice.voided", EventKind::Invoice(InvoiceEvent::Other)),
    ("invoice.marked_uncollectible", EventKind::Invoice(InvoiceEvent::Other)),
    ("charge.refunded", EventKind::Notice(Notice::Refunded)),
    ("charge.dispute.created", EventKind::Notice(Notice::Disputed)),
    ("charge.dispute.closed", EventKind::Notice(Notice::DisputeClosed)),
];

/// The types of the endpoint, as Stripe spells them.
#[must_use]
pub fn endpoint_types() -> [&'static str; ENDPOINT.len()] {
    ENDPOINT.map(|(name, _)| name)
}

impl EventKind {
    /// Reads a type. One that the endpoint is not registered for may come all the same, and is
    /// known by what it begins with.
    #[must_use]
    pub fn parse(event_type: &str) -> Self {
        match ENDPOINT.iter().find(|(name, _)| *name == event_type) {
            Some((_, kind)) => *kind,
            None if event_type.starts_with("customer.subscription.") => Self::Subscription,
            None if event_type.starts_with("invoice.") => Self::Invoice(InvoiceEvent::Other),
            None => Self::Other,
        }
    }
}
