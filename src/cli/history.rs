//! `identity-ledger history`: the events of a customer as a timeline.

use super::config::{DatabaseConfig, HistoryConfig};
use super::place::Place;
use super::say::CANNOT_WRITE;
use crate::audit::{Auditor, Happened};
use crate::identity::{Field, Position, rfc_3339};
use anyhow::{Context as _, ensure};
use std::io::{self, Write, stdout};

const PAGE_LEN: i64 = 1_000;

/// Prints each event on a line of its own: when it happened and what it says. Below it comes what was
/// observed.
pub async fn history(database: DatabaseConfig, config: HistoryConfig) -> anyhow::Result<()> {
    let place = Place::open_existing(database).await?;
    let auditor = Auditor::new(&place.database);
    let id = config.id;
    let mut after = Position::default();
    loop {
        let page = auditor.history(id, after, PAGE_LEN).await?;
        ensure!(!auditor.is_erased(id).await?, "the customer of observation {id} was erased");
        let page = page.with_context(|| format!("no observation has the number {id} yet"))?;
        let printed = page.iter().try_for_each(|happened| print(&mut stdout().lock(), happened));
        printed.context(CANNOT_WRITE)?;
        match page.last() {
            Some(last) if page.len() as i64 == PAGE_LEN => after = last.row.position,
            _ => break,
        }
    }
    auditor.close().await;
    place.close().await
}

fn print(out: &mut impl Write, happened: &Happened) -> io::Result<()> {
    let Happened { row, event, rules, reading } = happened;
    let time = rfc_3339(event.recorded_at);
    let rules = format!("rules {} {}", rules.name, rules.version);
    writeln!(out, "{:>8}  {time}  {rules}  {reading}", row.position.get())?;
    let observed = [(Field::Email, &row.email), (Field::PhoneNumber, &row.phone_number)];
    for (field, value) in observed {
        if let Some(value) = value {
            writeln!(out, "{:>8}  {} {value}", "", field.name())?;
        }
    }
    Ok(())
}
