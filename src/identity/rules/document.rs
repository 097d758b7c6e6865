//! What a rules file may say.

use super::blocked;
use super::error::RulesError;
use phonenumber::{country, metadata::DATABASE};
use serde::{Deserialize, Serialize};
use toml::Spanned;

const NAME_LEN_MAX: usize = 64;

/// A rules file. Members that it leaves out have their defaults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub name: Name,
    pub version: Version,
    pub email: EmailRules,
    pub phone: PhoneRules,
}

/// The table `[email]`. Members stand in alphabetical order, and those with their default value are left
/// out, since this JSON is the digest's input. `case` is always there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table [email] that says at least `case`")]
pub struct EmailRules {
    #[serde(default, deserialize_with = "blocked::emails", skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<String>,
    pub case: Case,
    #[serde(default, skip_serializing_if = "is_default")]
    pub domain: Domain,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub links: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub provider_rules: ProviderRules,
    #[serde(default, skip_serializing_if = "is_default")]
    pub subaddress: Subaddress,
}

/// The table `[phone]`, written as `EmailRules` is. `format` is always there.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table [phone] that says at least `format`")]
pub struct PhoneRules {
    #[serde(default, deserialize_with = "blocked::numbers", skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_region: Option<Spanned<Region>>,
    pub format: PhoneFormat,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub links: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Requirement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    Sensitive,
    Insensitive,
    DomainOnly,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    #[default]
    AsReceived,
    Idna,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderRules {
    #[default]
    None,
    Gmail,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subaddress {
    #[default]
    Keep,
    Strip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhoneFormat {
    Exact,
    Digits,
    E164,
}

/// What a number must be to link. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    Parseable,
    Possible,
    Valid,
}

/// The name of a rule set: short and printable.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// 1 or more, so that a rule set can be told from the one it replaces.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
pub struct Version(i32);

/// A region that has a numbering plan, by its ISO 3166 code.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Region(country::Id);

impl Document {
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let mut document: Self = toml::from_str(text).map_err(|error| {
            let complaint = error.message();
            // `version` is the only integer. Serde would name the type that it is read as.
            let message = match complaint.strip_suffix("expected i64") {
                Some(wrong) => format!("{wrong}expected a whole number from 1"),
                None => [complaint, allowed(complaint)].concat(),
            };
            RulesError::at(text, error.span(), &message)
        })?;
        let phone = &mut document.phone;
        if let (Some(region), false) = (&phone.default_region, phone.parses()) {
            let message = "`default_region` would have no effect: it is allowed where `format` is \
                           `e164`, or `require` is given";
            return Err(RulesError::at(text, Some(region.span()), message));
        }
        // With `e164` a number that cannot be parsed never links, whether or not the file says so.
        if phone.format == PhoneFormat::E164 && phone.require == Some(Requirement::Parseable) {
            phone.require = None;
        }
        Ok(document)
    }
}

impl EmailRules {
    pub fn uses_idna(&self) -> bool {
        self.domain == Domain::Idna
    }
}

impl PhoneRules {
    /// Whether keys depend on the numbering plans.
    pub fn parses(&self) -> bool {
        self.format == PhoneFormat::E164 || self.require.is_some()
    }
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Region {
    pub fn id(&self) -> country::Id {
        self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let printable = !name.contains(char::is_control) && name.trim() == name;
        if name.is_empty() || name.chars().count() > NAME_LEN_MAX || !printable {
            return Err(format!(
                "invalid `name`, expected 1 to {NAME_LEN_MAX} printable characters, without \
                 blanks around them"
            ));
        }
        Ok(Self(name))
    }
}

impl TryFrom<i64> for Version {
    type Error = String;

    fn try_from(version: i64) -> Result<Self, String> {
        let in_range = i32::try_from(version).ok().filter(|version| *version >= 1);
        in_range.map(Self).ok_or_else(|| {
            format!("invalid `version` {version}, expected a whole number from 1 to {}", i32::MAX)
        })
    }
}

impl TryFrom<String> for Region {
    type Error = String;

    fn try_from(region: String) -> Result<Self, String> {
        // The library panics when it parses a number of a region that it has no metadata of.
        let id =
            region.parse().ok().filter(|id: &country::Id| DATABASE.by_id(id.as_ref()).is_some());
        id.map(Self).ok_or_else(|| {
            format!(
                "unknown region {region:?}, expected the two capitals that ISO 3166 gives a \
                 country, such as \"DE\" or \"US\""
            )
        })
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl From<Version> for i32 {
    fn from(version: Version) -> Self {
        version.0
    }
}

/// What to add to a complaint that a required member is missing.
fn allowed(complaint: &str) -> &'static str {
    match complaint {
        "missing field `case`" => {
            " in [email], expected `sensitive`, `insensitive` or `domain-only`"
        }
        "missing field `format`" => " in [phone], expected `exact`, `digits` or `e164`",
        "missing field `name`" => ", expected a short text",
        "missing field `version`" => ", expected a whole number from 1",
        "missing field `email`" => ", expected a table [email] that says at least `case`",
        "missing field `phone`" => ", expected a table [phone] that says at least `format`",
        _ => "",
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
