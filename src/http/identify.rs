//! `POST /identify`: which customer do this email and this phone number belong to?

use super::App;
use super::answer::{Identified, answered};
use super::body::{self, Observed};
use super::problem::{InLedger, Problem, documented};
use super::question::other_rules;
use crate::identity::Asker;
use crate::recorder::NotRecorded;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::IntoResponses;
use utoipa::openapi::{RefOr, response};

/// Tell what you saw of a customer, and get everything known of this customer.
///
/// The observation is appended to the ledger, whether or not it brings anything new. Sending it
/// again is safe: it brings nothing new.
#[utoipa::path(
    post,
    path = "/identify",
    tag = "callers",
    request_body(
        content = Observed,
        description = "At least one identifier, in at most 16 KiB. Unknown members are ignored.",
        example = json!({"email": "ann@work.example", "phoneNumber": "+49 30 123456"}),
    ),
    responses(
        (
            status = 200,
            description = "The customer, with this observation",
            body = Identified,
            headers(("ledger-position" = i64, description = "Position of the request's last event")),
            example = json!({"contact": {
                "primaryContactId": 1,
                "emails": ["ann@example.com", "ann@work.example"],
                "phoneNumbers": ["+49 30 123456"],
                "secondaryContactIds": [2],
            }}),
        ),
        NotIdentified,
    ),
)]
pub async fn identify(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let asked_by = request.extensions().get::<Asker>().cloned();
    let identifiers = body::identifiers(request).await?;
    let recorded = app.recorder.record(identifiers, asked_by).await?;
    Ok(answered(&recorded.answer, recorded.position))
}

struct NotIdentified;

impl IntoResponses for NotIdentified {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        let not_recorded = [
            NotRecorded::Refused.into(),
            NotRecorded::QueueFull.into(),
            NotRecorded::OutcomeUnknown.into(),
            NotRecorded::OtherRules.into(),
        ];
        documented(body::problems().into_iter().chain(not_recorded))
    }
}

impl From<NotRecorded> for Problem {
    fn from(not_recorded: NotRecorded) -> Self {
        let unavailable = |detail: &'static str| Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        match not_recorded {
            NotRecorded::QueueFull => {
                unavailable("Too many requests are waiting. Send it again.").recorded(InLedger::No)
            }
            NotRecorded::Unreachable => {
                unavailable("Postgres is out of reach. Send it again.").recorded(InLedger::No)
            }
            NotRecorded::TimedOut => unavailable("It waited too long for its turn. Send it again.")
                .recorded(InLedger::No),
            NotRecorded::OtherRules => other_rules().recorded(InLedger::No),
            NotRecorded::OutcomeUnknown => {
                let detail = "Postgres went away while this was being recorded. Send it again: \
                    if it was recorded, it brings nothing new.";
                unavailable(detail).recorded(InLedger::Unknown)
            }
            NotRecorded::Refused => {
                let detail = "A fault of ours, which the log tells more about. Report it.";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail).recorded(InLedger::No)
            }
        }
    }
}
