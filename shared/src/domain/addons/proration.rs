//! What slots cost until a term ends: pure, in whole cents (docs/billing.md, "The price of an
//! add-on").

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::domain::prices::model::Interval;

/// A year, for the price of a day; leap years too.
const YEAR_DAYS: i64 = 365;
/// A present period of so many days is a month's. Another one is a trial, or one of a term that
/// began with another period.
const MONTH_DAYS: std::ops::RangeInclusive<i64> = 28..=31;
const DAY_NANOS: i128 = 24 * 60 * 60 * 1_000_000_000;

/// The periods by which a parent is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaidBy {
    /// Stripe, once each interval: its present term is the period that was paid last.
    Stripe(Interval),
    /// Outside Stripe, for its whole term.
    Outside,
}

/// Which price counts, and which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The tier that it is the price of.
    pub interval: Interval,
    /// Days that are paid for, today and the last one included.
    pub remaining_days: i64,
    /// Days that the interval's price is for.
    pub period_days: i64,
}

/// The share of a price that is due from `now` to the end of `term`, `[start, end)`.
///
/// Days are those of the UTC calendar. The one of `now` counts, and so does the one that the term
/// ends in, unless it ends as that begins: from any time on 1 July to the midnight that ends 31
/// December, 184.
#[must_use]
pub fn share(term: (Timestamp, Timestamp), paid_by: PaidBy, now: Timestamp) -> Share {
    let (today, end) = (day(now), day_after(term.1));
    let left = (end - today).max(1);
    match paid_by {
        PaidBy::Stripe(Interval::Year) => Share {
            interval: Interval::Year,
            remaining_days: left.min(YEAR_DAYS),
            period_days: YEAR_DAYS,
        },
        PaidBy::Stripe(Interval::Month) => {
            let period_days = month_days(term);
            Share { interval: Interval::Month, remaining_days: left.min(period_days), period_days }
        }
        PaidBy::Outside => Share {
            interval: Interval::Year,
            remaining_days: (left - leap_days(today, end)).max(1),
            period_days: YEAR_DAYS,
        },
    }
}

/// What a line costs: `slots × slot_price × remaining_days / period_days`, half a cent rounded up.
/// None where that is more than can be counted.
#[must_use]
pub fn line_cents(slots: i64, slot_price_cents: i64, share: &Share) -> Option<i64> {
    let whole = i128::from(slots)
        .checked_mul(i128::from(slot_price_cents))?
        .checked_mul(i128::from(share.remaining_days))?;
    let period = i128::from(share.period_days);
    i64::try_from(whole.checked_mul(2)?.checked_add(period)?.div_euclid(2 * period)).ok()
}

/// The number of the UTC day that holds this instant.
fn day(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond().div_euclid(DAY_NANOS)).unwrap_or(i64::MAX)
}

/// The number of the first day that has nothing of a term that ends at this instant.
fn day_after(end: Timestamp) -> i64 {
    day(end) + i64::from(end.as_nanosecond().rem_euclid(DAY_NANOS) != 0)
}

/// The days of the month that a term's last month is. A term that is no month long ends with one.
fn month_days(term: (Timestamp, Timestamp)) -> i64 {
    let days = day(term.1) - day(term.0);
    if MONTH_DAYS.contains(&days) {
        return days;
    }
    let end = term.1.to_zoned(TimeZone::UTC);
    let start = end.saturating_sub(1.month());
    day(end.timestamp()) - day(start.timestamp())
}

