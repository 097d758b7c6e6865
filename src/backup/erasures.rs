//! Erases again the customers whom a lost ledger had erased, as an export of it says.

use crate::erasure::{self, NotErased};
use crate::export::{CHECKPOINT, EVENTS, watched_lines};
use crate::identity::{ContactErased, Event, Fact, ObservationId, ReasonCode};
use crate::ledger::Database;
use crate::progress::Progress;
use crate::seal::{Tree, TreeHead, VerifierKeys};
use crate::threads::on_a_thread;
use crate::verify::verify_folder;
use anyhow::{Context as _, bail, ensure};
use std::collections::HashSet;
use std::fs::read_to_string;
use std::path::Path;
use tlog_tiles::record_hash;

/// The customers to erase again.
pub struct ToErase {
    /// How many events the export has.
    pub events_len: u64,
    /// An observation of each customer who is back, and why the customer was erased.
    pub customers: Vec<(ObservationId, ReasonCode)>,
}

/// What an export says.
struct Told {
    events_len: u64,
    /// The tree over as many of its events as are left.
    common: TreeHead,
    lost: Vec<ContactErased>,
}

/// The customers whom the export says were erased, and who are not erased here. Fails if the export is not
/// what was signed with these keys, if it does not begin with exactly what is left, or if another customer
/// would be erased, too. Changes nothing.
pub async fn to_erase(
    database: &Database,
    export: &Path,
    keys: &VerifierKeys,
    left: TreeHead,
) -> anyhow::Result<ToErase> {
    let told = {
        let (export, keys) = (export.to_owned(), keys.clone());
        on_a_thread(move || read(&export, &keys, left.size)).await
    };
    let told = told.with_context(|| {
        let export = export.display();
        format!("{export} cannot be used; pass an export that verify finds right")
    })?;
    ensure!(
        told.common == left,
        "the {} events that are left are not the first ones in {}: the export is of another ledger, or \
         something was recorded here after the database had gone back in time, or what is left was \
         rewritten; drop the ledger, restore a backup of it, and do this before anything else",
        left.size,
        export.display()
    );
    let customers = who_is_back(database, &told.lost).await?;
    Ok(ToErase { events_len: told.events_len, customers })
}

/// Erases them. Returns how many there were.
pub async fn erase_again(
    database: &Database,
    customers: &[(ObservationId, ReasonCode)],
    by: &str,
) -> anyhow::Result<usize> {
    let mut progress = Progress::of("erasing again", customers.len());
    for (n, (id, reason)) in (1_usize..).zip(customers) {
        match erasure::erase(database, *id, None, reason, Some(by)).await {
            Ok(_) | Err(NotErased::AlreadyErased) => {}
            Err(error) => {
                return Err(error).context("not all customers are erased again; try again");
            }
        }
        progress.at(n);
    }
    // If it is too early to sweep, the service does it later.
    let _ = erasure::sweep(database).await?;
    Ok(customers.len())
}

fn read(export: &Path, keys: &VerifierKeys, left: u64) -> anyhow::Result<Told> {
    let note = export.join(CHECKPOINT);
    let note = read_to_string(&note).with_context(|| format!("cannot read {}", note.display()))?;
    // The database may have lost the event that gave the log the name of this checkpoint.
    let verified = verify_folder(export, &keys.as_in(&note), None, None)?.head;
    let (mut tree, mut common, mut lost) = (Tree::default(), Tree::default().head(), Vec::new());
    for line in watched_lines(&export.join(EVENTS), "reading erasures (MB)")? {
        let line = line?;
        tree.push(record_hash(line.as_bytes()), &mut Vec::new());
        if tree.size() == left {
            common = tree.head();
        } else if tree.size() > left
            && line.contains(r#""kind":"ContactErased""#)
            // Most lines have another kind, and parsing takes long.
            && let Fact::ContactErased(erased) = Event::parse(&line)?.fact
        {
            lost.push(erased);
        }
    }
    ensure!(
        tree.head() == verified,
        "{EVENTS} was written to while it was read: try again when nobody writes to it"
    );
    let events_len = verified.size;
    ensure!(
        events_len > left,
        "it has {events_len} events, and here are {left}: it names no erasure that is missing here; pass a \
         newer one, or --no-erasures"
    );
    Ok(Told { events_len, common, lost })
}

/// The erased customers who have an observation that is left here and is not erased. Fails if one of them is
/// one customer here with another whom the lost ledger had not erased, since a rule change that split the two
/// is lost: customers are erased as a whole.
async fn who_is_back(
    database: &Database,
    lost: &[ContactErased],
) -> anyhow::Result<Vec<(ObservationId, ReasonCode)>> {
    let mut eraser = database.eraser().await?;
    let named: HashSet<_> = lost.iter().flat_map(|erased| &erased.observation_ids).collect();
    let (mut back, mut seen) = (Vec::new(), HashSet::new());
    let mut progress = Progress::of("looking erased customers up", lost.len());
    for (n, erasure) in (1_usize..).zip(lost) {
        for id in &erasure.observation_ids {
            if seen.contains(id) {
                continue;
            }
            let Some(held) = erasure::held(&mut eraser, *id).await? else { continue };
            let other = held.observations.iter().find(|held| !named.contains(&held.id));
            if let Some(other) = other.filter(|_| !held.is_erased()) {
                bail!(
                    "observation {id} was erased, and is one customer here with observation {}, \
                     which was not: accept the loss with --no-erasures, activate the rules that the \
                     export ends with, and then erase the customers that its events name",
                    other.id
                );
            }
            if !held.is_erased() {
                back.push((*id, erasure.reason.clone()));
            }
            seen.extend(held.observations.iter().map(|observation| observation.id));
        }
        progress.at(n);
    }
    Ok(back)
}
