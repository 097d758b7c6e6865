//! What a rule change would do, as text.

use super::say::counted;
use crate::rebuild::{Changed, GainedAndLost, Growth, Impact};
use std::fmt::{self, Display, Formatter};

pub struct Text<'a>(pub &'a Impact);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(impact) = self;
        let Impact { from, to, position, contacts, identities, primaries, .. } = impact;
        writeln!(f, "from   {} version {} ({})", from.name, from.version, short(&from.digest))?;
        writeln!(f, "to     {} version {} ({})", to.name, to.version, short(&to.digest))?;
        writeln!(f, "as of  position {position}\n")?;
        writeln!(f, "contacts    {} before, {} after", contacts.before, contacts.after)?;
        writeln!(
            f,
            "            {} unchanged, {} moved, {} introduced, {} retired",
            contacts.unchanged, contacts.moved, contacts.introduced, contacts.retired
        )?;
        writeln!(f, "identities  {} before, {} after", identities.before, identities.after)?;
        writeln!(
            f,
            "            {} merged from several, {} split",
            identities.merged, identities.split
        )?;
        writeln!(f, "primaries   {} demoted, {} promoted", primaries.demoted, primaries.promoted)?;
        write_keys(f, impact)?;
        write_sizes(f, impact)?;
        write_growing(f, &impact.growing)?;
        if impact.is_none() {
            return write!(f, "\nThese are the rules in force: there is nothing to activate.");
        }
        let Impact { events, pause_ms, .. } = impact;
        let events = counted(events, "event");
        write!(f, "\nActivating this appends {events}; callers wait about {pause_ms} ms.")
    }
}

/// The beginning of a digest: enough to tell a few rule sets apart.
pub fn short(digest: &str) -> &str {
    &digest[..digest.len().min(12)]
}

fn write_keys(f: &mut Formatter<'_>, impact: &Impact) -> fmt::Result {
    let (Some(links), Some(keys)) = (&impact.links, &impact.keys) else {
        let why = "this binary cannot make the keys of the rules in force";
        return writeln!(f, "links       not known: {why}");
    };
    let link = |GainedAndLost { gained, lost }: &GainedAndLost| format!("+{gained} -{lost}");
    writeln!(f, "links       email {}, phone {}", link(&links.email), link(&links.phone_number))?;
    write_changed(f, "emails newly blocked", &keys.email.newly_blocked)?;
    write_changed(f, "phone numbers newly blocked", &keys.phone_number.newly_blocked)?;
    write_changed(f, "email keys changed", &keys.email.changed)?;
    write_changed(f, "phone keys changed", &keys.phone_number.changed)?;
    Ok(())
}

fn write_changed(f: &mut Formatter<'_>, what: &str, changed: &Changed) -> fmt::Result {
    if changed.count == 0 {
        return Ok(());
    }
    writeln!(f, "{what}: {}", changed.count)?;
    for example in &changed.examples {
        writeln!(f, "  {}: {} -> {}", example.value, example.before, example.after)?;
    }
    Ok(())
}

fn write_sizes(f: &mut Formatter<'_>, impact: &Impact) -> fmt::Result {
    if impact.sizes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\ncontacts of an identity    before     after")?;
    for bucket in &impact.sizes {
        let range = match bucket.from == bucket.to {
            true => bucket.to.to_string(),
            false => format!("{} to {}", bucket.from, bucket.to),
        };
        writeln!(f, "  {range:>21} {:>9} {:>9}", bucket.before, bucket.after)?;
    }
    let (before, after) = (&impact.largest_before, &impact.largest_after);
    writeln!(
        f,
        "largest: {} (primary {}) before, {} (primary {}) after",
        counted(before.contacts, "contact"),
        before.primary_contact_id,
        after.contacts,
        after.primary_contact_id
    )?;
    Ok(())
}

fn write_growing(f: &mut Formatter<'_>, growing: &[Growth]) -> fmt::Result {
    if growing.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nidentities that grow most")?;
    for growth in growing {
        let identities = match growth.identities {
            0 | 1 => String::new(),
            several => format!(", of {several} identities"),
        };
        let bridge = growth.bridge.as_ref().map_or(String::new(), |bridge| {
            format!(", bridged by the {} {}", bridge.identifier, bridge.key)
        });
        writeln!(
            f,
            "  primary {}: {} to {}{identities}{bridge}",
            growth.primary_contact_id,
            growth.contacts_before,
            counted(growth.contacts_after, "contact")
        )?;
    }
    Ok(())
}
