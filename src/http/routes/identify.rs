//! `POST /identify`: which customer do this email and this phone number belong to?

use super::contacts::{erased, now};
use crate::http::App;
use crate::http::parts::answer::{Identified, answered};
use crate::http::parts::body::{self, Observed};
use crate::http::parts::idempotency::{self, IdempotencyKey, REPLAY};
use crate::http::parts::problem::{InLedger, Problem};
use crate::http::parts::question::{disk_full, other_rules, other_version};
use crate::http::server::guard::AskedBy;
use crate::identity::Asker;
use crate::recorder::{NotRecorded, Outcome};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;

pub const PATH: &str = "/identify";

/// Tell what you saw of a customer, and get everything known of this customer.
///
/// The observation is appended to the ledger, whether or not it brings anything new. Sending it
/// again is safe: it brings nothing new. With an `Idempotency-Key`, it is not even recorded again:
/// the answer is then the customer as it is now, with the header `idempotent-replay: true`.
#[utoipa::path(
    post,
    path = PATH,
    tag = "callers",
    params(IdempotencyKey),
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
            headers(
                (
                    "ledger-position" = i64,
                    description = "Position of the request's last event; on a retry, the one that \
                        the answer holds at"
                ),
                ("idempotent-replay" = bool, description = "Only on a retry"),
            ),
            example = json!({"contact": {
                "primaryContactId": 1,
                "emails": ["ann@example.com", "ann@work.example"],
                "phoneNumbers": ["+49 30 123456"],
                "secondaryContactIds": [2],
            }}),
        ),
    ),
)]
pub async fn identify(
    State(app): State<Arc<App>>,
    AskedBy(asked_by): AskedBy,
    request: Request,
) -> Result<Response, Problem> {
    let caller = asked_by.as_ref().map_or("", Asker::as_str);
    let retry_key = idempotency::key(request.headers(), caller)?;
    let identifiers = body::identifiers(request).await?;
    let recorded = app.recorder.record(identifiers, asked_by, retry_key).await;
    match recorded.map_err(|not_recorded| problem(not_recorded, retry_key.is_some()))? {
        Outcome::Recorded(recorded) => Ok(answered(&recorded.answer, recorded.position)),
        Outcome::RecordedBefore(id) => {
            let id = id.into();
            // Boxed: few are retries, and the future of every request has room for what is awaited here.
            let answer = Box::pin(now(id, app.reader.sessions())).await;
            let answer = answer.map_err(|problem| problem.recorded(InLedger::Yes))?;
            Ok(([REPLAY], answer).into_response())
        }
    }
}

/// A request that is not recorded now may have been recorded before under its key: that was not looked up.
fn problem(not_recorded: NotRecorded, has_key: bool) -> Problem {
    let problem = Problem::from(not_recorded);
    match not_recorded {
        NotRecorded::KeyReused => problem,
        _ if has_key => problem.recorded(InLedger::Unknown),
        _ => problem,
    }
}

pub fn problems() -> Vec<Problem> {
    let not_recorded = [
        NotRecorded::Refused.into(),
        NotRecorded::QueueFull.into(),
        NotRecorded::Unreachable.into(),
        NotRecorded::TimedOut.into(),
        NotRecorded::DiskFull.into(),
        NotRecorded::OutcomeUnknown.into(),
        NotRecorded::OtherRules.into(),
        NotRecorded::OtherVersion.into(),
        NotRecorded::WentBack.into(),
        NotRecorded::KeyReused.into(),
        idempotency::not_a_key(),
        erased(),
    ];
    body::problems().into_iter().chain(not_recorded).collect()
}

impl From<NotRecorded> for Problem {
    fn from(not_recorded: NotRecorded) -> Self {
        let unavailable = |detail: &'static str| Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        let problem = match not_recorded {
            NotRecorded::QueueFull => unavailable("Too many requests are waiting. Send it again."),
            NotRecorded::Unreachable => unavailable("Postgres is out of reach. Send it again."),
            NotRecorded::DiskFull => disk_full(),
            NotRecorded::TimedOut => unavailable("It waited too long for its turn. Send it again."),
            NotRecorded::OtherRules => other_rules(),
            NotRecorded::WentBack => unavailable(
                "The database has gone back in time: it lacks events that this node recorded. \
                Nothing is recorded until its operator has seen to that.",
            ),
            NotRecorded::OtherVersion => other_version(),
            NotRecorded::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Other identifiers were recorded under this Idempotency-Key. Send them with a key of their \
                own.",
            ),
            NotRecorded::OutcomeUnknown => unavailable(
                "Postgres went away while this was being recorded. Send it again: if it was recorded, it \
                brings nothing new.",
            ),
            NotRecorded::Refused => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error. The service's log says more: report it.",
            ),
        };
        problem.recorded(match not_recorded {
            NotRecorded::OutcomeUnknown => InLedger::Unknown,
            _ => InLedger::No,
        })
    }
}
