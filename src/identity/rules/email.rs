//! Keys of emails.

use super::blocked::{self, Blocked};
use super::document::{Case, Domain, EmailRules, ProviderRules, Subaddress};
use crate::identity::{Email, Key};
use glob::Pattern;
use idna::AsciiDenyList;
use std::borrow::Cow;

/// Makes the keys of emails.
#[derive(Clone, Debug)]
pub struct EmailKeys {
    form: EmailForm,
    links: bool,
    blocked: Blocked,
}

#[derive(Clone, Copy, Debug)]
struct EmailForm {
    case: Case,
    domain: Domain,
    provider_rules: ProviderRules,
    subaddress: Subaddress,
}

impl EmailKeys {
    pub fn new(rules: &EmailRules) -> Self {
        let form = EmailForm {
            case: rules.case,
            domain: rules.domain,
            provider_rules: rules.provider_rules,
            subaddress: rules.subaddress,
        };
        let blocked =
            Blocked::new(&rules.blocked, |value| form.of(value), |glob| form.of_glob(glob));
        Self { form, links: rules.links, blocked }
    }

    pub fn key(&self, email: &Email) -> Key {
        let text = self.form.of(email.as_str());
        Key::new(&text, self.links && !self.blocked.holds(&text))
    }

    pub fn blocked(&self) -> Vec<String> {
        self.blocked.entries()
    }

    /// Globs that no normal form can match, since each has an `@` and perhaps no capitals after it.
    pub fn idle_globs(&self) -> Vec<String> {
        self.blocked.idle_globs(|parts| {
            let at = parts.iter().rposition(|part| blocked::can_be(part, "@"));
            at.is_some_and(|at| parts[at..].iter().all(|part| self.form.can_be_in_domain(part)))
        })
    }
}

impl EmailForm {
    /// The normal form of an email. The normal form of a normal form is itself.
    fn of(self, email: &str) -> String {
        let Some((local, domain)) = email.rsplit_once('@') else {
            return self.local_in_case(email).into_owned();
        };
        let domain = self.domain(domain);
        let is_gmail = self.provider_rules == ProviderRules::Gmail && is_gmail(&domain);
        let local = self.local(local, is_gmail);
        let domain = if is_gmail { "gmail.com" } else { &domain };
        [&local, "@", domain].concat()
    }

    /// A domain without wildcards gets its normal form. Anything else is folded as `case` says.
    fn of_glob(self, glob: &str) -> String {
        match glob.rsplit_once('@') {
            None => self.local_in_case(glob).into_owned(),
            // With a `]`, the `@` is in brackets, as in `[@.]x.org`.
            Some((local, domain)) if blocked::is_glob(domain) || domain.contains(']') => {
                [&self.local_in_case(local), "@", &self.domain_in_case(domain)].concat()
            }
            Some((local, domain)) => {
                let domain = self.domain(domain);
                let is_gmail = self.provider_rules == ProviderRules::Gmail && is_gmail(&domain);
                let domain = if is_gmail { "gmail.com" } else { &domain };
                // A full-width asterisk has become a plain one, which is not meant as a wildcard.
                [&self.local_in_case(local), "@", &Pattern::escape(domain)].concat()
            }
        }
    }

    fn local(self, local: &str, is_gmail: bool) -> Cow<'_, str> {
        let mut local = self.local_in_case(local);
        if is_quoted(&local) {
            return local;
        }
        if self.subaddress == Subaddress::Strip {
            local = without_tag(local);
        }
        if is_gmail {
            local = without_dots(local);
        }
        local
    }

    fn domain(self, domain: &str) -> Cow<'_, str> {
        let in_case = self.domain_in_case(domain);
        match self.domain {
            Domain::AsReceived => in_case,
            // Tried in both cases, since some domains have an ASCII form in lower case only: their normal
            // form would otherwise have another normal form.
            Domain::Idna => match ascii(domain).or_else(|| ascii(&in_case)) {
                Some(ascii) => Cow::Owned(ascii),
                None => in_case,
            },
        }
    }

    /// Whether a part of a glob can stand for something in the domain of a normal form. Whether `[...]` can
    /// is not looked into.
    fn can_be_in_domain(self, part: &str) -> bool {
        blocked::is_glob(part) || self.domain_in_case(part) == part
    }

    fn local_in_case(self, local: &str) -> Cow<'_, str> {
        match self.case {
            Case::Insensitive => Cow::Owned(local.to_lowercase()),
            Case::Sensitive | Case::DomainOnly => Cow::Borrowed(local),
        }
    }

    fn domain_in_case(self, domain: &str) -> Cow<'_, str> {
        match self.case {
            Case::Insensitive | Case::DomainOnly => Cow::Owned(domain.to_lowercase()),
            Case::Sensitive => Cow::Borrowed(domain),
        }
    }
}

fn is_gmail(domain: &str) -> bool {
    ["gmail.com", "googlemail.com"].iter().any(|gmail| domain.eq_ignore_ascii_case(gmail))
}

/// A quoted local part means exactly what it says, so its tag and its dots stay.
fn is_quoted(local: &str) -> bool {
    local.len() >= 2 && local.starts_with('"') && local.ends_with('"')
}

/// Cuts at the first `+` that has something before it.
fn without_tag(mut local: Cow<'_, str>) -> Cow<'_, str> {
    let plus = local.char_indices().skip(1).find(|(_, c)| *c == '+');
    if let Some((at, _)) = plus {
        match &mut local {
            Cow::Borrowed(borrowed) => *borrowed = &borrowed[..at],
            Cow::Owned(owned) => owned.truncate(at),
        }
    }
    local
}

/// Removes dots, unless the local part has nothing else: no address is left without one.
fn without_dots(local: Cow<'_, str>) -> Cow<'_, str> {
    if !local.contains('.') || local.chars().all(|c| c == '.') {
        return local;
    }
    Cow::Owned(local.replace('.', ""))
}

/// `None` if the domain has no ASCII form, or one that no domain can have: a full-width `@` must not
/// become an `@`.
fn ascii(domain: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::URL).ok()?;
    Some(ascii.into_owned()).filter(|ascii| !ascii.is_empty())
}
