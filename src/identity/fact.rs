//! Facts: what the ledger remembers.

use super::asker::Asker;
use super::event::CorruptLine;
use super::id::{ContactId, ObservationId};
use super::observation::Commitment;
use super::reason::ReasonCode;
use super::root::Root;
use super::rules::RulesDigest;
use serde::{Deserialize, Serialize};

/// What happened. A fact never changes its meaning; a new meaning is a new fact.
///
/// Members stand in alphabetical order in every fact, so that the line is canonical JSON (RFC 8785):
/// another program can write the same bytes from the same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    RulesActivated(RulesActivated),
    ContactObserved(ContactObserved),
    ContactLinked(ContactLinked),
    PrimaryDemoted(PrimaryDemoted),
    ContactIntroduced(ContactIntroduced),
    ContactRetired(ContactRetired),
    ContactPromoted(ContactPromoted),
    ObservationMoved(ObservationMoved),
    ContactErased(ContactErased),
    LedgerRestored(LedgerRestored),
}

/// These rules are in force from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RulesActivated {
    pub activated_by: String,
    pub digest: RulesDigest,
    pub name: String,
    pub reason: String,
    pub version: i32,
}

/// An observation was seen, and filed under `contact_id`: a contact of its own if it brought something
/// new, else the oldest holder of its keys. `primary_id` leads the identity that it was answered with.
/// `asked_by` is absent if the service asked for no tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContactObserved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Asker>,
    pub commitment: Commitment,
    pub contact_id: ContactId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Matched>,
    pub observation_id: ObservationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number: Option<Matched>,
    pub primary_id: ContactId,
}

/// Whether the key of an identifier was known when it was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Matched {
    New,
    HeldBy(ContactId),
    /// The rules say that it links no contacts.
    NeverLinks,
}

/// A contact is a secondary of a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContactLinked {
    pub contact_id: ContactId,
    pub primary_id: ContactId,
}

/// A primary, with all its secondaries, belongs to an older one from here on. The observation bridged
/// them by matching the two holders, the email's first. After a rule change both are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrimaryDemoted {
    pub contact_id: ContactId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_ids: Option<[ContactId; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation_id: Option<ObservationId>,
    pub primary_id: ContactId,
}

/// By a rule change, an observation that was filed under a contact is now a contact itself. It is linked
/// to the primary, or leads an identity if that is its own number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContactIntroduced {
    pub contact_id: ContactId,
    pub primary_id: ContactId,
}

/// By a rule change, an observation is no longer a contact. It is filed under `contact_id`, which belongs
/// to the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContactRetired {
    pub contact_id: ContactId,
    pub observation_id: ObservationId,
    pub primary_id: ContactId,
}

/// By a rule change, a secondary leads an identity again: alone, until others are linked to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContactPromoted {
    pub contact_id: ContactId,
    pub former_primary_id: ContactId,
}

/// By a rule change, an observation that is no contact is filed under another one, which belongs
/// to the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObservationMoved {
    pub contact_id: ContactId,
    pub observation_id: ObservationId,
    pub primary_id: ContactId,
}

/// An identity was erased: the personal data of these observations is gone. They are its contacts and
/// all observations that were filed under them, in order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContactErased {
    /// The primary.
    pub contact_id: ContactId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_by: Option<String>,
    pub observation_ids: Vec<ObservationId>,
    pub reason: ReasonCode,
}

/// The database had gone back in time, and it was accepted that later events are lost. Positions go on
/// with that of this event, and observations with `next_observation_id`, since the lost events may have
/// had those in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LedgerRestored {
    pub accepted_by: String,
    /// The root of the tree over all events before this one.
    pub new_root: Root,
    /// How many events that tree has.
    pub new_size: i64,
    pub next_observation_id: ObservationId,
    /// The root that the last checkpoint outside of the database was signed with.
    pub old_root: Root,
    /// The size that it was signed with.
    pub old_size: i64,
    pub reason: String,
}

impl Matched {
    /// The oldest contact that had the key, if it was known.
    pub fn holder(self) -> Option<ContactId> {
        match self {
            Self::HeldBy(holder) => Some(holder),
            Self::New | Self::NeverLinks => None,
        }
    }
}

impl ContactObserved {
    /// Whether the observation brought something new and so is a contact of its own.
    pub fn introduced(&self) -> bool {
        self.contact_id == ContactId::from(self.observation_id)
    }
}

