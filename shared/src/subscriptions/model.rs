//! The states of a subscription and the map from Stripe's.

use jiff::{SignedDuration, Timestamp};

use crate::{Error, Result};

/// How long a customer whose payment failed keeps access, from the first unpaid moment.
pub const GRACE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Our status of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the five words of docs/events.md, \"Status\"")]
pub enum Status {
    Trial,
    Active,
    Grace,
    Suspended,
    Expired,
}

impl Status {
    /// As the database and the API spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trial => "TRIAL",
            Self::Active => "ACTIVE",
            Self::Grace => "GRACE",
            Self::Suspended => "SUSPENDED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether it gives access.
    #[must_use]
    pub fn is_live(self) -> bool {
        LIVE.contains(&self)
    }
}

/// The statuses that give access.
pub const LIVE: [Status; 3] = [Status::Trial, Status::Active, Status::Grace];

/// What Stripe's status of a subscription means for one that we do not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStatus {
    /// A row with this status.
    Row(Status),
    /// Its first payment is not made: no row yet.
    NotYet,
}

/// The map of docs/events.md ("Status") for a subscription's first row.
///
/// # Errors
/// `Conflict` (`unknown_stripe_status`): a status that Stripe has added since. Never taken for active.
pub fn first_status(stripe: &str) -> Result<FirstStatus> {
    Ok(FirstStatus::Row(match stripe {
        "active" => Status::Active,
        "trialing" => Status::Trial,
        "past_due" => Status::Grace,
        "unpaid" | "paused" => Status::Suspended,
        "canceled" | "incomplete_expired" => Status::Expired,
        "incomplete" => return Ok(FirstStatus::NotYet),
        other => return Err(Error::conflict("unknown_stripe_status", format!("Stripe subscription status {other:?} is unknown"))),
    }))
}

/// When the grace of a row that begins in `status` ends: a payment that failed did so when the present period began.
#[must_use]
pub fn first_grace_end(status: Status, period_start: Timestamp) -> Option<Timestamp> {
    (status == Status::Grace).then(|| period_start + GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_unknown_status_becomes_active() {
        let table: Vec<String> =
            ["active", "trialing", "past_due", "unpaid", "paused", "canceled", "incomplete_expired", "incomplete", "", "ACTIVE", "brand_new"]
                .into_iter()
                .map(|stripe| match first_status(stripe) {
                    Ok(FirstStatus::Row(status)) => format!("{stripe}: {}", status.as_str()),
                    Ok(FirstStatus::NotYet) => format!("{stripe}: no row"),
                    Err(error) => format!("{stripe}: {}", error.code()),
                })
                .collect();
        assert_eq!(
            table,
            [
                "active: ACTIVE",
                "trialing: TRIAL",
                "past_due: GRACE",
                "unpaid: SUSPENDED",
                "paused: SUSPENDED",
                "canceled: EXPIRED",
                "incomplete_expired: EXPIRED",
                "incomplete: no row",
                ": unknown_stripe_status",
                "ACTIVE: unknown_stripe_status",
                "brand_new: unknown_stripe_status",
            ]
        );
    }

    #[test]
    fn only_grace_has_an_end_and_it_is_14_days_after_the_unpaid_moment() {
        let start: Timestamp = "2026-02-01T00:00:00Z".parse().expect("an instant");
        assert_eq!(first_grace_end(Status::Grace, start).map(|end| end.to_string()).as_deref(), Some("2026-02-15T00:00:00Z"));
        assert_eq!(first_grace_end(Status::Active, start), None);
    }
}
