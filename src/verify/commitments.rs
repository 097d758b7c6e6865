//! Compares observations with the events that commit to them.

use super::lines::{Committed, micros};
use super::mismatch::Mismatch;
use crate::export::ObservationLine;
use crate::identity::{Commitment, Erasures, Identifiers, ObservationId, Salt};
use crate::ledger::{CopiedRow, CopiedRows};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const PART: &str = "observation";
/// What is found if an observation was erased and something of it is left.
const LEFT: &str = "something";
/// What is found if an observation was not erased and nothing of it is left.
const NOTHING_LEFT: &str = "commitment none";

/// The columns that are to be read of each observation, in this order.
pub const COLUMNS: &str = "id, position, observed_at, email, phone_number, salt";

/// An observation as it is stored.
struct Kept<'a> {
    id: i64,
    position: i64,
    email: Option<&'a str>,
    phone_number: Option<&'a str>,
    salt: Option<&'a [u8]>,
}

/// Checks that the rows are the observations, in order, and returns what they hold: `None` for each
/// that was erased.
pub fn check_rows(
    observed: &[Committed],
    rows: &CopiedRows,
    erasures: &Erasures,
) -> Result<Vec<Option<Identifiers>>, Mismatch> {
    let mut rows = rows.iter();
    let check = |observed: &Committed| {
        let mut row = rows.next().ok_or_else(|| missing(observed))?;
        let is_erased = erasures.contains(ObservationId::new(observed.id));
        check_row(observed, &mut row, is_erased)
    };
    let identifiers = observed.iter().map(check).collect::<Result<_, _>>()?;
    match (rows.next(), observed.last()) {
        (Some(_), Some(last)) => Err(more(last)),
        _ => Ok(identifiers),
    }
}

fn check_row(
    observed: &Committed,
    row: &mut CopiedRow<'_>,
    is_erased: bool,
) -> Result<Option<Identifiers>, Mismatch> {
    let (id, position) = (row.number().unwrap_or(0), row.number().unwrap_or(0));
    let observed_at = row.number();
    let (email, phone_number) = (row.text(), row.text());
    let salt = row.bytes();
    let kept = Kept { id, position, email, phone_number, salt };
    check_place(observed, &kept)?;
    if !is_erased {
        check_commitment(observed, &kept)?;
    } else if email.is_some() || phone_number.is_some() || salt.is_some() {
        return Err(still_there(observed));
    }
    if observed_at != Some(micros(observed.recorded_at)) {
        let expected = observed.recorded_at.to_rfc3339();
        return Err(differs(observed, "time ", &expected, "another"));
    }
    Ok(identifiers(&kept))
}

/// Checks that a line of an export is the observation, and returns what it holds.
pub fn check_line(observed: &Committed, line: Option<&str>) -> Result<Identifiers, Mismatch> {
    let text = line.ok_or_else(|| missing(observed))?;
    let Ok(line) = serde_json::from_str::<ObservationLine>(text) else {
        return Err(Mismatch::at(observed.position, PART, "a line of JSON", "other text"));
    };
    let salt = BASE64_STANDARD.decode(&line.salt).ok();
    let kept = Kept {
        id: line.id,
        position: line.position,
        email: line.email.as_deref(),
        phone_number: line.phone_number.as_deref(),
        salt: salt.as_deref(),
    };
    check_place(observed, &kept)?;
    check_commitment(observed, &kept)?;
    if line.written() != text.as_bytes() {
        return Err(Mismatch::at(
            observed.position,
            PART,
            "a line as export writes it",
            "other JSON",
        ));
    }
    identifiers(&kept).ok_or_else(|| missing(observed))
}

/// Checks that the next line of an export does not hold the observation, which was erased.
pub fn check_no_line(observed: &Committed, line: Option<&str>) -> Result<(), Mismatch> {
    let line = line.and_then(|line| serde_json::from_str::<ObservationLine>(line).ok());
    match line.filter(|line| line.id == observed.id) {
        Some(_) => Err(still_there(observed)),
        None => Ok(()),
    }
}

/// What a line of an export holds. The line was checked before.
pub fn read_line(line: &str) -> Option<Identifiers> {
    let line: ObservationLine = serde_json::from_str(line).ok()?;
    Identifiers::recorded(line.email.as_deref(), line.phone_number.as_deref())
}

fn check_place(observed: &Committed, kept: &Kept<'_>) -> Result<(), Mismatch> {
    if kept.id < observed.id {
        let expected = format!("observation {}", observed.id);
        let found = format!("observation {} before it", kept.id);
        return Err(Mismatch::at(observed.position, PART, expected, found));
    }
    if kept.id != observed.id {
        return Err(missing(observed));
    }
    if kept.position != observed.position.get() {
        let (expected, found) = (observed.position.to_string(), kept.position.to_string());
        return Err(differs(observed, "position ", &expected, &found));
    }
    Ok(())
}

fn check_commitment(observed: &Committed, kept: &Kept<'_>) -> Result<(), Mismatch> {
    let expected = String::from(observed.commitment);
    let found = commitment(kept).map_or_else(|| "none".to_owned(), String::from);
    if found != expected {
        return Err(differs(observed, "commitment ", &expected, &found));
    }
    Ok(())
}

/// `None` if there is nothing to commit to.
fn commitment(kept: &Kept<'_>) -> Option<Commitment> {
    Some(Commitment::to(&identifiers(kept)?, Salt(kept.salt?.try_into().ok()?)))
}

fn identifiers(kept: &Kept<'_>) -> Option<Identifiers> {
    Identifiers::recorded(kept.email, kept.phone_number)
}

/// Whether a mismatch is that an observation is erased and no event says so, or the other way round.
pub fn is_of_erasure(mismatch: &Mismatch) -> bool {
    mismatch.part == PART && [LEFT, NOTHING_LEFT].contains(&mismatch.found.as_str())
}

fn still_there(observed: &Committed) -> Mismatch {
    let expected = format!("observation {} with nothing left: it was erased", observed.id);
    Mismatch::at(observed.position, PART, expected, LEFT)
}

fn missing(observed: &Committed) -> Mismatch {
    Mismatch::at(observed.position, PART, format!("observation {}", observed.id), "none")
}

/// The rows go as far as the last observation, so what is left over has its number.
fn more(last: &Committed) -> Mismatch {
    Mismatch::at(last.position, PART, format!("one observation {}", last.id), "more")
}

fn differs(observed: &Committed, what: &str, expected: &str, found: &str) -> Mismatch {
    let expected = format!("observation {} with {what}{expected}", observed.id);
    Mismatch::at(observed.position, PART, expected, format!("{what}{found}"))
}
