//! What a rule change would do, for people to read.

use crate::rebuild::{Changed, GainedAndLost, Growth, Impact};

pub fn print(impact: &Impact) {
    let Impact { from, to, position, contacts, identities, primaries, .. } = impact;
    println!("from   {} version {} ({})", from.name, from.version, short(&from.digest));
    println!("to     {} version {} ({})", to.name, to.version, short(&to.digest));
    println!("as of  position {position}\n");
    println!("contacts    {} before, {} after", contacts.before, contacts.after);
    println!(
        "            {} unchanged, {} moved, {} introduced, {} retired",
        contacts.unchanged, contacts.moved, contacts.introduced, contacts.retired
    );
    println!("identities  {} before, {} after", identities.before, identities.after);
    println!("            {} merged from several, {} split", identities.merged, identities.split);
    println!("primaries   {} demoted, {} promoted", primaries.demoted, primaries.promoted);
    print_keys(impact);
    print_sizes(impact);
    print_growing(&impact.growing);
    if impact.is_none() {
        println!("\nThese are the rules in force: there is nothing to activate.");
    } else {
        let Impact { events, pause_ms, .. } = impact;
        println!("\nActivating this appends {events} events; callers wait about {pause_ms} ms.");
    }
}

fn short(digest: &str) -> &str {
    &digest[..digest.len().min(12)]
}

fn print_keys(impact: &Impact) {
    let (Some(links), Some(keys)) = (&impact.links, &impact.keys) else {
        println!("links       not known: this binary cannot make the keys of the rules in force");
        return;
    };
    let link = |GainedAndLost { gained, lost }: &GainedAndLost| format!("+{gained} -{lost}");
    println!("links       email {}, phone {}", link(&links.email), link(&links.phone_number));
    print_changed("emails newly blocked", &keys.email.newly_blocked);
    print_changed("phone numbers newly blocked", &keys.phone_number.newly_blocked);
    print_changed("email keys changed", &keys.email.changed);
    print_changed("phone keys changed", &keys.phone_number.changed);
}

fn print_changed(what: &str, changed: &Changed) {
    if changed.count == 0 {
        return;
    }
    println!("{what}: {}", changed.count);
    for example in &changed.examples {
        println!("  {}: {} -> {}", example.value, example.before, example.after);
    }
}

fn print_sizes(impact: &Impact) {
    if impact.sizes.is_empty() {
        return;
    }
    println!("\ncontacts of an identity    before     after");
    for bucket in &impact.sizes {
        let range = match bucket.from == bucket.to {
            true => bucket.to.to_string(),
            false => format!("{} to {}", bucket.from, bucket.to),
        };
        println!("  {range:>21} {:>9} {:>9}", bucket.before, bucket.after);
    }
    let (before, after) = (&impact.largest_before, &impact.largest_after);
    println!(
        "largest: {} contacts (primary {}) before, {} (primary {}) after",
        before.contacts, before.primary_contact_id, after.contacts, after.primary_contact_id
    );
}

fn print_growing(growing: &[Growth]) {
    if growing.is_empty() {
        return;
    }
    println!("\nidentities that grow most");
    for growth in growing {
        let bridge = growth.bridge.as_ref().map_or(String::new(), |bridge| {
            format!(", bridged by the {} {}", bridge.identifier, bridge.key)
        });
        println!(
            "  primary {}: {} to {} contacts{bridge}",
            growth.primary_contact_id, growth.contacts_before, growth.contacts_after
        );
    }
}
