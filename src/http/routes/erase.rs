//! `POST /contacts/{id}/erase`: erase a customer.

use super::contacts::{erased, not_observed};
use crate::erasure::{Erased, NotErased};
use crate::http::App;
use crate::http::parts::body::{self, json_problems, not_json};
use crate::http::parts::json::json;
use crate::http::parts::number::{PathId, not_an_id};
use crate::http::parts::parameters::{NoParameters, Parameters, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::unanswered;
use crate::http::server::guard::AskedBy;
use crate::identity::{Asker, ContactId, Position, ReasonCode};
use crate::ledger::Fault;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Why a customer is to be erased.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Erasure {
    /// A code, for the ledger, which keeps it for ever: a lower-case letter, then
    /// lower-case letters, hyphens and at most 4 digits, 40 characters in all.
    #[schema(max_length = 40, pattern = "^[a-z][a-z-]*([0-9][a-z-]*){0,4}$")]
    reason: String,
}

/// What was erased.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Erased)]
struct ErasedView {
    #[schema(value_type = i64, minimum = 1)]
    primary_contact_id: ContactId,
    /// How many, the primary included.
    contacts: usize,
    /// How many, those that brought nothing new included.
    observations: usize,
    /// Of the event.
    #[schema(value_type = i64, minimum = 1)]
    position: Position,
}

/// Erases a customer for ever: every email and phone number that was observed of it.
///
/// Takes the number of any observation, and erases the whole customer that it belongs to. What is
/// left are numbers, times and events, which never held an email or a phone number. All numbers of
/// the customer answer 410 from then on, and the same email seen later is a new customer.
#[utoipa::path(
    post,
    path = "/contacts/{id}/erase",
    tag = "operators",
    params(("id" = i64, Path, minimum = 1, description = "The number of an observation", example = 2)),
    request_body(content = Erasure, example = json!({"reason": "customer-request"})),
    responses(
        (
            status = 200,
            description = "What was erased",
            body = ErasedView,
            example = json!({
                "primaryContactId": 1,
                "contacts": 2,
                "observations": 3,
                "position": 7,
            }),
        ),
    ),
)]
pub async fn erase(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    AskedBy(asked_by): AskedBy,
    _: Parameters<NoParameters>,
    request: Request,
) -> Result<Response, Problem> {
    let by = asked_by.as_ref().map(Asker::to_string);
    let reason = reason(&body::json(request).await?)?;
    match app.eraser.erase(id.into(), reason, by).await {
        Ok(erased) => Ok(json(&ErasedView::from(erased))),
        Err(not_erased) => Err(not_erased.into()),
    }
}

pub fn problems() -> Vec<Problem> {
    let work = "rebuild".to_owned();
    let others = [
        not_an_id("id"),
        not_these::<NoParameters>(),
        no_reason(),
        not_a_reason_alone(),
        not_observed(),
        erased(),
        in_the_way(&work),
        lost(),
    ];
    others.into_iter().chain(json_problems()).chain(unanswered()).collect()
}

/// The parser's own text may repeat what the caller sent, so it goes no further than this.
fn reason(body: &[u8]) -> Result<ReasonCode, Problem> {
    // A type that serde derives is also read from an array of what its members would be.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    match serde_json::from_slice::<Erasure>(body) {
        Ok(erasure) if is_object => erasure.reason.parse().map_err(|_| no_reason()),
        Err(error) if !error.is_data() => Err(not_json(error.line(), error.column())),
        Ok(_) | Err(_) => Err(not_a_reason_alone()),
    }
}

fn no_reason() -> Problem {
    Problem::bad_field("reason", ReasonCode::EXPECTED)
}

fn not_a_reason_alone() -> Problem {
    let detail = r#"Send reason and nothing else, as in {"reason": "customer-request"}."#;
    Problem::bad_request(detail).field("reason")
}

fn in_the_way(work: &str) -> Problem {
    let detail = format!(
        "Nothing can be erased until this has finished: {work}. Send the request again then."
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn lost() -> Problem {
    let detail =
        "Postgres is out of reach. Send the request again: 410 then means that it was erased.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

impl From<Erased> for ErasedView {
    fn from(erased: Erased) -> Self {
        Self {
            primary_contact_id: erased.primary_id,
            contacts: erased.contacts_len,
            observations: erased.observation_ids.len(),
            position: erased.position,
        }
    }
}

impl From<NotErased> for Problem {
    fn from(not_erased: NotErased) -> Self {
        match not_erased {
            NotErased::NotObserved => not_observed(),
            NotErased::AlreadyErased => erased(),
            NotErased::InTheWay(work) => in_the_way(&work),
            NotErased::Changed => in_the_way("another observation of this customer"),
            NotErased::Fault(fault) => {
                tracing::warn!("nothing was erased, or it is not known: {fault}");
                if matches!(fault, Fault::Lost(_)) { lost() } else { fault.into() }
            }
        }
    }
}
