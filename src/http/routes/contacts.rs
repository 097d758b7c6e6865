//! `GET /contacts/{id}`: which customer does an observation belong to?

use crate::http::App;
use crate::http::parts::answer::{Identified, answered};
use crate::http::parts::moment::{self, AsOf};
use crate::http::parts::number::{PathId, not_an_id};
use crate::http::parts::parameters::{Parameters, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, unanswered};
use crate::http::server::noted::Shown;
use crate::identity::{ContactId, ObservationId};
use crate::projection::{Found, identity};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use sqlx::PgPool;
use std::sync::Arc;

/// Everything known of the customer that an observation belongs to.
///
/// Takes the number of any observation: that of a primary, of a secondary, or of one that
/// brought nothing new.
///
/// With `as_of`, the customer as it stood then: under the rules then in force, and with what was
/// linked by then. At a position within one request or one rule change, some of its links are still
/// to come. Of contacts that were linked then and have been erased since, only the numbers are
/// left.
#[utoipa::path(
    get,
    path = "/contacts/{id}",
    tag = "auditors",
    params(
        ("id" = i64, Path, minimum = 1, description = "The number of an observation", example = 2),
        AsOf,
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
pub async fn contact(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    Parameters(asked): Parameters<AsOf>,
) -> Result<Response, Problem> {
    let Some(position) = moment::position(asked.as_of, &app).await? else {
        return now(id, app.auditor.sessions()).await;
    };
    let answer = ask(app.auditor.identity_at(id.into(), position)).await?;
    not_erased(&app, id.into()).await?;
    let response = answered(&answer.ok_or_else(not_observed_then)?, position);
    Ok(Shown::of(id, position).by(response))
}

/// The customer as it is now.
pub async fn now(id: ContactId, sessions: &PgPool) -> Result<Response, Problem> {
    match ask(identity(sessions, id)).await? {
        Found::Identity(answer, position) => {
            Ok(Shown::of(id, position).by(answered(&answer, position)))
        }
        Found::Erased => Err(erased()),
        Found::Nobody => Err(not_observed()),
    }
}

pub fn problems() -> Vec<Problem> {
    let others =
        [not_an_id("id"), not_these::<AsOf>(), not_observed(), not_observed_then(), erased()];
    others.into_iter().chain(unanswered()).chain(moment::problems()).collect()
}

/// Fails if the customer was erased. Asked last: what was read before it is whole then.
pub async fn not_erased(app: &App, id: ObservationId) -> Result<(), Problem> {
    match ask(app.auditor.is_erased(id)).await? {
        true => Err(erased()),
        false => Ok(()),
    }
}

pub fn erased() -> Problem {
    let detail = "The customer of this number was erased for ever. Nothing is left to ask for.";
    Problem::new(StatusCode::GONE, detail)
}

/// With `as_of`, of a number that may have been given later.
pub fn not_observed_then() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "No observation had this number at that moment. Ask for a later one, or by a number from an answer.",
    )
}

pub fn not_observed() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "No observation has this number yet. Ask by a number from an answer.",
    )
}
