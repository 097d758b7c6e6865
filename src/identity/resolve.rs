//! What an observation means.

use super::event::{ContactLinked, ContactObserved, Fact, Matched, PrimaryDemoted};
use super::id::ContactId;
use super::identities::Identities;
use super::observation::Observation;

/// Decides what an observation means, given the identities that hold its keys.
///
/// The first fact is always a `ContactObserved`. At most one decision follows it: a
/// `ContactLinked` where a known identity learns something new, or a `PrimaryDemoted`
/// where two identities turn out to be one customer.
pub fn resolve(known: &Identities, observation: &Observation) -> Vec<Fact> {
    let matched = |holder: Option<ContactId>| holder.map_or(Matched::New, Matched::HeldBy);
    let email = observation.keys.email.as_ref().map(|key| matched(known.email_holder(key)));
    let phone_number =
        observation.keys.phone_number.as_ref().map(|key| matched(known.phone_holder(key)));

    let own = ContactId::from(observation.id);
    let brings_news = [email, phone_number].contains(&Some(Matched::New));
    let holders = [email, phone_number].map(holder);
    let primaries = holders.map(|holder| holder.map(|holder| known.primary_of(holder)));
    let primary_id = primaries.into_iter().flatten().min().unwrap_or(own);

    let observed = Fact::ContactObserved(ContactObserved {
        commitment: observation.commitment,
        contact_id: match holders.into_iter().flatten().min() {
            Some(oldest_holder) if !brings_news => oldest_holder,
            _ => own,
        },
        email,
        observation_id: observation.id,
        phone_number,
        primary_id,
    });
    match (holders, primaries) {
        ([Some(by_email), Some(by_phone)], [Some(a), Some(b)]) if a != b => {
            let demoted = Fact::PrimaryDemoted(PrimaryDemoted {
                contact_id: a.max(b),
                holder_ids: [by_email, by_phone],
                observation_id: observation.id,
                primary_id,
            });
            vec![observed, demoted]
        }
        _ if brings_news && primary_id != own => {
            let linked = Fact::ContactLinked(ContactLinked { contact_id: own, primary_id });
            vec![observed, linked]
        }
        _ => vec![observed],
    }
}

fn holder(matched: Option<Matched>) -> Option<ContactId> {
    match matched {
        Some(Matched::HeldBy(holder)) => Some(holder),
        Some(Matched::New) | None => None,
    }
}
