//! Keys of phone numbers.

use super::blocked::Blocked;
use super::document::{PhoneFormat, PhoneRules, Requirement};
use super::numbering::{self, Plan};
use crate::identity::{Key, PhoneNumber};
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
    /// `None` where any number will do.
    require: Option<Requirement>,
    home: Option<&'static Plan>,
}

impl PhoneKeys {
    pub fn new(rules: &PhoneRules) -> Self {
        let region = rules.default_region.as_ref();
        let form = PhoneForm {
            format: rules.format,
            require: rules.require.or(rules.parses().then_some(Requirement::Parseable)),
            home: region.and_then(|region| Plan::of_region(region.as_ref().as_str())),
        };
        let normal_form = |value: &str| match form.of(value) {
            Ok(text) => text.into_owned(),
            Err(digits) => digits,
        };
        let blocked = Blocked::new(&rules.blocked, normal_form, str::to_owned);
        Self { form, links: rules.links, blocked }
    }

    pub fn key(&self, number: &PhoneNumber) -> Key {
        match self.form.of(number.as_str()) {
            Ok(text) if self.links && !self.blocked.holds(&text) => Key::links(&text),
            Ok(text) => Key::never_links(&text),
            Err(digits) => Key::never_links(&digits),
        }
    }

    pub fn blocked(&self) -> Vec<String> {
        self.blocked.entries()
    }
}

impl PhoneForm {
    /// The normal form, or the digits of a number that is not what the rules require. Only the
    /// digits are parsed, so that numbers with the same digits are judged alike.
    fn of(self, number: &str) -> Result<Cow<'_, str>, String> {
        let digits = digits(number);
        let parsed = match self.require {
            None => None,
            Some(require) => match numbering::parse(&digits, self.home) {
                Some(parsed) if meets(&parsed, require) => Some(parsed),
                _ => return Err(digits),
            },
        };
        Ok(match (self.format, parsed) {
            (PhoneFormat::Exact, _) => Cow::Borrowed(number),
            (PhoneFormat::E164, Some(parsed)) => Cow::Owned(parsed.e164()),
            (PhoneFormat::Digits | PhoneFormat::E164, _) => Cow::Owned(digits),
        })
    }
}

fn meets(number: &numbering::Number, require: Requirement) -> bool {
    match require {
        Requirement::Parseable => true,
        Requirement::Possible => number.is_possible(),
        Requirement::Valid => number.is_valid(),
    }
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
