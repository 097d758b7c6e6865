//! A ledger in memory whose rules change and that people are erased from, and random input for it.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// The data of an event of each kind, in the order of the kinds, with every member that it may have.
pub const EVERY_MEMBER: [&str; 10] = [
    r#"{"activatedBy":"ops","digest":"a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336","name":"default","reason":"r","version":1}"#,
    r#"{"askedBy":"shop","commitment":"vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=","contactId":2,"email":"new","observationId":2,"phoneNumber":{"heldBy":1},"primaryId":1}"#,
    r#"{"contactId":2,"primaryId":1}"#,
    r#"{"contactId":2,"holderIds":[1,2],"observationId":3,"primaryId":1}"#,
    r#"{"contactId":2,"primaryId":1}"#,
    r#"{"contactId":1,"observationId":2,"primaryId":1}"#,
    r#"{"contactId":2,"formerPrimaryId":1}"#,
    r#"{"contactId":1,"observationId":2,"primaryId":1}"#,
    r#"{"contactId":1,"erasedBy":"ops","observationIds":[1,2],"reason":"customer-request"}"#,
    r#"{"acceptedBy":"ops","newRoot":"vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=","newSize":7,"nextObservationId":1000010,"oldRoot":"vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=","oldSize":10,"reason":"r"}"#,
];

/// What makes the keys of a ledger.
pub trait Ruling: Clone {
    fn keys(&self, identifiers: &Identifiers) -> Keys;
    fn digest(&self) -> RulesDigest;
}

impl Ruling for Rules {
    fn keys(&self, identifiers: &Identifiers) -> Keys {
        Rules::keys(self, identifiers)
    }

    fn digest(&self) -> RulesDigest {
        Rules::digest(self).clone()
    }
}

/// Rules that make coarser keys than any document can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coarse {
    email_links: bool,
    phone_links: bool,
    /// Emails of the user with this number never link.
    blocked: u8,
    /// Emails are compared on that many of their characters.
    email_len: usize,
    phone_len: usize,
}

impl Ruling for Coarse {
    fn keys(&self, identifiers: &Identifiers) -> Keys {
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

    /// The same for all: no one looks these rules up.
    fn digest(&self) -> RulesDigest {
        "0".repeat(64).try_into().unwrap()
    }
}

/// What happens to a ledger.
#[derive(Clone, Debug)]
pub enum Step<R> {
    Observe(Vec<Identifiers>),
    Activate(R),
    Erase(Index),
}

/// Resolves and folds as the recorder does. Of what was erased it has numbers only.
pub struct Ledger<R> {
    pub ruling: R,
    pub events: Vec<Event>,
    /// Decides by what is left.
    pub census: Census,
    /// `None` if they were erased.
    pub observations: Vec<Option<Identifiers>>,
    /// The fold of all facts, rule changes among them.
    pub folded: Links,
    pub past: Past,
    steps_len: i64,
}

impl<R: Ruling> Ledger<R> {
    /// A ledger without events, not even one that puts the rules in force.
    pub fn new(ruling: R) -> Self {
        Self {
            ruling,
            events: Vec::new(),
            census: Census::default(),
            observations: Vec::new(),
            folded: Links::default(),
            past: Past::default(),
            steps_len: 0,
        }
    }

    pub fn with(ruling: R, observations: &[Identifiers]) -> Self {
        let mut ledger = Self::new(ruling);
        observations.iter().for_each(|identifiers| ledger.observe(identifiers.clone()));
        ledger
    }

    /// A ledger with these rules from the start that never saw what was erased here. Its numbers are
    /// those of `living`, in order.
    pub fn as_never_seen(&self) -> Self {
        let living: Vec<_> = self.observations.iter().flatten().cloned().collect();
        Self::with(self.ruling.clone(), &living)
    }

    pub fn walk(&mut self, steps: Vec<Step<R>>) {
        for step in steps {
            match step {
                Step::Observe(all) => all.into_iter().for_each(|seen| self.observe(seen)),
                Step::Activate(ruling) => _ = self.activate(ruling),
                Step::Erase(_) if self.observations.is_empty() => {}
                Step::Erase(any) => {
                    let number = any.index(self.observations.len()) as i64 + 1;
                    self.erase(ObservationId::new(number));
                }
            }
        }
    }

    /// The numbers of what was not erased, in order.
    pub fn living(&self) -> Vec<ObservationId> {
        let numbers = (1..).map(ObservationId::new).zip(&self.observations);
        numbers.filter(|(_, seen)| seen.is_some()).map(|(id, _)| id).collect()
    }