impl Fact {
    pub const KINDS: [&'static str; 10] = [
        "RulesActivated",
        "ContactObserved",
        "ContactLinked",
        "PrimaryDemoted",
        "ContactIntroduced",
        "ContactRetired",
        "ContactPromoted",
        "ObservationMoved",
        "ContactErased",
        "LedgerRestored",
    ];

    pub fn kind(&self) -> &'static str {
        match self {
            Self::RulesActivated(_) => "RulesActivated",
            Self::ContactObserved(_) => "ContactObserved",
            Self::ContactLinked(_) => "ContactLinked",
            Self::PrimaryDemoted(_) => "PrimaryDemoted",
            Self::ContactIntroduced(_) => "ContactIntroduced",
            Self::ContactRetired(_) => "ContactRetired",
            Self::ContactPromoted(_) => "ContactPromoted",
            Self::ObservationMoved(_) => "ObservationMoved",
            Self::ContactErased(_) => "ContactErased",
            Self::LedgerRestored(_) => "LedgerRestored",
        }
    }

    /// The contact that the fact is about, or that an observation is filed under from here on.
    pub fn contact_id(&self) -> Option<ContactId> {
        match self {
            Self::RulesActivated(_) | Self::LedgerRestored(_) => None,
            Self::ContactObserved(observed) => Some(observed.contact_id),
            Self::ContactLinked(linked) => Some(linked.contact_id),
            Self::PrimaryDemoted(demoted) => Some(demoted.contact_id),
            Self::ContactIntroduced(introduced) => Some(introduced.contact_id),
            Self::ContactRetired(retired) => Some(retired.contact_id),
            Self::ContactPromoted(promoted) => Some(promoted.contact_id),
            Self::ObservationMoved(moved) => Some(moved.contact_id),
            Self::ContactErased(erased) => Some(erased.contact_id),
        }
    }

    pub fn observation_id(&self) -> Option<ObservationId> {
        match self {
            Self::RulesActivated(_)
            | Self::ContactLinked(_)
            | Self::ContactPromoted(_)
            | Self::ContactErased(_)
            | Self::LedgerRestored(_) => None,
            Self::ContactObserved(observed) => Some(observed.observation_id),
            Self::PrimaryDemoted(demoted) => demoted.observation_id,
            Self::ContactIntroduced(introduced) => Some(introduced.contact_id.into()),
            Self::ContactRetired(retired) => Some(retired.observation_id),
            Self::ObservationMoved(moved) => Some(moved.observation_id),
        }
    }

    /// The primary that leads the contact from here on, or that led the identity that was erased.
    pub fn primary_id(&self) -> Option<ContactId> {
        match self {
            Self::RulesActivated(_) | Self::LedgerRestored(_) => None,
            Self::ContactObserved(observed) => Some(observed.primary_id),
            Self::ContactLinked(linked) => Some(linked.primary_id),
            Self::PrimaryDemoted(demoted) => Some(demoted.primary_id),
            Self::ContactIntroduced(introduced) => Some(introduced.primary_id),
            Self::ContactRetired(retired) => Some(retired.primary_id),
            Self::ContactPromoted(promoted) => Some(promoted.contact_id),
            Self::ObservationMoved(moved) => Some(moved.primary_id),
            Self::ContactErased(erased) => Some(erased.contact_id),
        }
    }

    /// Reads a fact of this kind back. A member that is unknown, missing or of another type is an error.
    pub(super) fn parse(kind: &str, data: &str) -> Result<Self, CorruptLine> {
        Ok(match kind {
            "RulesActivated" => Self::RulesActivated(serde_json::from_str(data)?),
            "ContactObserved" => Self::ContactObserved(serde_json::from_str(data)?),
            "ContactLinked" => Self::ContactLinked(serde_json::from_str(data)?),
            "PrimaryDemoted" => Self::PrimaryDemoted(serde_json::from_str(data)?),
            "ContactIntroduced" => Self::ContactIntroduced(serde_json::from_str(data)?),
            "ContactRetired" => Self::ContactRetired(serde_json::from_str(data)?),
            "ContactPromoted" => Self::ContactPromoted(serde_json::from_str(data)?),
            "ObservationMoved" => Self::ObservationMoved(serde_json::from_str(data)?),
            "ContactErased" => Self::ContactErased(serde_json::from_str(data)?),
            "LedgerRestored" => Self::LedgerRestored(serde_json::from_str(data)?),
            _ => return Err(CorruptLine),
        })
    }
}
