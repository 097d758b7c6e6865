//! A ledger in memory whose rules change and that people are erased from, and random input for it.

use super::*;
use proptest::prelude::*;

/// How keys are made in these tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    email_links: bool,
    phone_links: bool,
    /// Emails of the user with this number never link.
    blocked: u8,
    /// Emails are compared on that many of their characters.
    email_len: usize,
    phone_len: usize,
}

impl Ruling {
    pub fn keys(self, identifiers: &Identifiers) -> Keys {
        let key = |text: &str, links: bool| match links {
            true => Key::links(text),
            false => Key::never_links(text),
        };
        let cut = |text: &str, len: usize| text[..len.min(text.len())].to_owned();
        Keys {
            email: identifiers.email().map(|email| {
                let text = cut(email.as_str(), self.email_len);
                let is_blocked = text.contains(char::from(b'0' + self.blocked));
                key(&text, self.email_links && !is_blocked)
            }),
            phone_number: identifiers
                .phone_number()
                .map(|number| key(&cut(number.as_str(), self.phone_len), self.phone_links)),
        }
    }
}

/// Resolves and folds as the recorder does. Of what was erased it has numbers only.
pub struct Ledger {
    pub ruling: Ruling,
    pub census: Census,
    /// `None` if they were erased.
    pub observations: Vec<Option<Identifiers>>,
    /// The fold of all facts, rule changes among them.
    pub folded: Links,
    pub past: Past,
    events_len: i64,
}

impl Ledger {
    pub fn new(ruling: Ruling) -> Self {
        Self {
            ruling,
            census: Census::default(),
            observations: Vec::new(),
            folded: Links::default(),
            past: Past::default(),
            events_len: 0,
        }
    }

    pub fn with(ruling: Ruling, observations: &[Identifiers]) -> Self {
        let mut ledger = Self::new(ruling);
        observations.iter().for_each(|identifiers| ledger.observe(identifiers.clone()));
        ledger
    }

    /// A ledger with these rules from the start that never saw what was erased here. Its numbers are
    /// those of `living`, in order.
    pub fn as_never_seen(&self) -> Self {
        let living: Vec<_> = self.observations.iter().flatten().cloned().collect();
        Self::with(self.ruling, &living)
    }

    /// The numbers of what was not erased, in order.
    pub fn living(&self) -> Vec<ObservationId> {
        let numbers = (1..).map(ObservationId::new).zip(&self.observations);
        numbers.filter(|(_, seen)| seen.is_some()).map(|(id, _)| id).collect()
    }

    fn now(&mut self) -> Timestamp {
        self.events_len += 1;
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(self.events_len)
    }

    pub fn observe(&mut self, identifiers: Identifiers) {
        let at = self.now();
        let id = ObservationId::new(self.observations.len() as i64 + 1);
        let decision = self.census.observe(id, &self.ruling.keys(&identifiers), at);
        let commitment = Commitment::to(&identifiers, Salt([0; 16]));
        for fact in decision.facts(commitment, None) {
            self.folded.apply(fold(&fact), at);
            self.past.apply(fold(&fact));
        }
        self.observations.push(Some(identifiers));
    }

    /// Changes the rules; returns the facts that this appends.
    pub fn activate(&mut self, ruling: Ruling) -> Vec<Fact> {
        let at = self.now();
        let mut after = self.decided(ruling, at);
        self.folded.compress_all();
        after.links.compress_all();
        let differences = Differences::between(&self.folded, &after.links);
        let facts: Vec<_> = differences.facts(&self.folded, &after.links).collect();
        assert_eq!(facts.len(), differences.facts_len());
        self.folded.apply(Change::Rules, at);
        facts.iter().for_each(|fact| self.folded.apply(fold(fact), at));
        facts.iter().for_each(|fact| self.past.apply(fold(fact)));
        self.census = after;
        self.ruling = ruling;
        facts
    }