/// How many 29 Februaries lie in `[from, to)`, by days' numbers.
fn leap_days(from: i64, to: i64) -> i64 {
    let year = |number: i64| {
        Timestamp::from_second(number.saturating_mul(24 * 60 * 60))
            .map_or(0, |at| at.to_zoned(TimeZone::UTC).year())
    };
    let leap = (year(from)..=year(to))
        .filter_map(|year| Date::new(year, 2, 29).ok()?.to_zoned(TimeZone::UTC).ok());
    let within = leap.filter(|date| (from..to).contains(&day(date.timestamp())));
    i64::try_from(within.count()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    fn of(start: &str, end: &str, paid_by: PaidBy, now: &str) -> (i64, i64) {
        let share = share((at(start), at(end)), paid_by, at(now));
        (share.remaining_days, share.period_days)
    }

    #[test]
    fn from_1_july_to_31_december_are_184_days_at_any_hour_of_the_first_and_the_last() {
        for now in ["2026-07-01T00:00:00Z", "2026-07-01T09:30:00Z", "2026-07-01T23:59:59.999999Z"] {
            for end in
                ["2027-01-01T00:00:00Z", "2026-12-31T23:59:59Z", "2026-12-31T00:00:00.000001Z"]
            {
                assert_eq!(
                    of("2026-01-01T00:00:00Z", end, PaidBy::Stripe(Interval::Year), now),
                    (184, 365),
                    "{now} {end}"
                );
                assert_eq!(
                    of("2026-01-01T00:00:00Z", end, PaidBy::Outside, now),
                    (184, 365),
                    "{now} {end}"
                );
            }
        }
        assert_eq!(
            of(
                "2026-01-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
                PaidBy::Outside,
                "2026-06-30T23:59:59Z"
            ),
            (185, 365)
        );
        assert_eq!(
            of(
                "2026-01-01T00:00:00Z",
                "2026-12-31T00:00:00Z",
                PaidBy::Outside,
                "2026-07-01T00:00:00Z"
            ),
            (183, 365)
        );
    }

    #[test]
    fn a_month_has_its_own_days_and_never_more_are_left_than_it_has() {
        let month = PaidBy::Stripe(Interval::Month);
        for (start, end, days) in [
            ("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", 28),
            ("2028-02-01T10:00:00Z", "2028-03-01T10:00:00Z", 29),
            ("2026-04-15T00:00:00Z", "2026-05-15T00:00:00Z", 30),
            ("2026-12-31T23:00:00Z", "2027-01-31T23:00:00Z", 31),
        ] {
            assert_eq!(of(start, end, month, start), (days, days), "{start}");
            assert_eq!(of(start, end, month, end), (1, days), "{start}");
        }
        assert_eq!(
            of("2026-04-15T00:00:00Z", "2026-05-15T00:00:00Z", month, "2026-04-30T12:00:00Z"),
            (15, 30)
        );
        // A trial of a week, and a term that has been renewed and still says when it began.
        assert_eq!(
            of("2026-03-24T00:00:00Z", "2026-03-31T00:00:00Z", month, "2026-03-24T00:00:00Z"),
            (7, 31)
        );
        assert_eq!(
            of("2025-01-31T00:00:00Z", "2026-03-31T00:00:00Z", month, "2026-03-30T00:00:00Z"),
            (1, 31)
        );
    }

    #[test]
    fn three_years_outside_stripe_are_three_annual_prices_and_a_leap_day_is_free() {
        let (remaining, period) = of(
            "2026-03-01T00:00:00Z",
            "2029-03-01T00:00:00Z",
            PaidBy::Outside,
            "2026-03-01T08:00:00Z",
        );
        assert_eq!((remaining, period), (3 * 365, 365));
        assert_eq!(
            of(
                "2027-03-01T00:00:00Z",
                "2028-03-01T00:00:00Z",
                PaidBy::Outside,
                "2028-02-29T08:00:00Z"
            ),
            (1, 365),
            "at least one day"
        );
        assert_eq!(
            of(
                "2028-01-01T00:00:00Z",
                "2029-01-01T00:00:00Z",
                PaidBy::Stripe(Interval::Year),
                "2028-01-01T00:00:00Z"
            ),
            (365, 365)
        );
    }

    #[test]
    fn half_a_cent_is_rounded_up_and_what_cannot_be_counted_is_none() {
        let half = Share { interval: Interval::Month, remaining_days: 15, period_days: 30 };
        for (slots, price, cents) in [(1, 1, 1), (1, 2, 1), (1, 3, 2), (3, 1, 2), (1, 0, 0)] {
            assert_eq!(line_cents(slots, price, &half), Some(cents), "{slots} × {price}");
        }
        assert_eq!(line_cents(1, 1, &Share { remaining_days: 14, ..half }), Some(0));
        assert_eq!(line_cents(i64::MAX, i64::MAX, &half), None);
    }

    /// Whether a year has a 29 February, by the rule and not by the library.
    fn leap(year: i64) -> bool {
        (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
    }

    /// Every day from that of `now` to that in which the term ends, one by one, by year, month and
    /// day.
    fn counted(now: Timestamp, end: Timestamp, skip_leap: bool) -> i128 {
        let (first, last) = (
            now.to_zoned(TimeZone::UTC),
            (end - jiff::SignedDuration::from_micros(1)).to_zoned(TimeZone::UTC),
        );
        let (mut year, mut month, mut day) =
            (i64::from(first.year()), i64::from(first.month()), i64::from(first.day()));
        let until = (i64::from(last.year()), i64::from(last.month()), i64::from(last.day()));
        let mut days = 0;
        while (year, month, day) <= until {
            days += i128::from(!(skip_leap && month == 2 && day == 29));
            let length = match month {
                2 => 28 + i64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        days.max(1)
    }

    /// The nearest whole number to `numerator / denominator`, by its distance to both neighbours;
    /// of two that are equally near, the larger.
    fn nearest(numerator: i128, denominator: i128) -> i128 {
        let floor = numerator / denominator;
        let (below, above) =
            (numerator - floor * denominator, (floor + 1) * denominator - numerator);
        if above <= below { floor + 1 } else { floor }
    }

    proptest! {
        #[test]
        fn the_price_is_what_exact_fractions_make_it(
            start in 946_684_800_i64..2_500_000_000, length in 1_i64..1_200,
            micros in 0_i64..86_400_000_000,
            position in 0_i64..=2, slots in prop::sample::select(vec![1_i64, 2, 5, 50, 100_000]),
            price in 0_i64..1_000_000, outside in any::<bool>(),
        ) {
            let start = Timestamp::from_second(start).expect("an instant");
            let end = start
                + jiff::SignedDuration::from_hours(24 * length)
                + jiff::SignedDuration::from_micros(micros);
            // The first day, the middle, and the last.
            let now = [start, start + jiff::SignedDuration::from_hours(12 * length),
                end - jiff::SignedDuration::from_micros(1)][usize::try_from(position).expect(
                    "small")];
            let paid_by = if outside { PaidBy::Outside } else { PaidBy::Stripe(Interval::Year) };
            let days = if outside { counted(now, end, true) } else { counted(now, end,
                false).min(365) };
            let got = line_cents(slots, price, &share((start, end), paid_by, now));
            prop_assert_eq!(got.map(i128::from),
                Some(nearest(i128::from(slots) * i128::from(price) * days, 365)));
        }

        #[test]
        fn a_months_price_is_what_exact_fractions_make_it(
            start in 946_684_800_i64..2_500_000_000, position in 0_i64..=4,
            slots in prop::sample::select(vec![1_i64, 2, 5]), price in 0_i64..100_000,
        ) {
            let start = Timestamp::from_second(start).expect("an instant");
            let end = start.to_zoned(TimeZone::UTC).saturating_add(1.month()).timestamp();
            let length = end.as_microsecond() - start.as_microsecond();
            let now = start + jiff::SignedDuration::from_micros((length - 1) * position / 4);
            let period = i128::from((end.as_second() - start.as_second()) / 86_400);
            let days = counted(now, end, false).min(period);
            let got = line_cents(slots, price,
                &share((start, end), PaidBy::Stripe(Interval::Month), now));
            prop_assert_eq!(got.map(i128::from),
                Some(nearest(i128::from(slots) * i128::from(price) * days, period)));
            prop_assert!(position != 0 || got == slots.checked_mul(price),
            "the whole price on the first day");
        }
    }
}
