//! Reads phone numbers by the numbering plans of the world, as crate `phonenumber` has them.
//!
//! Only the plans are the crate's. Its own parser takes the trunk prefix off numbers that are
//! complete without: it makes +7001234567 of the Russian +7 800 123 4567. It also keeps a hundred
//! regular expressions under one lock, and compiles the others anew each time.
//!
//! Promises: no input panics; the number read from an E.164 text is that text.

use phonenumber::metadata::{DATABASE, Descriptor, Metadata};
use regex::{Regex, RegexBuilder};
use std::collections::{BTreeSet, HashMap};
use std::sync::{LazyLock, OnceLock};

const NATIONAL_LEN_MIN: usize = 2;
const NATIONAL_LEN_MAX: usize = 17;
const COUNTRY_CODE_LEN_MAX: usize = 3;

/// The plans by country code, the main region's first: +1 is many regions'.
static PLANS: LazyLock<HashMap<u16, Vec<Plan>>> = LazyLock::new(|| {
    let plans = |code: u16| Some((code, DATABASE.by_code(&code)?));
    let of_code = |(code, plans): (u16, Vec<_>)| (code, plans.into_iter().map(Plan::new).collect());
    (1..1000).filter_map(plans).map(of_code).collect()
});

/// A phone number with its country code.
pub struct Number {
    country_code: u16,
    national: String,
    /// Whether a plan has room for it.
    known: bool,
}

/// How one region numbers its phones.
#[derive(Debug)]
pub struct Plan {
    region: &'static str,
    country_code: u16,
    lens: BTreeSet<usize>,
    general: Expression,
    assigned: Expression,
    international_prefix: Option<Expression>,
    trunk_prefix: Option<Expression>,
    trunk_replacement: Option<&'static str>,
    trunk_digits: Option<&'static str>,
}

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
struct Expression {
    source: String,
    compiled: OnceLock<Regex>,
}

/// Reads digits, with or without a leading `+`. Without one they are read as dialled at `home`;
/// `None` where there is no home, no such country code, or no possible number of digits at all.
pub fn parse(dialled: &str, home: Option<&'static Plan>) -> Option<Number> {
    if let Some(international) = dialled.strip_prefix('+') {
        return Number::international(international);
    }
    let home = home?;
    let abroad = home.abroad(dialled).and_then(Number::international);
    if abroad.as_ref().is_some_and(|number| number.known) {
        return abroad;
    }
    let here = home.national(dialled);
    if here.as_ref().is_some_and(|number| number.known) {
        return here;
    }
    let without_code = dialled.strip_prefix(&home.country_code.to_string());
    without_code
        .and_then(|national| home.national(national))
        .filter(|number| number.known)
        .or(abroad)
        .or(here)
}

impl Number {
    pub fn e164(&self) -> String {
        format!("+{}{}", self.country_code, self.national)
    }

    /// It has as many digits as numbers of its country have: in the main region, as seven digits
    /// of +1 are a few services in Canada and nothing elsewhere.
    pub fn is_possible(&self) -> bool {
        let main = plans(self.country_code).first();
        self.known || main.is_some_and(|plan| plan.has_len(&self.national))
    }

    /// It is in a range that is given out to subscribers.
    pub fn is_valid(&self) -> bool {
        plans(self.country_code)
            .iter()
            .any(|plan| plan.knows(&self.national) && plan.assigned.matches(&self.national))
    }

    /// Reads what stands after a `+`.
    fn international(digits: &str) -> Option<Self> {
        let lens = 1..=COUNTRY_CODE_LEN_MAX.min(digits.len());
        // No code begins with another one, and none with 0.
        let (country_code, national) = lens.map(|len| digits.split_at(len)).find_map(|split| {
            let code = split.0.parse().ok().filter(|_| !split.0.starts_with('0'))?;
            PLANS.contains_key(&code).then_some((code, split.1))
        })?;
        Self::read(country_code, national, None)
    }

    /// A number that a plan knows as it stands is left so. Otherwise the trunk prefix is taken
    /// off, if that makes a number that a plan knows: that of `home`, or that of the main region.
    fn read(country_code: u16, digits: &str, home: Option<&Plan>) -> Option<Self> {
        let known = |national: &str| plans(country_code).iter().any(|plan| plan.knows(national));
        let number = |national: String, known| Self { country_code, national, known };
        if known(digits) {
            return Some(number(digits.to_owned(), true));
        }
        let main = plans(country_code).first();
        let without_trunk =
            home.into_iter().chain(main).flat_map(|plan| plan.without_trunk(digits));
        for national in without_trunk {
            if known(&national) {
                return Some(number(national, true));
            }
        }
        let in_range = (NATIONAL_LEN_MIN..=NATIONAL_LEN_MAX).contains(&digits.len());
        in_range.then(|| number(digits.to_owned(), false))
    }
}