    /// Forgets the identity of an observation, as an erasure does. Does nothing if it is forgotten.
    pub fn erase(&mut self, id: ObservationId) {
        let at = self.now();
        let Some(primary) = self.folded.primary_of(id) else { return };
        let all = (1..=self.observations.len() as i64).map(ObservationId::new);
        let ids: Vec<_> = all.filter(|id| self.folded.primary_of(*id) == Some(primary)).collect();
        let change = Change::Erased { primary, observations: &ids };
        self.folded.apply(change, at);
        self.past.apply(change);
        for id in ids {
            self.observations[id.get() as usize - 1] = None;
        }
        self.census = self.decided(self.ruling, at);
    }

    /// The state of the observations that are left, decided by some rules.
    fn decided(&self, ruling: Ruling, at: Timestamp) -> Census {
        let keys = |seen: &Option<_>| seen.as_ref().map(|seen| ruling.keys(seen));
        let ids = (1..).map(ObservationId::new);
        let seen: Vec<_> =
            ids.zip(&self.observations).map(|(id, seen)| (id, at, keys(seen))).collect();
        let mut census = Census::default();
        census.observe_all(&seen);
        census
    }

    /// Where everything stands, by the facts.
    pub fn filings(&self) -> Vec<Option<Filing>> {
        filings(&self.folded, self.observations.len())
    }

    /// The answer for each observation that is left, by the fold of the facts and these alone.
    pub fn answers(&mut self) -> Vec<Answer> {
        let contacts = self.contacts();
        self.living()
            .into_iter()
            .map(|id| self.folded.primary_of(id).unwrap())
            .map(|primary| {
                let of_identity = contacts.iter().filter(|contact| contact.primary() == primary);
                Answer::of(&of_identity.cloned().collect::<Vec<_>>())
            })
            .collect()
    }

    pub fn contacts(&mut self) -> Vec<Contact> {
        let mut holders = Holders::new();
        let ids: Vec<_> = self.folded.contacts().collect();
        let contact = |id: ContactId| {
            let standing = self.folded.standing(id).unwrap();
            let identifiers = self.observations[id.get() as usize - 1].as_ref().unwrap();
            let keys = self.ruling.keys(identifiers);
            let holds = holders.claim(id, &keys);
            Contact::new(identifiers, keys, standing, holds, Timestamp::UNIX_EPOCH)
        };
        ids.into_iter().map(contact).collect()
    }
}

pub fn filings(links: &Links, observations_len: usize) -> Vec<Option<Filing>> {
    (1..=observations_len as i64).map(|id| links.filing(ObservationId::new(id))).collect()
}

pub fn any_ruling() -> impl Strategy<Value = Ruling> {
    let links = prop_oneof![4 => Just(true), 1 => Just(false)];
    (links.clone(), links, 0..12u8, 3..6usize, 2..5usize).prop_map(
        |(email_links, phone_links, blocked, email_len, phone_len)| Ruling {
            email_links,
            phone_links,
            blocked,
            email_len,
            phone_len,
        },
    )
}

pub fn any_identifiers() -> impl Strategy<Value = Identifiers> {
    let parts = (0..6u8, 0..4u8, 0..3u8);
    (parts.clone(), parts, 0..3u8).prop_map(|((a, b, c), (d, e, f), which)| {
        let email = Email::recorded(&format!("{a}_{b}@{c}"));
        let number = PhoneNumber::recorded(&format!("0{d}{e}{f}"));
        let (email, number) = (Some(email), Some(number));
        Identifiers::new(email.filter(|_| which != 1), number.filter(|_| which != 2)).unwrap()
    })
}

pub fn any_observations() -> impl Strategy<Value = Vec<Identifiers>> {
    prop::collection::vec(any_identifiers(), 1..40)
}

/// Rule changes, each after some more observations.
pub fn any_history() -> impl Strategy<Value = Vec<(Vec<Identifiers>, Ruling)>> {
    prop::collection::vec((any_observations(), any_ruling()), 1..5)
}
