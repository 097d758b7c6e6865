//! Whom a lost ledger had forgotten: an export of it says so.

use crate::erasure::{self, NotErased};
use crate::export::{EVENTS, whole_lines};
use crate::identity::{ContactErased, Event, Fact, Position};
use crate::ledger::{self, Database};
use crate::progress::Progress;
use anyhow::{Context as _, bail, ensure};
use std::collections::HashSet;
use std::path::Path;

/// Erases every identity that has an observation which was erased by one of these. Returns how many
/// those were.
pub async fn erase_again(
    database: &Database,
    lost: &[ContactErased],
    by: &str,
) -> anyhow::Result<usize> {
    let mut progress = Progress::of("erasing again", i64::try_from(lost.len())?);
    let (mut erased_len, mut gone) = (0, HashSet::new());
    for (n, erasure) in (1..).zip(lost) {
        for id in &erasure.observation_ids {
            if gone.contains(id) {
                continue;
            }
            match erasure::erase(database, *id, None, &erasure.reason, Some(by)).await {
                Ok(erased) => {
                    gone.extend(erased.observation_ids);
                    erased_len += 1;
                }
                // It was lost itself, or has gone already, as when this was broken off.
                Err(NotErased::NotObserved | NotErased::AlreadyErased) => {}
                Err(error) => return Err(error).context("not everybody is forgotten; try again"),
            }
        }
        progress.at(n);
    }
    // Where it is too early for that, the service does it.
    let _ = erasure::sweep(database).await?;
    Ok(erased_len)
}

/// The erasures that an export tells of, but for those that are among the first events, of which so
/// many are left. Fails where the export is of another history up to there.
pub async fn lost_erasures(
    database: &Database,
    export: &Path,
    left: i64,
) -> anyhow::Result<Vec<ContactErased>> {
    let mut owner = database.owner().await?;
    let gaps = ledger::gaps(&mut owner).await?;
    let (mut common, mut lost) = (None, Vec::new());
    for (size, line) in (1..).zip(whole_lines(&export.join(EVENTS))?) {
        let line = line?;
        if size > left {
            lost.extend(erasure_in(&line));
        } else {
            common = Some((size, line));
        }
    }
    let Some((size, line)) = common else { bail!("{} has no events", export.display()) };
    let position = Position::new(gaps.position_at(size));
    let here = ledger::line_at(&mut owner, position).await?;
    ensure!(
        here.as_deref() == Some(&line),
        "event {position} in {} is another one than here: it is of another ledger, or something \
         was recorded here after the database had gone back in time: then drop the ledger, \
         restore its backup, and do this before anything else",
        export.display()
    );
    Ok(lost)
}

fn erasure_in(line: &str) -> Option<ContactErased> {
    // Most lines are none, and parsing takes long.
    if !line.contains(r#""kind":"ContactErased""#) {
        return None;
    }
    match Event::parse(line).ok()?.fact {
        Fact::ContactErased(erased) => Some(erased),
        _ => None,
    }
}
