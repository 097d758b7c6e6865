//! An event as auditors get it: the line as recorded, the identifiers beside it.

use super::event::EventLine;
use super::problem::Problem;
use super::question::corrupt;
use crate::identity::ObservationId;
use crate::ledger::EventRow;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Entry<'a> {
    #[schema(value_type = EventLine)]
    event: &'a RawValue,
    /// What was observed. Kept beside the ledger: no event holds an identifier. Of what was erased,
    /// both are null.
    #[schema(required)]
    observation: Option<Observed<'a>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Observation)]
struct Observed<'a> {
    #[schema(value_type = i64, minimum = 1)]
    id: ObservationId,
    #[schema(required)]
    email: Option<&'a str>,
    #[schema(required)]
    phone_number: Option<&'a str>,
}

/// An event that was tampered with is reported, and not passed on.
pub fn entry(row: &EventRow) -> Result<Entry<'_>, Problem> {
    let Ok(event) = serde_json::from_str(&row.line) else {
        tracing::error!(position = row.position.get(), "table event: the line is not JSON");
        return Err(corrupt());
    };
    let observation = row.observation_id.map(|id| Observed {
        id,
        email: row.email.as_deref(),
        phone_number: row.phone_number.as_deref(),
    });
    Ok(Entry { event, observation })
}
