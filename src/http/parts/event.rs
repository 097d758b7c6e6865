//! The lines of events, as the OpenAPI document describes them: clients are generated from it. The lines
//! themselves are written by `identity`, and sent as they were recorded.

use super::schema::{number, text};
use std::borrow::Cow;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, Discriminator, KnownFormat, OneOfBuilder, Schema, SchemaFormat,
};
use utoipa::openapi::{ObjectBuilder, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

const MATCH: &str = "Match";

/// Stands for a line in the types of answers.
pub struct EventLine;

impl ToSchema for EventLine {
    fn name() -> Cow<'static, str> {
        "Event".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let events = kinds().map(|kind| (kind.name.to_owned(), kind.event().into()));
        schemas.extend(events);
        schemas.push((MATCH.to_owned(), a_match().into()));
    }
}

impl PartialSchema for EventLine {
    /// Each kind is a schema of that name. Some generators need a mapping that says so.
    fn schema() -> RefOr<Schema> {
        let description = "The event exactly as it was recorded. Its `kind` says which members \
            `data` has. Later versions may add kinds.";
        let events = kinds().map(|kind| (kind.name, Ref::from_schema_name(kind.name)));
        let mapping = events.clone().map(|(name, event)| (name, event.ref_location));
        events
            .into_iter()
            .fold(OneOfBuilder::new(), |one_of, (_, event)| one_of.item(event))
            .discriminator(Some(Discriminator::with_mapping("kind", mapping)))
            .description(Some(description))
            .into()
    }
}

/// What `data` has in events of one kind.
struct Kind {
    name: &'static str,
    description: &'static str,
    data: ObjectBuilder,
}

fn kinds() -> [Kind; 10] {
    [
        Kind::new("RulesActivated", "These rules are in force from here on.")
            .with("activatedBy", text())
            .with("digest", text())
            .with("name", text())
            .with("reason", text())
            .with("version", number(KnownFormat::Int32)),
        Kind::new(
            "ContactObserved",
            "An observation was recorded, and filed under `contactId`: its own number if it brought \
             something new. `primaryId` leads the customer that it was answered with. `askedBy` is the name \
             of the token, if there are tokens. `commitment` is the salted hash of what was observed.",
        )
        .may_have("askedBy", text())
        .with("commitment", text())
        .with("contactId", id())
        .may_have("email", Ref::from_schema_name(MATCH))
        .with("observationId", id())
        .may_have("phoneNumber", Ref::from_schema_name(MATCH))
        .with("primaryId", id()),
        Kind::new("ContactLinked", "A contact is a secondary of a primary.")
            .with("contactId", id())
            .with("primaryId", id()),
        Kind::new(
            "PrimaryDemoted",
            "A primary, with all its secondaries, belongs to an older one from here on. The observation \
             bridged them by matching the two holders, the email's first; after a rule change both are \
             absent.",
        )
        .with("contactId", id())
        .may_have("holderIds", ids().min_items(Some(2)).max_items(Some(2)))
        .may_have("observationId", id())
        .with("primaryId", id()),
        Kind::new(
            "ContactIntroduced",
            "By a rule change, an observation is a contact of its own, of the customer that the primary \
             leads, which may be itself.",
        )
        .with("contactId", id())
        .with("primaryId", id()),
        Kind::new(
            "ContactRetired",
            "By a rule change, an observation is no longer a contact. It is filed under another one.",
        )
        .with("contactId", id())
        .with("observationId", id())
        .with("primaryId", id()),
        Kind::new("ContactPromoted", "By a rule change, a secondary leads a customer again, alone.")
            .with("contactId", id())
            .with("formerPrimaryId", id()),
        Kind::new(
            "ObservationMoved",
            "By a rule change, an observation that is no contact is filed under another one.",
        )
        .with("contactId", id())
        .with("observationId", id())
        .with("primaryId", id()),
        Kind::new(
            "ContactErased",
            "The customer that the contact led was erased: the personal data of these observations is \
             gone. `reason` is a code.",
        )
        .with("contactId", id())
        .may_have("erasedBy", text())
        .with("observationIds", ids())
        .with("reason", text()),
        Kind::new(
            "LedgerRestored",
            "The database had gone back in time, and later events are lost: what was signed of the tree, \
             and what is left of it. Before this event positions have a gap.",
        )
        .with("acceptedBy", text())
        .with("newRoot", text())
        .with("newSize", number(KnownFormat::Int64))
        .with("nextObservationId", id())
        .with("oldRoot", text())
        .with("oldSize", number(KnownFormat::Int64))
        .with("reason", text()),
    ]
}

impl Kind {
    fn new(name: &'static str, description: &'static str) -> Self {
        Self { name, description, data: ObjectBuilder::new() }
    }

    fn may_have(self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        Self { data: self.data.property(name, schema), ..self }
    }

    fn with(self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let described = self.may_have(name, schema);
        Self { data: described.data.required(name), ..described }
    }

    /// The whole event.
    fn event(self) -> Schema {
        let Self { name, description, data } = self;
        let members: [(&str, RefOr<Schema>); 4] = [
            ("data", data.into()),
            ("kind", text().enum_values(Some([name])).into()),
            ("position", id().into()),
            (
                "recordedAt",
                text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into(),
            ),
        ];
        let event = members.into_iter().fold(ObjectBuilder::new(), |event, (name, schema)| {
            event.property(name, schema).required(name)
        });
        event.description(Some(description)).into()
    }
}

fn a_match() -> Schema {
    let held = ObjectBuilder::new().property("heldBy", id()).required("heldBy");
    AnyOfBuilder::new()
        .item(text().enum_values(Some(["new", "neverLinks"])))
        .item(held)
        .description(Some(
            "Whether the key of an identifier was known when it was observed, and the oldest contact that \
             held it; or `neverLinks`: the rules say that it links no contacts.",
        ))
        .into()
}

fn id() -> ObjectBuilder {
    number(KnownFormat::Int64).minimum(Some(1))
}

fn ids() -> ArrayBuilder {
    ArrayBuilder::new().items(id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::test_ledger::EVERY_MEMBER;
    use crate::identity::{Event, Fact};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn is_event(kind: &str, data: &Value) -> bool {
        let event = json!({
            "data": data,
            "kind": kind,
            "position": 3,
            "recordedAt": "1970-01-01T00:00:03.000000Z",
        });
        Event::parse(&event.to_string()).is_ok()
    }

    fn names(members: &Value) -> BTreeSet<&String> {
        members.as_object().unwrap().keys().collect()
    }

    fn json_type(value: &Value) -> &str {
        match value {
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            _ => "another",
        }
    }

    #[test]
    fn each_kind_is_described_with_the_members_that_it_has() {
        let described = kinds();
        assert_eq!(described.each_ref().map(|kind| kind.name), Fact::KINDS);
        for (kind, data) in described.into_iter().zip(EVERY_MEMBER) {
            let name = kind.name;
            let data: Value = serde_json::from_str(data).unwrap();
            let schema = serde_json::to_value(kind.data.build()).unwrap();
            assert_eq!(names(&schema["properties"]), names(&data), "{name}");
            assert!(is_event(name, &data), "{name}");
            for (member, value) in data.as_object().unwrap() {
                let required = schema["required"].as_array().unwrap().contains(&json!(member));
                let mut rest = data.clone();
                rest.as_object_mut().unwrap().remove(member);
                assert_eq!(is_event(name, &rest), !required, "{name} without {member}");
                let property = &schema["properties"][member];
                if property["$ref"].is_null() {
                    assert_eq!(property["type"], json_type(value), "{name}: {member}");
                }
            }
        }
    }
}
