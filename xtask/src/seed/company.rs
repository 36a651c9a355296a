//! Demo companies, made up from a number: the same number has the same companies.

use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;

/// How a company buys, and what it does later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By card, each month.
    Card,
    /// By card, each month, in euros.
    Euro,
    /// By bank debit: Stripe knows days later that the money has come.
    Debit,
    /// By wire, outside Stripe, for 90 days, and it pays no second time.
    Wire,
    /// A trial of 14 days, then by card.
    Trial,
    /// Two of its plan.
    Quantity,
    /// More slots beside its plan.
    Addon,
    /// Its card declines some day, and for good.
    Decliner,
    /// Its card declines some day, and is mended.
    Mender,
    /// It cancels some day.
    Quitter,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Card,
        Self::Euro,
        Self::Debit,
        Self::Wire,
        Self::Trial,
        Self::Quantity,
        Self::Addon,
        Self::Decliner,
        Self::Mender,
        Self::Quitter,
    ];
}

/// A company.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Company {
    pub name: String,
    pub kind: Kind,
    pub plan: &'static str,
    pub industry: &'static str,
    pub size: &'static str,
    /// Street, city, state, postal code, country.
    pub address: [&'static str; 5],
    pub first_name: &'static str,
    pub last_name: &'static str,
    pub phone: String,
    /// The day on which it does what its kind does some day.
    pub day: i64,
}

const PLACES: [[&str; 5]; 8] = [
    ["500 E Cesar Chavez St", "Austin", "TX", "78701", "US"],
    ["Storgatan 12", "Umeå", "", "903 26", "SE"],
    ["Hafenstraße 3", "Hamburg", "", "20457", "DE"],
    ["88 King St", "Manchester", "", "M2 4WQ", "GB"],
    ["1 Foundry Way", "Pittsburgh", "PA", "15222", "US"],
    ["Kauppakatu 7", "Oulu", "", "90100", "FI"],
    ["210 Harbour Rd", "Halifax", "NS", "B3J 1A1", "CA"],
    ["Rua do Porto 40", "Aveiro", "", "3800-001", "PT"],
];
const TRADES: [(&str, &str); 8] = [
    ("Castings", "Manufacturing"),
    ("Farm Sensors", "Agriculture"),
    ("Cold Chain", "Logistics"),
    ("Water", "Utilities"),
    ("Robotics", "Manufacturing"),
    ("Greenhouses", "Agriculture"),
    ("Freight", "Logistics"),
    ("Energy", "Utilities"),
];
const NAMES: [(&str, &str); 6] = [
    ("Jane", "Doe"),
    ("Lars", "Nyström"),
    ("Amara", "Okafor"),
    ("Mei", "Tanaka"),
    ("Luis", "Ferreira"),
    ("Ines", "Keller"),
];
const SIZES: [&str; 4] = ["1-10", "11-50", "51-200", "201-500"];

/// The first companies of a world. A larger world of the same seed has them too.
pub(crate) fn companies(world: usize, seed: u64) -> Vec<Company> {
    (0..world).map(|number| company(number, seed)).collect()
}

fn company(number: usize, seed: u64) -> Company {
    let pick = |what: &str, of: usize| {
        let mut hasher = DefaultHasher::new();
        (seed, number, what).hash(&mut hasher);
        usize::try_from(hasher.finish() % u64::try_from(of).unwrap_or(1)).unwrap_or_default()
    };
    let kind = Kind::ALL[number % Kind::ALL.len()];
    // The first two are the ones that a demo shows.
    let (place, trade) = if number < 2 {
        (number, number)
    } else {
        (pick("place", PLACES.len()), pick("trade", TRADES.len()))
    };
    let (address, (trade, industry)) = (PLACES[place], TRADES[trade]);
    let (first_name, last_name) = NAMES[pick("name", NAMES.len())];
    let plan = match (number, kind) {
        (1, _) => "starter",
        // Enterprise has no price in euros.
        (0, _) | (_, Kind::Euro | Kind::Addon) => "pro",
        _ => ["starter", "pro", "starter", "enterprise"][pick("plan", 4)],
    };
    Company {
        name: format!("{} {trade} {seed}-{number:03}", address[1]),
        kind,
        plan,
        industry,
        size: SIZES[pick("size", SIZES.len())],
        address,
        first_name,
        last_name,
        phone: format!("+1-555-{number:04}"),
        day: 40 + i64::try_from(pick("day", 250)).unwrap_or_default(),
    }
}

impl Company {
    /// Its tenant, as the checkout names it after the company.
    pub(crate) fn tenant(&self) -> String {
        let plain = |letter: char| match letter {
            'å' => 'a',
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
            _ => '-',
        };
        self.name.chars().map(plain).collect()
    }

    /// Where its mails go.
    pub(crate) fn email(&self) -> String {
        format!("{}@{}.example", self.first_name.to_lowercase(), self.tenant())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_has_the_same_companies_whatever_the_size_of_the_world() {
        let (small, large) = (companies(12, 7), companies(50, 7));
        assert_eq!(small, large[..12]);
        assert_ne!(small[5], companies(12, 8)[5]);
        let tenants: HashSet<String> = large.iter().map(Company::tenant).collect();
        assert_eq!(tenants.len(), 50, "two companies are one tenant");
        let kinds = |kind| small.iter().any(|company| company.kind == kind);
        assert!(Kind::ALL.into_iter().all(kinds), "{small:?}");
        let shown = |of: &Company| (of.address[1], of.plan, of.industry);
        assert_eq!(shown(&small[0]), ("Austin", "pro", "Manufacturing"));
        assert_eq!(shown(&small[1]), ("Umeå", "starter", "Agriculture"));
    }
}
