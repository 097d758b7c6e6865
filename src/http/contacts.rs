//! `GET /contacts/{id}`: which customer does an observation belong to?

use super::App;
use super::answer::{Identified, answered};
use super::problem::{Problem, documented};
use super::question::{WAIT_MAX, ask, unanswered};
use crate::identity::ContactId;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::IntoResponses;
use utoipa::openapi::{RefOr, response};

/// Everything known of the customer that an observation belongs to.
///
/// Takes the number of any observation: that of a primary, of a secondary, or of one that
/// brought nothing new.
#[utoipa::path(
    get,
    path = "/contacts/{id}",
    tag = "callers",
    params(("id" = i64, Path, minimum = 1, description = "The number of an observation", example = 2)),
    responses(
        (
            status = 200,
            description = "The customer",
            body = Identified,
            headers(("ledger-position" = i64, description = "Position that the answer holds at")),
            example = json!({"contact": {
                "primaryContactId": 1,
                "emails": ["ann@example.com", "ann@work.example"],
                "phoneNumbers": ["+49 30 123456"],
                "secondaryContactIds": [2],
            }}),
        ),
        NoContact,
    ),
)]
pub async fn contact(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = id.ok().and_then(|Path(id)| parse(&id)).ok_or_else(not_an_id)?;
    let found = ask(WAIT_MAX, app.reader.identity(id)).await?;
    let (answer, position) = found.ok_or_else(not_observed)?;
    Ok(answered(&answer, position))
}

struct NoContact;

impl IntoResponses for NoContact {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        documented([not_an_id(), not_observed(), unanswered()])
    }
}

fn parse(id: &str) -> Option<ContactId> {
    id.parse().ok().filter(|&id| id > 0).map(ContactId::new)
}

fn not_an_id() -> Problem {
    Problem::bad_field("id", format!("a whole number from 1 to {}", i64::MAX))
}

fn not_observed() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "No observation has this number yet.")
}