impl Plan {
    /// The plan of an ISO 3166 region, by two capitals.
    pub fn of_region(region: &str) -> Option<&'static Self> {
        // Numbers of no region are filed under 001.
        let metadata = DATABASE.by_id(region).filter(|_| region != "001")?;
        plans(metadata.country_code()).iter().find(|plan| plan.region == region)
    }

    fn new(metadata: &'static Metadata) -> Self {
        let descriptors = metadata.descriptors();
        let kinds = [
            descriptors.fixed_line(),
            descriptors.mobile(),
            descriptors.toll_free(),
            descriptors.premium_rate(),
            descriptors.shared_cost(),
            descriptors.personal_number(),
            descriptors.voip(),
            descriptors.pager(),
            descriptors.uan(),
            descriptors.voicemail(),
        ];
        let kinds = || kinds.into_iter().flatten();
        let assigned: Vec<_> = kinds().map(national_number).collect();
        let lens = kinds().flat_map(Descriptor::possible_length).map(|len| usize::from(*len));
        let start = |source: &str| Expression::new(format!("^(?:{source})"));
        let whole = |source: &str| Expression::new(format!("^(?:{source})$"));
        Self {
            region: metadata.id(),
            country_code: metadata.country_code(),
            lens: lens.collect(),
            general: whole(national_number(descriptors.general())),
            assigned: whole(&assigned.join("|")),
            international_prefix: metadata.international_prefix().map(|re| start(re.as_str())),
            trunk_prefix: metadata.national_prefix_for_parsing().map(|re| start(re.as_str())),
            trunk_replacement: metadata.national_prefix_transform_rule(),
            trunk_digits: metadata.national_prefix(),
        }
    }

    fn has_len(&self, national: &str) -> bool {
        self.lens.contains(&national.len())
    }

    fn knows(&self, national: &str) -> bool {
        self.has_len(national) && self.general.matches(national)
    }

    /// What stands after the digits that are dialled for a call abroad.
    fn abroad<'a>(&self, dialled: &'a str) -> Option<&'a str> {
        let prefix = self.international_prefix.as_ref()?.regex().find(dialled)?;
        Some(&dialled[prefix.end()..])
    }

    fn national(&self, digits: &str) -> Option<Number> {
        Number::read(self.country_code, digits, Some(self))
    }

    /// The ways to take off what is dialled before a national number: a trunk prefix, which may
    /// name a carrier or stand for an area code, or else the plain trunk digits.
    fn without_trunk(&self, digits: &str) -> impl Iterator<Item = String> {
        let by_expression = self.trunk_prefix.as_ref().and_then(|prefix| {
            let found = prefix.regex().captures(digits)?;
            let rest = &digits[found.get_match().end()..];
            let last = found.get(found.len() - 1).filter(|_| found.len() > 1);
            let Some(replacement) = self.trunk_replacement.filter(|_| last.is_some()) else {
                return Some(rest.to_owned());
            };
            let mut replaced = replacement.to_owned();
            for group in 1..found.len() {
                let text = found.get(group).map_or("", |group| group.as_str());
                replaced = replaced.replace(&format!("${group}"), text);
            }
            Some(replaced + rest)
        });
        let plain = self.trunk_digits.and_then(|trunk| digits.strip_prefix(trunk));
        by_expression.into_iter().chain(plain.map(str::to_owned))
    }
}

impl Expression {
    fn new(source: String) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn matches(&self, digits: &str) -> bool {
        self.regex().is_match(digits)
    }

    fn regex(&self) -> &Regex {
        self.compiled.get_or_init(|| {
            let mut builder = RegexBuilder::new(&self.source);
            let built = builder.unicode(false).ignore_whitespace(true).build();
            built.expect("a test compiles every expression of the pinned crate")
        })
    }
}

fn plans(country_code: u16) -> &'static [Plan] {
    PLANS.get(&country_code).map_or(&[], Vec::as_slice)
}

fn national_number(descriptor: &Descriptor) -> &str {
    descriptor.national_number().as_str()
}

#[cfg(test)]
mod tests {
    use super::{DATABASE, PLANS, Plan, parse};

    #[test]
    fn every_expression_of_the_crate_compiles() {
        for plan in PLANS.values().flatten() {
            plan.general.regex();
            plan.assigned.regex();
            for prefix in plan.international_prefix.iter().chain(&plan.trunk_prefix) {
                prefix.regex();
            }
        }
    }

    #[test]
    fn every_example_of_every_plan_is_read_as_itself() {
        for plan in PLANS.values().flatten() {
            let Some(metadata) = DATABASE.by_id(plan.region).filter(|_| plan.region != "001")
            else {
                continue;
            };
            let descriptors = metadata.descriptors();
            let kinds = [descriptors.fixed_line(), descriptors.mobile(), descriptors.toll_free()];
            for example in kinds.into_iter().flatten().filter_map(|kind| kind.example()) {
                let e164 = format!("+{}{example}", plan.country_code);
                let abroad = parse(&e164, None).unwrap();
                assert_eq!(abroad.e164(), e164, "{}", plan.region);
                assert!(abroad.is_possible() && abroad.is_valid(), "{e164} of {}", plan.region);
                let home = format!("{}{example}", plan.trunk_digits.unwrap_or_default());
                let home = parse(&home, Plan::of_region(plan.region)).unwrap();
                assert_eq!(home.e164(), e164, "at home in {}", plan.region);
            }
        }
    }
}
