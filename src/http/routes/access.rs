//! `GET /access`: which auditors and operators read personal data.

use crate::access::{ReadRow, reads};
use crate::http::App;
use crate::http::parts::json::json;
use crate::http::parts::paging::{Paging, paging_problems};
use crate::http::parts::parameters::Parameters;
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, unanswered};
use crate::identity::rfc_3339;
use crate::ledger::Fault;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
struct Reads<'a> {
    reads: Vec<ReadView<'a>>,
    /// Where to go on. Null if this page is not full.
    #[schema(required)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Read)]
struct ReadView<'a> {
    /// Without gaps, in the order in which reads were put on record. After an accepted loss, which has a
    /// row of its own, there is a gap.
    #[schema(minimum = 1)]
    id: i64,
    #[schema(format = DateTime)]
    read_at: String,
    /// The name of the token.
    asked_by: &'a str,
    /// `auditor` or `operator`.
    role: &'a str,
    /// The method and the pattern of the path.
    route: &'a str,
    /// The observation or contact that was asked of, or the customer that a lookup led to.
    #[schema(required)]
    contact_id: Option<i64>,
    /// The other observation, if two were asked of; the other customer, if a lookup led to two.
    #[schema(required)]
    other_contact_id: Option<i64>,
    /// The position that the answer holds at, or that a page of events begins after.
    #[schema(required)]
    position: Option<i64>,
    /// As the reader gave it.
    #[schema(required)]
    purpose: Option<&'a str>,
}

/// Who read personal data, when, and why they said they did.
///
/// What auditors and operators read with a token, through this API. A read is put on record shortly
/// after it was answered.
#[utoipa::path(
    get,
    path = "/access",
    tag = "operators",
    params(Paging),
    responses(
        (
            status = 200,
            description = "A page of reads",
            body = Reads,
            example = json!({
                "reads": [{
                    "id": 7,
                    "readAt": "2026-11-01T12:00:00.000000Z",
                    "askedBy": "audit-team",
                    "role": "auditor",
                    "route": "GET /contacts/{id}/history",
                    "contactId": 2,
                    "otherContactId": null,
                    "position": null,
                    "purpose": "case 4711",
                }],
                "next": "/access?after=7&limit=1",
            }),
        ),
    ),
)]
pub async fn access(
    State(app): State<Arc<App>>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Response, Problem> {
    let (after, limit) = paging.read()?;
    let found = ask(async {
        // Only a node of the database's own version knows what it has there.
        app.auditor.position().await?;
        Ok::<_, Fault>(reads(app.auditor.sessions(), after.get(), limit).await?)
    });
    Ok(paged(&found.await?, limit))
}

pub fn problems() -> Vec<Problem> {
    paging_problems().into_iter().chain(unanswered()).collect()
}

fn paged(rows: &[ReadRow], limit: i64) -> Response {
    let is_full = i64::try_from(rows.len()) == Ok(limit);
    let last = rows.last().filter(|_| is_full);
    json(&Reads {
        reads: rows.iter().map(view).collect(),
        next: last.map(|last| format!("/access?after={}&limit={limit}", last.id)),
    })
}

fn view(row: &ReadRow) -> ReadView<'_> {
    ReadView {
        id: row.id,
        read_at: rfc_3339(row.read_at),
        asked_by: &row.asked_by,
        role: &row.role,
        route: &row.route,
        contact_id: row.contact_id,
        other_contact_id: row.other_contact_id,
        position: row.position,
        purpose: row.purpose.as_deref(),
    }
}
