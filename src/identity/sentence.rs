//! An event as one English sentence. It has no identifier, since an event has none.

use super::fact::{ContactObserved, Fact, Matched};
use super::identifier::{Email, PhoneNumber};

/// What happened, in one line.
pub fn sentence(fact: &Fact) -> String {
    match fact {
        Fact::RulesActivated(rules) => {
            let (name, version) = (&rules.name, rules.version);
            format!("The rules {name}, version {version}, are in force from here on.")
        }
        Fact::ContactObserved(observed) => observation(observed),
        Fact::ContactLinked(linked) => {
            format!("Contact {} belongs to contact {}.", linked.contact_id, linked.primary_id)
        }
        Fact::PrimaryDemoted(demoted) => {
            let (contact, primary) = (demoted.contact_id, demoted.primary_id);
            let moved =
                format!("contact {contact}, with all its secondaries, belongs to {primary}.");
            match (demoted.observation_id, demoted.holder_ids) {
                (Some(observation), Some([by_email, by_phone])) => format!(
                    "Observation {observation} has the email of contact {by_email} and the phone \
                     number of contact {by_phone}: {moved}"
                ),
                _ => format!("By the new rules, {moved}"),
            }
        }
        Fact::ContactIntroduced(introduced) => {
            let (contact, primary) = (introduced.contact_id, introduced.primary_id);
            if contact == primary {
                return format!(
                    "By the new rules, observation {contact} is a contact and leads a customer."
                );
            }
            format!(
                "By the new rules, observation {contact} is a contact and belongs to {primary}."
            )
        }
        Fact::ContactRetired(retired) => format!(
            "By the new rules, observation {} is no contact of its own: it is filed under \
             contact {}.",
            retired.observation_id, retired.contact_id
        ),
        Fact::ContactPromoted(promoted) => format!(
            "By the new rules, contact {} leads a customer of its own: it belonged to {}.",
            promoted.contact_id, promoted.former_primary_id
        ),
        Fact::ObservationMoved(moved) => format!(
            "By the new rules, observation {} is filed under contact {}.",
            moved.observation_id, moved.contact_id
        ),
        Fact::LedgerRestored(restored) => format!(
            "The database had gone back in time: of {} events that were signed, {} were left.",
            restored.old_size, restored.new_size
        ),
        Fact::ContactErased(erased) => {
            let (primary, ids) = (erased.contact_id, &erased.observation_ids);
            format!("Customer {primary} was erased; its observations: {}.", ids.len())
        }
    }
}

fn observation(observed: &ContactObserved) -> String {
    let ContactObserved { observation_id, contact_id, primary_id, .. } = observed;
    let fields = [(Email::FIELD, observed.email), (PhoneNumber::FIELD, observed.phone_number)];
    let fields = fields.into_iter().filter_map(|(field, matched)| Some((field, matched?)));
    let matches = fields.map(|(field, matched)| match matched {
        Matched::New => format!("{field} is new"),
        Matched::HeldBy(holder) => format!("{field} is that of contact {holder}"),
        Matched::NeverLinks => format!("{field} never links"),
    });
    let matches = matches.collect::<Vec<_>>().join(", ");
    if !observed.introduced() {
        return format!(
            "Observation {observation_id} brought nothing new: {matches}. It was answered with \
             customer {primary_id}."
        );
    }
    if contact_id == primary_id {
        return format!("Observation {observation_id} introduced a new customer: {matches}.");
    }
    format!(
        "Observation {observation_id} brought something new to customer {primary_id}: {matches}."
    )
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn check(line: &str, expected: &str) {
        let line =
            line.replace("{C}", r#""commitment":"vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=","#);
        let (kind, data) = line.split_once(' ').unwrap();
        let event = format!(
            r#"{{"data":{data},"kind":"{kind}","position":1,"recordedAt":"2026-11-01T12:00:00Z"}}"#
        );
        assert_eq!(sentence(&Event::parse(&event).unwrap().fact), expected);
    }

    #[test]
    fn every_kind_of_event_reads_as_a_sentence() {
        check(
            r#"ContactObserved {{C}"contactId":1,"email":"new","observationId":1,"phoneNumber":"neverLinks","primaryId":1}"#,
            "Observation 1 introduced a new customer: email is new, phoneNumber never links.",
        );
        check(
            r#"ContactObserved {{C}"contactId":5,"email":"new","observationId":5,"phoneNumber":{"heldBy":3},"primaryId":1}"#,
            "Observation 5 brought something new to customer 1: email is new, phoneNumber is that \
             of contact 3.",
        );
        check(
            r#"ContactObserved {{C}"contactId":3,"email":{"heldBy":3},"observationId":6,"primaryId":1}"#,
            "Observation 6 brought nothing new: email is that of contact 3. It was answered with \
             customer 1.",
        );
        check(r#"ContactLinked {"contactId":5,"primaryId":1}"#, "Contact 5 belongs to contact 1.");
        check(
            r#"PrimaryDemoted {"contactId":4,"holderIds":[2,4],"observationId":9,"primaryId":1}"#,
            "Observation 9 has the email of contact 2 and the phone number of contact 4: contact 4, \
             with all its secondaries, belongs to 1.",
        );
        check(
            r#"PrimaryDemoted {"contactId":4,"primaryId":1}"#,
            "By the new rules, contact 4, with all its secondaries, belongs to 1.",
        );
        check(
            r#"ContactPromoted {"contactId":4,"formerPrimaryId":1}"#,
            "By the new rules, contact 4 leads a customer of its own: it belonged to 1.",
        );
        check(
            r#"ContactIntroduced {"contactId":4,"primaryId":1}"#,
            "By the new rules, observation 4 is a contact and belongs to 1.",
        );
        check(
            r#"ContactIntroduced {"contactId":4,"primaryId":4}"#,
            "By the new rules, observation 4 is a contact and leads a customer.",
        );
        check(
            r#"ContactRetired {"contactId":2,"observationId":4,"primaryId":1}"#,
            "By the new rules, observation 4 is no contact of its own: it is filed under contact 2.",
        );
        check(
            r#"ObservationMoved {"contactId":2,"observationId":4,"primaryId":1}"#,
            "By the new rules, observation 4 is filed under contact 2.",
        );
        check(
            r#"RulesActivated {"activatedBy":"ops","digest":"a8c477753941a1b4460e17faf14a14bed3daa1312e45e2ad544e737d7e933336","name":"default","reason":"r","version":1}"#,
            "The rules default, version 1, are in force from here on.",
        );
        check(
            r#"LedgerRestored {"acceptedBy":"ops","newRoot":"vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=","newSize":7,"nextObservationId":1000010,"oldRoot":"vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=","oldSize":10,"reason":"r"}"#,
            "The database had gone back in time: of 10 events that were signed, 7 were left.",
        );
        check(
            r#"ContactErased {"contactId":2,"observationIds":[2,4,5],"reason":"customer-request"}"#,
            "Customer 2 was erased; its observations: 3.",
        );
    }
}
