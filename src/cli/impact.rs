//! What a rule change would do, for people to read.

use super::say::say;
use crate::rebuild::{Changed, GainedAndLost, Growth, Impact};
use std::io;

pub fn print(impact: &Impact) -> io::Result<()> {
    let Impact { from, to, position, contacts, identities, primaries, .. } = impact;
    say!("from   {} version {} ({})", from.name, from.version, short(&from.digest));
    say!("to     {} version {} ({})", to.name, to.version, short(&to.digest));
    say!("as of  position {position}\n");
    say!("contacts    {} before, {} after", contacts.before, contacts.after);
    say!(
        "            {} unchanged, {} moved, {} introduced, {} retired",
        contacts.unchanged,
        contacts.moved,
        contacts.introduced,
        contacts.retired
    );
    say!("identities  {} before, {} after", identities.before, identities.after);
    say!("            {} merged from several, {} split", identities.merged, identities.split);
    say!("primaries   {} demoted, {} promoted", primaries.demoted, primaries.promoted);
    print_keys(impact)?;
    print_sizes(impact)?;
    print_growing(&impact.growing)?;
    if impact.is_none() {
        say!("\nThese are the rules in force: there is nothing to activate.");
    } else {
        let Impact { events, pause_ms, .. } = impact;
        say!("\nActivating this appends {events} events; callers wait about {pause_ms} ms.");
    }
    Ok(())
}

fn short(digest: &str) -> &str {
    &digest[..digest.len().min(12)]
}

fn print_keys(impact: &Impact) -> io::Result<()> {
    let (Some(links), Some(keys)) = (&impact.links, &impact.keys) else {
        say!("links       not known: this binary cannot make the keys of the rules in force");
        return Ok(());
    };
    let link = |GainedAndLost { gained, lost }: &GainedAndLost| format!("+{gained} -{lost}");
    say!("links       email {}, phone {}", link(&links.email), link(&links.phone_number));
    print_changed("emails newly blocked", &keys.email.newly_blocked)?;
    print_changed("phone numbers newly blocked", &keys.phone_number.newly_blocked)?;
    print_changed("email keys changed", &keys.email.changed)?;
    print_changed("phone keys changed", &keys.phone_number.changed)?;
    Ok(())
}

fn print_changed(what: &str, changed: &Changed) -> io::Result<()> {
    if changed.count == 0 {
        return Ok(());
    }
    say!("{what}: {}", changed.count);
    for example in &changed.examples {
        say!("  {}: {} -> {}", example.value, example.before, example.after);
    }
    Ok(())
}

fn print_sizes(impact: &Impact) -> io::Result<()> {
    if impact.sizes.is_empty() {
        return Ok(());
    }
    say!("\ncontacts of an identity    before     after");
    for bucket in &impact.sizes {
        let range = match bucket.from == bucket.to {
            true => bucket.to.to_string(),
            false => format!("{} to {}", bucket.from, bucket.to),
        };
        say!("  {range:>21} {:>9} {:>9}", bucket.before, bucket.after);
    }
    let (before, after) = (&impact.largest_before, &impact.largest_after);
    say!(
        "largest: {} contacts (primary {}) before, {} (primary {}) after",
        before.contacts,
        before.primary_contact_id,
        after.contacts,
        after.primary_contact_id
    );
    Ok(())
}

fn print_growing(growing: &[Growth]) -> io::Result<()> {
    if growing.is_empty() {
        return Ok(());
    }
    say!("\nidentities that grow most");
    for growth in growing {
        let bridge = growth.bridge.as_ref().map_or(String::new(), |bridge| {
            format!(", bridged by the {} {}", bridge.identifier, bridge.key)
        });
        say!(
            "  primary {}: {} to {} contacts{bridge}",
            growth.primary_contact_id,
            growth.contacts_before,
            growth.contacts_after
        );
    }
    Ok(())
}