    fn now(&mut self) -> Timestamp {
        self.steps_len += 1;
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(self.steps_len)
    }

    fn append(&mut self, fact: Fact, at: Timestamp) {
        self.folded.apply(fold(&fact), at);
        self.past.apply(fold(&fact));
        let position = Position::new(self.events.len() as i64 + 1);
        self.events.push(Event { position, recorded_at: at, fact });
    }

    pub fn observe(&mut self, identifiers: Identifiers) {
        let at = self.now();
        let id = ObservationId::new(self.observations.len() as i64 + 1);
        let decision = self.census.observe(id, &self.ruling.keys(&identifiers), at);
        let commitment = Commitment::to(&identifiers, Salt([0; 16]));
        decision.facts(commitment, None).into_iter().for_each(|fact| self.append(fact, at));
        self.observations.push(Some(identifiers));
    }

    /// Changes the rules. Returns the facts that this makes different.
    pub fn activate(&mut self, ruling: R) -> Vec<Fact> {
        let at = self.now();
        let mut after = census(&ruling, &self.observations, at);
        self.folded.compress_all();
        after.links.compress_all();
        let differences = Differences::between(&self.folded, &after.links);
        let facts: Vec<_> = differences.facts(&self.folded, &after.links).collect();
        assert_eq!(facts.len(), differences.facts_len());
        let activated = RulesActivated {
            activated_by: "test".to_owned(),
            digest: ruling.digest(),
            name: "test".to_owned(),
            reason: "test".to_owned(),
            version: 1,
        };
        self.append(Fact::RulesActivated(activated), at);
        facts.iter().for_each(|fact| self.append(fact.clone(), at));
        self.census = after;
        self.ruling = ruling;
        facts
    }

    /// Erases the identity of an observation. Does nothing if it is erased already.
    pub fn erase(&mut self, id: ObservationId) {
        let at = self.now();
        let Some(primary) = self.folded.primary_of(id) else { return };
        let ids: Vec<_> =
            self.folded.ids().filter(|id| self.folded.primary_of(*id) == Some(primary)).collect();
        for id in &ids {
            self.observations[id.get() as usize - 1] = None;
        }
        let erased = ContactErased {
            contact_id: primary,
            erased_by: None,
            observation_ids: ids,
            reason: "test".parse().unwrap(),
        };
        self.append(Fact::ContactErased(erased), at);
        self.census = census(&self.ruling, &self.observations, at);
    }

    /// Where everything stands, by the facts.
    pub fn filings(&self) -> Vec<Option<Filing>> {
        filings(&self.folded)
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
        let mut holders = Holders::default();
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

/// What some rules decide about the observations that are left.
pub fn census(ruling: &impl Ruling, observations: &[Option<Identifiers>], at: Timestamp) -> Census {
    let keys = |seen: &Option<_>| seen.as_ref().map(|seen| ruling.keys(seen));
    let ids = (1..).map(ObservationId::new);
    let seen: Vec<_> = ids.zip(observations).map(|(id, seen)| (id, at, keys(seen))).collect();
    let mut census = Census::default();
    census.observe_all(&seen);
    census
}

pub fn filings(links: &Links) -> Vec<Option<Filing>> {
    links.ids().map(|id| links.filing(id)).collect()
}

pub fn any_ruling() -> impl Strategy<Value = Coarse> {
    let links = prop_oneof![4 => Just(true), 1 => Just(false)];
    (links.clone(), links, 0..12u8, 3..6usize, 2..5usize).prop_map(
        |(email_links, phone_links, blocked, email_len, phone_len)| Coarse {
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
pub fn any_history() -> impl Strategy<Value = Vec<(Vec<Identifiers>, Coarse)>> {
    prop::collection::vec((any_observations(), any_ruling()), 1..5)
}

pub fn any_steps<R: std::fmt::Debug>(
    any_identifiers: impl Strategy<Value = Identifiers>,
    any_ruling: impl Strategy<Value = R>,
) -> impl Strategy<Value = Vec<Step<R>>> {
    let step = prop_oneof![
        2 => prop::collection::vec(any_identifiers, 1..15).prop_map(Step::Observe),
        1 => any_ruling.prop_map(Step::Activate),
        3 => any::<Index>().prop_map(Step::Erase),
    ];
    prop::collection::vec(step, 1..14)
}
