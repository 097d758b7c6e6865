//! `identity-ledger why`: what links two observations.

use super::config::{DatabaseConfig, WhyConfig};
use super::place::Place;
use super::say::{CANNOT_WRITE, counted_with};
use crate::audit::{Auditor, LinkingRules, Relation, Why};
use crate::identity::{
    Chain, Chained, Email, ObservationId, PhoneNumber, Rules, SharedIdentifier, Unlinked, rfc_3339,
};
use anyhow::{Context as _, bail};
use std::collections::BTreeSet;
use std::io::{self, Write, stdout};

/// Prints whether the two are linked, and the chain that links them or what keeps them apart.
pub async fn why(database: DatabaseConfig, config: WhyConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    let auditor = Auditor::new(&place.database);
    let position = match config.as_of {
        None => auditor.position().await?,
        Some(moment) => auditor
            .position_at(moment)
            .await?
            .context("the ledger has not come that far; ask for an earlier moment")?,
    };
    let ids = [config.one, config.other];
    let told = move |why: &Why| {
        let mut text = Vec::new();
        print(&mut text, why, ids).map(|()| text)
    };
    let told = auditor.why(ids, position, told).await?;
    if let Some(place) = auditor.first_erased(&ids).await? {
        bail!("the customer of observation {} was erased", ids[place]);
    }
    let Some(told) = told else {
        let mut missing = BTreeSet::new();
        for id in ids {
            if auditor.identity_at(id, position).await?.is_none() {
                missing.insert(id);
            }
        }
        let missing: Vec<_> = missing.iter().map(ObservationId::to_string).collect();
        bail!("no observation has the number {} at position {position}", missing.join(" or "));
    };
    stdout().write_all(&told?).context(CANNOT_WRITE)?;
    auditor.close().await;
    place.close().await
}

fn print(out: &mut impl Write, why: &Why, [one, other]: [ObservationId; 2]) -> anyhow::Result<()> {
    let at = format!("at position {}, under the rules {}", why.position, named(&why.rules));
    let [primary, other_primary] = why.primary_ids;
    match &why.relation {
        Relation::Linked(chain) => {
            writeln!(out, "{one} and {other} are one customer, {primary}, {at}.")?;
            match chain {
                Some(chain) => print_chain(out, why, chain)?,
                None => writeln!(
                    out,
                    "No chain is left: this is within a rule change, whose links are on their \
                         way, or it led through what was erased."
                )?,
            }
        }
        Relation::Apart { never_linking, linking_rules } => {
            writeln!(
                out,
                "{one} and {other} are two customers, {primary} and {other_primary}, {at}."
            )?;
            never_linking.iter().try_for_each(|unlinked| print_unlinked(out, unlinked))?;
            for LinkingRules { rules, chain } in linking_rules {
                if rules.digest() == why.rules.digest() {
                    writeln!(
                        out,
                        "This is within a request or a rule change, whose links are still to come."
                    )?;
                }
                writeln!(out, "Under the rules {} they would be one:", named(rules))?;
                print_chain(out, why, chain)?;
            }
            if never_linking.is_empty() && linking_rules.is_empty() {
                writeln!(out, "Nothing that is known of them links them, under any rules.")?;
            }
        }
    }
    Ok(())
}

fn print_chain(out: &mut impl Write, why: &Why, chain: &Chain) -> anyhow::Result<()> {
    let mut shared = chain.shared.iter();
    for chained in &chain.observations {
        print_step(out, why, chained)?;
        if let Some(SharedIdentifier { field, key, contacts_len, is_bridge }) = shared.next() {
            writeln!(
                out,
                "    shares the {} {}, which {}{}, with",
                field.name(),
                key.as_str(),
                counted_with(contacts_len, "contact", ["has", "have"]),
                if *is_bridge { " (without it they fall apart)" } else { "" }
            )?;
        }
    }
    Ok(())
}

fn print_step(
    out: &mut impl Write,
    why: &Why,
    Chained { id, is_bridge }: &Chained,
) -> anyhow::Result<()> {
    let observed = why.observed(*id);
    let rules = why.rules_of(*id)?;
    let what = if why.is_contact(*id) { "contact" } else { "observation" };
    let identifiers = observed.identifiers.as_ref();
    let email = identifiers.and_then(|it| it.email()).map(Email::as_str);
    let number = identifiers.and_then(|it| it.phone_number()).map(PhoneNumber::as_str);
    let values: Vec<_> = [email, number].into_iter().flatten().collect();
    writeln!(
        out,
        "  {what} {id}: {} (position {}, {}, rules {} {}){}",
        values.join(", "),
        observed.position,
        rfc_3339(observed.recorded_at),
        rules.name,
        rules.version,
        if *is_bridge { " (without it they fall apart)" } else { "" }
    )?;
    Ok(())
}

fn print_unlinked(
    out: &mut impl Write,
    Unlinked { field, key, contacts_len, observations: [one, other] }: &Unlinked,
) -> io::Result<()> {
    writeln!(
        out,
        "Observations {one} and {other} have the {} {}, which never links; {} it.",
        field.name(),
        key.as_str(),
        counted_with(contacts_len, "contact", ["has", "have"])
    )
}

fn named(rules: &Rules) -> String {
    format!("{} {}", rules.name(), rules.version())
}
