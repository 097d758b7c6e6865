//! What a rule change does to keys, and to the links they make.

use crate::identity::{Decision, Email, Identifiers, Key, Keys, Matched, PhoneNumber};
use serde::Serialize;
use std::collections::HashSet;
use std::hash::BuildHasher as _;

const EXAMPLES_LEN_MAX: usize = 5;

/// Numbers of observations, by kind of identifier.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkChanges {
    pub email: GainedAndLost,
    pub phone_number: GainedAndLost,
}

/// Number of observations whose identifier matches a contact and did not before, and the reverse.
#[derive(Debug, Default, Serialize)]
pub struct GainedAndLost {
    pub gained: usize,
    pub lost: usize,
}

/// Keys of the rules in force, by kind of identifier.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyChanges {
    pub email: KeysOfKind,
    pub phone_number: KeysOfKind,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeysOfKind {
    /// Keys that link now, and never would again.
    pub newly_blocked: Changed,
    /// Keys that would have another text.
    pub changed: Changed,
}

#[derive(Debug, Default, Serialize)]
pub struct Changed {
    /// Number of keys. One that becomes several others is counted once for each.
    pub count: usize,
    /// The first few.
    pub examples: Vec<Example>,
    /// Hashes of the keys that were counted.
    #[serde(skip)]
    counted: HashSet<u64>,
}

/// A value as received, with its normal forms.
#[derive(Debug, Serialize)]
pub struct Example {
    pub value: String,
    pub before: String,
    pub after: String,
}

/// Counts the changes, one observation after another.
#[derive(Default)]
pub struct Tally {
    pub links: LinkChanges,
    pub keys: KeyChanges,
}

/// One identifier of an observation under one rule set.
type Judged<'a> = Option<(Matched, &'a Key)>;

impl Tally {
    /// Counts an observation that was not erased, by the keys and the decision of either rule set.
    pub fn add(&mut self, seen: &Identifiers, before: &(Keys, Decision), after: &(Keys, Decision)) {
        if let Some(value) = seen.email().map(Email::as_str) {
            let (was, is) = (email(before), email(after));
            self.links.email.add(was, is);
            self.keys.email.add(value, was, is);
        }
        if let Some(value) = seen.phone_number().map(PhoneNumber::as_str) {
            let (was, is) = (phone_number(before), phone_number(after));
            self.links.phone_number.add(was, is);
            self.keys.phone_number.add(value, was, is);
        }
    }
}

fn email((keys, decision): &(Keys, Decision)) -> Judged<'_> {
    decision.email.zip(keys.email.as_ref())
}

fn phone_number((keys, decision): &(Keys, Decision)) -> Judged<'_> {
    decision.phone_number.zip(keys.phone_number.as_ref())
}

impl GainedAndLost {
    fn add(&mut self, before: Judged<'_>, after: Judged<'_>) {
        let links = |judged: Judged<'_>| matches!(judged, Some((Matched::HeldBy(_), _)));
        self.gained += usize::from(!links(before) && links(after));
        self.lost += usize::from(links(before) && !links(after));
    }
}

impl KeysOfKind {
    fn add(&mut self, value: &str, before: Judged<'_>, after: Judged<'_>) {
        let (Some((_, was)), Some((_, is))) = (before, after) else { return };
        if was.is_link() && !is.is_link() {
            self.newly_blocked.add(value, was, is);
        } else if was.is_link() && was != is {
            self.changed.add(value, was, is);
        }
    }
}

impl Changed {
    fn add(&mut self, value: &str, before: &Key, after: &Key) {
        if !self.counted.insert(self.counted.hasher().hash_one((before, after))) {
            return;
        }
        self.count += 1;
        if self.examples.len() < EXAMPLES_LEN_MAX {
            self.examples.push(Example {
                value: value.to_owned(),
                before: before.as_str().to_owned(),
                after: after.as_str().to_owned(),
            });
        }
    }
}
