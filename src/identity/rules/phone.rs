//! Keys of phone numbers.

use super::blocked::{Blocked, can_be};
use super::document::{PhoneFormat, PhoneRules, Requirement};
use crate::identity::{Key, PhoneNumber};
use phonenumber::metadata::DATABASE;
use phonenumber::{Type, country};
use std::borrow::Cow;

/// Makes the keys of phone numbers.
#[derive(Clone, Debug)]
pub struct PhoneKeys {
    form: PhoneForm,
    links: bool,
    blocked: Blocked,
}

#[derive(Clone, Copy, Debug)]
struct PhoneForm {
    format: PhoneFormat,
    /// `None` if any number may link.
    require: Option<Requirement>,
    home: Option<country::Id>,
}

impl PhoneKeys {
    pub fn new(rules: &PhoneRules) -> Self {
        let form = PhoneForm {
            format: rules.format,
            require: rules.require.or(rules.parses().then_some(Requirement::Parseable)),
            home: rules.default_region.as_ref().map(|region| region.as_ref().id()),
        };
        let normal_form = |value: &str| form.of(value).into_owned();
        let blocked = Blocked::new(&rules.blocked, normal_form, str::to_owned);
        Self { form, links: rules.links, blocked }
    }

    pub fn key(&self, number: &PhoneNumber) -> Key {
        let text = self.form.of(number.as_str());
        let may_link = self.links && !self.blocked.holds(&text);
        Key::new(&text, may_link && self.form.meets_requirement(&text))
    }

    pub fn blocked(&self) -> Vec<String> {
        self.blocked.entries()
    }

    /// Globs that no normal form can match, such as `0800-*` if normal forms have no dashes.
    pub fn idle_globs(&self) -> Vec<String> {
        let (first, others) = match self.form.format {
            PhoneFormat::Exact => ("+0123456789 .-()", "+0123456789 .-()"),
            PhoneFormat::Digits | PhoneFormat::E164 => ("+0123456789", "0123456789"),
        };
        self.blocked.idle_globs(|parts| {
            let mut parts = parts.iter().skip_while(|part| **part == "*");
            parts.next().is_none_or(|part| can_be(part, first))
                && parts.all(|part| can_be(part, others))
        })
    }
}

impl PhoneForm {
    /// The normal form of a number. With `e164`, a number that cannot be parsed keeps its digits.
    fn of(self, number: &str) -> Cow<'_, str> {
        match self.format {
            PhoneFormat::Exact => Cow::Borrowed(number),
            PhoneFormat::Digits => Cow::Owned(digits(number)),
            PhoneFormat::E164 => {
                let digits = digits(number);
                let parsed = self.parse(&digits);
                Cow::Owned(parsed.map_or(digits, |number| e164(&number)))
            }
        }
    }

    /// Whether numbers with this normal form are what the rules require.
    ///
    /// The normal form is judged, not the number that it was made of: the library reads some of its own
    /// E.164 texts as other numbers, so of two numbers with the same normal form one could meet the
    /// requirement and the other not.
    fn meets_requirement(self, normal_form: &str) -> bool {
        let Some(require) = self.require else { return true };
        self.parse(&digits(normal_form)).is_some_and(|number| match require {
            Requirement::Parseable => true,
            Requirement::Possible => is_possible(&number),
            Requirement::Valid => number.is_valid(),
        })
    }

    /// Only digits are parsed, so that numbers with the same digits are judged alike, and so that
    /// the library sees neither extensions nor `tel:` links.
    fn parse(self, digits: &str) -> Option<phonenumber::PhoneNumber> {
        let region = if digits.starts_with('+') { None } else { Some(self.home?) };
        phonenumber::parse(region, digits).ok()
    }
}

/// Writes a number as the library does in this mode, but does not look up the national formats first: with
/// numbers of many countries that takes a hundred times as long as parsing.
fn e164(number: &phonenumber::PhoneNumber) -> String {
    format!("+{}{}", number.code().value(), number.national())
}

/// Whether a number has as many digits as numbers of the main region of its country code have: seven
/// digits after +1 are a few services in Canada, and nothing elsewhere. What is valid is possible.
fn is_possible(number: &phonenumber::PhoneNumber) -> bool {
    // The library's list of general lengths is empty.
    const KINDS: [Type; 10] = [
        Type::FixedLine,
        Type::Mobile,
        Type::TollFree,
        Type::PremiumRate,
        Type::SharedCost,
        Type::PersonalNumber,
        Type::Voip,
        Type::Pager,
        Type::Uan,
        Type::Voicemail,
    ];
    let len = number.national().to_string().len();
    let regions = DATABASE.by_code(&number.code().value()).unwrap_or_default();
    let main = regions.first().map(|main| main.descriptors());
    let kinds = main.iter().flat_map(|main| KINDS.iter().filter_map(|kind| main.get(*kind)));
    let mut lens = kinds.flat_map(|kind| kind.possible_length());
    lens.any(|possible| usize::from(*possible) == len) || number.is_valid()
}

/// The digits, and a `+` where it stands before the first of them: `(+49) 30` is `+4930`.
fn digits(number: &str) -> String {
    let mut key = String::with_capacity(number.len());
    for c in number.chars() {
        if c.is_ascii_digit() || (c == '+' && key.is_empty()) {
            key.push(c);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::e164;
    use phonenumber::{Mode, country};

    #[test]
    fn the_international_form_is_the_one_that_the_library_writes() {
        for (region, text) in [
            (country::DE, "030 123456"),
            (country::IT, "06 1234 5678"),
            (country::US, "(201) 555-0123"),
            (country::FR, "01 23 45 67 89"),
            (country::BR, "11 96123-4567"),
        ] {
            let number = phonenumber::parse(Some(region), text).unwrap();
            assert_eq!(e164(&number), number.format().mode(Mode::E164).to_string());
        }
    }
}
