//! `POST /lookup`: the question of `/identify`, with nothing recorded.

use crate::http::App;
use crate::http::parts::answer::{Identified, answered};
use crate::http::parts::body::{self, Observed};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, other_rules, unanswered};
use crate::http::server::noted::Shown;
use crate::projection::LookedUp;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

/// Everything known of a customer, found by an email, a phone number or both. Records nothing.
///
/// If the email and the phone number belong to two customers, the answer is the one that
/// `/identify` would give: both as one, led by the older primary. They stay two in the ledger.
/// What is not known yet is no part of the answer.
#[utoipa::path(
    post,
    path = "/lookup",
    tag = "callers",
    request_body(
        content = Observed,
        description = "The body of `/identify`.",
        example = json!({"email": "ann@work.example"}),
    ),
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
    ),
)]
pub async fn lookup(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let identifiers = body::identifiers(request).await?;
    let found = ask(app.reader.lookup(&identifiers)).await?;
    let LookedUp { answer, other_primary_id, position } = found.ok_or_else(not_known)?;
    let shown = Shown::of(answer.primary_contact_id, position);
    let shown = Shown { other_contact_id: other_primary_id, ..shown };
    Ok(shown.by(answered(&answer, position)))
}

pub fn problems() -> Vec<Problem> {
    let others = [not_known(), other_rules()];
    body::problems().into_iter().chain(others).chain(unanswered()).collect()
}

fn not_known() -> Problem {
    let detail = "No customer is known by these identifiers. Use /identify to make one known.";
    Problem::new(StatusCode::NOT_FOUND, detail)
}
