//! `GET /events`: the ledger in order, page by page.

use super::App;
use super::problem::{Problem, documented};
use super::question::{WAIT_MAX, ask, corrupt, unanswered};
use crate::identity::{ObservationId, Position};
use crate::ledger::EventRow;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use utoipa::openapi::{RefOr, response};
use utoipa::{IntoParams, IntoResponses, ToSchema};

const AFTER: RangeInclusive<i64> = 0..=i64::MAX;
const AFTER_DEFAULT: i64 = 0;
const LIMIT: RangeInclusive<i64> = 1..=1_000;
const LIMIT_DEFAULT: i64 = 100;

/// Text, so that an error can say which of the two to change.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Events after this position.
    #[param(value_type = Option<i64>, minimum = 0, default = 0)]
    after: Option<String>,
    /// At most this many events.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Events<'a> {
    events: Vec<Entry<'a>>,
    /// Where to go on. Null where this page is not full: ask again later, after its last event.
    #[schema(required)]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Entry<'a> {
    /// The event exactly as it was recorded.
    #[schema(value_type = Object)]
    event: &'a RawValue,
    /// What was observed. Kept beside the ledger: no event holds an identifier.
    #[schema(required)]
    observation: Option<Observation<'a>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Observation<'a> {
    #[schema(value_type = i64, minimum = 1)]
    id: ObservationId,
    #[schema(required)]
    email: Option<&'a str>,
    #[schema(required)]
    phone_number: Option<&'a str>,
}

/// The events of the ledger in order, each with the identifiers that were observed.
///
/// Positions have no gaps, and a page never skips an event that comes later.
#[utoipa::path(
    get,
    path = "/events",
    tag = "auditors",
    params(Page),
    responses(
        (
            status = 200,
            description = "A page of events",
            body = Events,
            example = json!({
                "events": [{
                    "event": {
                        "data": {
                            "commitment": "vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=",
                            "contactId": 1,
                            "email": "new",
                            "observationId": 1,
                            "primaryId": 1,
                        },
                        "kind": "ContactObserved",
                        "position": 2,
                        "recordedAt": "2026-11-01T12:00:00.000000Z",
                    },
                    "observation": {"id": 1, "email": "ann@example.com", "phoneNumber": null},
                }],
                "next": "/events?after=2&limit=1",
            }),
        ),
        NoEvents,
    ),
)]
pub async fn events(
    State(app): State<Arc<App>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(page) = page.map_err(|_| not_a_query())?;
    let after = number("after", page.after.as_deref(), AFTER_DEFAULT, AFTER)?;
    let limit = number("limit", page.limit.as_deref(), LIMIT_DEFAULT, LIMIT)?;
    let rows = ask(WAIT_MAX, app.reader.events(Position::new(after), limit)).await?;
    paged(&rows, limit)
}

struct NoEvents;

impl IntoResponses for NoEvents {
    fn responses() -> BTreeMap<String, RefOr<response::Response>> {
        documented([not_a_number("limit", LIMIT), not_a_query(), corrupt(), unanswered()])
    }
}

fn number(
    name: &'static str,
    text: Option<&str>,
    default: i64,
    allowed: RangeInclusive<i64>,
) -> Result<i64, Problem> {
    let Some(text) = text else { return Ok(default) };
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number.ok_or_else(|| not_a_number(name, allowed))
}

fn paged(rows: &[EventRow], limit: i64) -> Result<Response, Problem> {
    let is_full = i64::try_from(rows.len()) == Ok(limit);
    let last = rows.last().filter(|_| is_full).map(|row| row.position);
    let page = Events {
        events: rows.iter().map(entry).collect::<Result<_, _>>()?,
        next: last.map(|last| format!("/events?after={last}&limit={limit}")),
    };
    let body = serde_json::to_vec(&page).expect("a page of events is plain data");
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

fn entry(row: &EventRow) -> Result<Entry<'_>, Problem> {
    let Ok(event) = serde_json::from_str(&row.line) else {
        tracing::error!(position = row.position.get(), "table event: the line is not JSON");
        return Err(corrupt());
    };
    let observation = row.observation_id.map(|id| Observation {
        id,
        email: row.email.as_deref(),
        phone_number: row.phone_number.as_deref(),
    });
    Ok(Entry { event, observation })
}

fn not_a_number(name: &'static str, allowed: RangeInclusive<i64>) -> Problem {
    let (least, most) = allowed.into_inner();
    Problem::bad_field(name, format!("a whole number from {least} to {most}"))
}

fn not_a_query() -> Problem {
    Problem::bad_request("Send after and limit once each, as in /events?after=0&limit=100.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn row(position: i64, line: &str, observation_id: Option<i64>) -> EventRow {
        EventRow {
            position: Position::new(position),
            line: line.into(),
            observation_id: observation_id.map(ObservationId::new),
            email: observation_id.map(|_| "a@x".into()),
            phone_number: None,
        }
    }

    async fn page(rows: &[EventRow], limit: i64) -> (u16, String) {
        let response = paged(rows, limit).into_response();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn a_page_has_each_line_as_it_was_recorded_and_what_was_observed() {
        let rows = [row(8, r#"{"b":1.0,"a":2e3}"#, None), row(9, "{}", Some(5))];
        let events = concat!(
            r#"{"events":[{"event":{"b":1.0,"a":2e3},"observation":null},"#,
            r#"{"event":{},"observation":{"id":5,"email":"a@x","phoneNumber":null}}],"next":"#,
        );
        assert_eq!(page(&rows, 3).await, (200, format!("{events}null}}")));
        let next = r#""/events?after=9&limit=2"}"#;
        assert_eq!(page(&rows, 2).await, (200, format!("{events}{next}")));
    }

    #[tokio::test]
    async fn a_line_that_was_tampered_with_is_reported_and_not_passed_on() {
        let (status, body) = page(&[row(8, "canary", None)], 1).await;
        assert_eq!(status, 500);
        assert!(body.contains("identity-ledger verify") && !body.contains("canary"), "{body}");
    }
}
