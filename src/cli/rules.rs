//! `identity-ledger rules`: show, list, check, diff, activate.

use super::asking;
use super::config::{DatabaseConfig, Output, RulesActivation, RulesCommand, RulesDiff};
use super::impact;
use super::place::Place;
use super::say::{counted, say};
use crate::files;
use crate::identity::{Rules, rfc_3339};
use crate::ledger::{self, Activation};
use crate::rebuild::{self, Activated, ActivationRequest, Impact, Limits, Remap};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub async fn run(database: DatabaseConfig, command: RulesCommand) -> anyhow::Result<()> {
    match command {
        RulesCommand::Check { file, output } => check(&file, &output),
        RulesCommand::Show(output) => show(database, &output).await,
        RulesCommand::List(output) => list(database, &output).await,
        RulesCommand::Diff(command) => diff(database, command).await,
        RulesCommand::Activate(command) => activate(database, command).await,
    }
}

fn check(file: &Path, output: &Output) -> anyhow::Result<()> {
    let (rules, _) = read(file)?;
    if output.json {
        let described = json!({
            "name": rules.name(),
            "version": rules.version(),
            "digest": rules.digest().as_str(),
            "normaliser": rules.normaliser().unwrap_or_default(),
        });
        say!("{described:#}");
        return Ok(());
    }
    say!("{}: rules {} version {}", file.display(), rules.name(), rules.version());
    say!("digest {}", rules.digest().as_str());
    if let Some(normaliser) = rules.normaliser() {
        say!("keys made with {normaliser}");
    }
    Ok(())
}

async fn show(database: DatabaseConfig, output: &Output) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    let in_force = ledger::last_activation(&mut place.database.owner().await?).await?;
    if output.json {
        say!("{:#}", described(&in_force));
    } else {
        // On stderr: stdout is for the rules file alone.
        eprintln!("{}", line(&in_force));
        eprintln!("digest {}", in_force.rules.digest.as_str());
        if !in_force.normaliser.is_empty() {
            eprintln!("keys made with {}", in_force.normaliser);
        }
        eprintln!();
        say!("{}", in_force.document.trim_end());
    }
    place.close().await
}

async fn list(database: DatabaseConfig, output: &Output) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    let mut owner = place.database.owner().await?;
    let head = ledger::position(&mut owner).await?;
    let activations = ledger::activations(&mut owner, head).await?;
    if output.json {
        let all: Vec<_> = activations.iter().map(described).collect();
        say!("{:#}", Value::from(all));
    } else {
        for activation in &activations {
            say!("{}", line(activation));
        }
    }
    place.close().await
}

fn line(activation: &Activation) -> String {
    let rules = &activation.rules;
    format!(
        "{} version {} ({}) since position {} ({}) by {}: {}",
        rules.name,
        rules.version,
        impact::short(rules.digest.as_str()),
        activation.position,
        rfc_3339(activation.recorded_at),
        rules.activated_by,
        rules.reason
    )
}

fn described(activation: &Activation) -> Value {
    let rules = &activation.rules;
    json!({
        "name": rules.name,
        "version": rules.version,
        "digest": rules.digest.as_str(),
        "position": activation.position.get(),
        "recordedAt": rfc_3339(activation.recorded_at),
        "activatedBy": rules.activated_by,
        "reason": rules.reason,
        "normaliser": activation.normaliser,
        "document": activation.document,
    })
}

async fn diff(database: DatabaseConfig, command: RulesDiff) -> anyhow::Result<()> {
    let (rules, _) = read(&command.file)?;
    let remap = command.remap.as_deref();
    // Checked first: what cannot be written should not be computed.
    remap.map_or(Ok(()), check_remap)?;
    let place = Place::open_existing(database).await?;
    place.give_way();
    note_namesake(&place, &rules).await?;
    let impact = rebuild::impact(&place.database, rules).await?;
    if command.output.json {
        say!("{}", serde_json::to_string_pretty(&impact)?);
    } else {
        say!("{}", impact::Text(&impact));
    }
    if let Some(file) = remap {
        let csv = csv(&impact.remap);
        files::replace(file, csv.as_bytes(), files::PUBLIC)
            .with_context(|| files::cannot_write(file))?;
    }
    place.close().await?;
    within(&impact, &command.limits.limits())
}

