//! Who calls, and with what: customers and their values are computed from numbers.

use std::cell::Cell;
use std::fmt::{self, Display, Formatter};

/// Customers in a block of the seeded ledger: families and bridges stay within one.
pub const BLOCK_CUSTOMERS_LEN: u64 = 6_500;

// Values are numbered, and each kind has a range of its own. Phone numbers end at 10^10.
const LIVE: u64 = 2_000_000_000;
const SUPER_NODE: u64 = 3_000_000_000;
const BIG: u64 = 4_000_000_000;

const FIRST: [&str; 8] = ["anna", "ben", "chiara", "elif", "farid", "hiro", "miguel", "priya"];
const LAST: [&str; 8] =
    ["almeida", "baker", "dubois", "eriksen", "garcia", "haddad", "nakamura", "okafor"];
const HOST: [&str; 4] = ["gmail.com", "outlook.com", "yahoo.com", "hillvalley.edu"];

/// The numbers of a customer's email and phone number: of one observation at least one is there.
#[derive(Clone, Copy)]
pub struct Seen {
    pub email: Option<u64>,
    pub phone: Option<u64>,
}

pub struct EmailOf(pub u64);
pub struct PhoneOf(pub u64);

/// The ledger that callers find, and what they do with it.
pub struct Traffic {
    /// Customers that the seeded ledger has.
    seeded_len: u64,
    /// Contacts of the big identity, which 1 % of the requests touch. Zero: there is none.
    big_len: u64,
    pub callers_len: u64,
    next_value: Cell<u64>,
}

/// One connection's memory: it refers to customers that it has made itself, whose requests
/// were answered, and to those that were there before.
pub struct Caller<'a> {
    traffic: &'a Traffic,
    random: fastrand::Rng,
    own: Vec<Seen>,
    made: Option<Seen>,
}

impl Traffic {
    pub fn new(callers_len: u64, seeded_len: u64, big_len: u64) -> Self {
        Self { seeded_len, big_len, callers_len, next_value: Cell::new(LIVE) }
    }

    fn new_value(&self) -> Option<u64> {
        Some(self.next_value.replace(self.next_value.get() + 1))
    }
}

impl<'a> Caller<'a> {
    pub fn new(traffic: &'a Traffic, seed: u64) -> Self {
        Self { traffic, random: fastrand::Rng::with_seed(seed), own: Vec::new(), made: None }
    }

    /// The next request, and whether it touches the big identity. 50 % are new customers,
    /// 30 % bring a known one new information, 20 % bring nothing new.
    pub fn next(&mut self) -> (Seen, bool) {
        if self.traffic.big_len > 0 && self.random.u32(..100) == 0 {
            return (self.big(), true);
        }
        let seen = match (self.random.u32(..100), self.known()) {
            (50..80, Some(known)) => self.news_of(known),
            (80.., Some(known)) => self.nothing_new_of(known),
            (..50, _) | (_, None) => {
                let new = Seen { email: self.traffic.new_value(), phone: self.traffic.new_value() };
                self.made = Some(new);
                new
            }
        };
        (seen, false)
    }

    /// The last request was answered: a customer that it made is known from here on.
    pub fn acknowledged(&mut self) {
        self.own.extend(self.made.take());
    }

    /// Any customer that is known, each as likely as any other: those of all connections
    /// are as many as this one's times the connections.
    fn known(&mut self) -> Option<Seen> {
        let seeded_len = self.traffic.seeded_len;
        let all = seeded_len + self.own.len() as u64 * self.traffic.callers_len;
        if all > 0 && self.random.u64(..all) < seeded_len {
            return Some(seeded(self.random.u64(..seeded_len)));
        }
        self.random.choice(&self.own).copied()
    }

    fn news_of(&mut self, known: Seen) -> Seen {
        let by_email = known.phone.is_none() || known.email.is_some() && self.random.bool();
        if by_email {
            Seen { email: known.email, phone: self.traffic.new_value() }
        } else {
            Seen { email: self.traffic.new_value(), phone: known.phone }
        }
    }

    fn nothing_new_of(&mut self, known: Seen) -> Seen {
        match (known, self.random.u32(..3)) {
            (Seen { email: Some(_), phone: Some(_) }, 0) => Seen { email: None, ..known },
            (Seen { email: Some(_), phone: Some(_) }, 1) => Seen { phone: None, ..known },
            _ => known,
        }
    }

    /// Nine of ten bring nothing new, so that the identity keeps its size.
    fn big(&mut self) -> Seen {
        let is_new = self.random.u32(..10) == 0;
        let known = big(self.random.u64(..self.traffic.big_len));
        if is_new { Seen { email: self.traffic.new_value(), ..known } } else { known }
    }
}

/// A customer of the seeded ledger: one of ten has no phone number, one of twenty no email,
/// one of ten shares a phone number with a relative, one of a hundred a shop's.
pub fn seeded(n: u64) -> Seen {
    let chance = mixed(n);
    let place = n % BLOCK_CUSTOMERS_LEN;
    let relative = n - place.min(1 + (chance >> 8) % 3);
    let all = Seen { email: Some(n), phone: Some(n) };
    match chance % 100 {
        0..10 => Seen { phone: None, ..all },
        10..15 => Seen { email: None, ..all },
        15..25 => Seen { phone: Some(relative), ..all },
        25 => Seen { phone: Some(SUPER_NODE + n / BLOCK_CUSTOMERS_LEN), ..all },
        _ => all,
    }
}

/// A contact of the big identity.
pub fn big(n: u64) -> Seen {
    Seen { email: Some(BIG + n), phone: Some(BIG) }
}

/// Scatters numbers: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Display for EmailOf {
    /// Its number makes it unique, and its name puts it anywhere in an index.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let chance = mixed(self.0) as usize;
        let pick = |shift: usize| chance >> shift;
        let (first, last) = (FIRST[pick(0) % FIRST.len()], LAST[pick(8) % LAST.len()]);
        write!(formatter, "{first}.{last}{}@{}", self.0, HOST[pick(16) % HOST.len()])
    }
}

impl Display for PhoneOf {
    /// Each number below 10^10 has one of its own: the factor has no divisor in common with it.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let digits = u128::from(self.0) * 6_364_136_223 % 10_000_000_000;
        write!(formatter, "+49{digits:010}")
    }
}