/// Histories show rules by name and version: two of the same could not be told apart.
async fn note_namesake(place: &Place, rules: &Rules) -> anyhow::Result<()> {
    if ledger::has_namesake(&mut place.database.owner().await?, rules).await? {
        eprintln!(
            "note: the ledger has other rules named {} version {}; give these another name or version",
            rules.name(),
            rules.version()
        );
    }
    Ok(())
}

fn within(impact: &Impact, limits: &Limits) -> anyhow::Result<()> {
    let beyond = impact.beyond(limits);
    ensure!(beyond.is_empty(), "beyond the limits: {}", beyond.join("; "));
    Ok(())
}

/// Fails if the file could not be replaced at the end. Changes nothing.
fn check_remap(file: &Path) -> anyhow::Result<()> {
    ensure!(
        fs::symlink_metadata(file).map_or(true, |found| found.is_file()),
        "{} exists and is not a file; pass another name with --remap",
        file.display()
    );
    files::check_writable(file).with_context(|| files::cannot_write(file))
}

fn csv(remap: &Remap) -> String {
    let mut csv = "contact_id,old_primary_id,new_primary_id\n".to_owned();
    for [contact, old, new] in remap.entries() {
        csv += &format!("{contact},{old},{new}\n");
    }
    csv
}

async fn activate(database: DatabaseConfig, command: RulesActivation) -> anyhow::Result<()> {
    let (rules, document) = read(&command.file)?;
    let place = Place::open_existing(database).await?;
    place.give_way();
    rebuild::check_turn(&place.database).await?;
    let in_force = ledger::last_activation(&mut place.database.owner().await?).await?;
    if in_force.rules.digest == *rules.digest() {
        nothing_changed(&command.output)?;
        return place.close().await;
    }
    note_namesake(&place, &rules).await?;
    let impact = rebuild::impact(&place.database, rules.clone()).await?;
    match (command.output.json, command.yes) {
        (false, _) => say!("{}", impact::Text(&impact)),
        // stdout is for what was done, but the user who is asked must know what is to be done.
        (true, false) => eprintln!("{}", impact::Text(&impact)),
        (true, true) => {}
    }
    within(&impact, &command.limits.limits())?;
    let from = impact.from.digest.clone();
    // It holds two whole ledgers, which the activation would hold a second time.
    drop(impact);
    if !command.yes && !asking::confirmed("Activate these rules?", "activate the rules").await? {
        place.close().await?;
        bail!("not confirmed; nothing was changed");
    }
    let RulesActivation { operator, reason, output, .. } = command;
    let activated_by = operator.by.to_string();
    let request = ActivationRequest { from, rules, document, activated_by, reason };
    match rebuild::activate(&place.database, request).await? {
        Some(activated) => print_activated(&activated, &output)?,
        None => nothing_changed(&output)?,
    }
    place.close().await
}

fn nothing_changed(output: &Output) -> anyhow::Result<()> {
    if output.json {
        say!("{:#}", json!({"activated": false}));
    } else {
        say!("these rules are in force already; nothing was changed");
    }
    Ok(())
}

fn print_activated(activated: &Activated, output: &Output) -> anyhow::Result<()> {
    let pause_ms = activated.pause.as_millis();
    if output.json {
        let described = json!({
            "activated": true,
            "position": activated.position.get(),
            "events": activated.events_len,
            "contacts": activated.contacts_len,
            "pauseMs": u64::try_from(pause_ms).unwrap_or(u64::MAX),
        });
        say!("{described:#}");
    } else {
        say!(
            "activated at position {}: {}, {}; callers waited {pause_ms} ms",
            activated.position,
            counted(activated.events_len, "event"),
            counted(activated.contacts_len, "contact")
        );
    }
    Ok(())
}

/// The rules in a file, and the text of the file. Says which of its globs block nothing.
fn read(file: &Path) -> anyhow::Result<(Rules, String)> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the rules file {}", file.display()))?;
    match Rules::parse(&text) {
        Ok(rules) => {
            // No error: the ledger may have such rules already.
            for glob in rules.idle_globs() {
                eprintln!(
                    "note: {}: the glob {glob:?} in blocked matches no normal form and blocks nothing",
                    file.display()
                );
            }
            Ok((rules, text))
        }
        Err(error) => {
            let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
            bail!("{}{line}: {}", file.display(), error.message)
        }
    }
}
