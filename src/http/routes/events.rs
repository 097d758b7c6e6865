//! `GET /events`: the ledger in order, as pages or as a stream.

use super::stream;
use crate::audit::EventPage;
use crate::http::App;
use crate::http::parts::answer::LEDGER_POSITION;
use crate::http::parts::entry::{Entry, entry};
use crate::http::parts::json::json;
use crate::http::parts::number::{id, number};
use crate::http::parts::paging;
use crate::http::parts::parameters::{Parameters, header, not_these};
use crate::http::parts::problem::Problem;
use crate::http::parts::question::{ask, unanswered};
use crate::http::parts::schema;
use crate::http::server::noted::Shown;
use crate::identity::{Fact, Position};
use crate::ledger::EventFilter;
use axum::extract::State;
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder};
use utoipa::{IntoParams, ToSchema};

const LAST_EVENT_ID: &str = "last-event-id";

/// Which events, and how many. Text, so that an error can say which parameter to change.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Events after this position.
    #[param(value_type = Option<i64>, minimum = 0, default = 0)]
    after: Option<String>,
    /// At most this many events. Only a page has a limit.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1_000, default = 100)]
    limit: Option<String>,
    #[param(schema_with = a_kind)]
    kind: Option<String>,
    /// Only events that are of the observation with this number, file an observation under this contact, link
    /// it, or link another one to it.
    #[param(value_type = Option<i64>, minimum = 1)]
    contact: Option<String>,
}

fn a_kind() -> ObjectBuilder {
    schema::text().enum_values(Some(Fact::KINDS)).description(Some("Only events of this kind."))
}

/// How the document describes the header.
struct LastEventId;

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = schema::number(KnownFormat::Int64).minimum(Some(*paging::AFTER.start()));
        vec![header(LAST_EVENT_ID, "Where a stream goes on.", schema)]
    }
}

/// How the events are to be sent.
enum Form {
    Page,
    Lines,
    Live,
}

#[derive(Serialize, ToSchema)]
struct Events<'a> {
    events: Vec<Entry<'a>>,
    /// Where to go on, even if a page of filtered events is not full. Null at the end: ask again
    /// later, after the position in the header `ledger-position`.
    #[schema(required)]
    next: Option<String>,
}

/// The events of the ledger in order, each with the identifiers that were observed.
///
/// Positions are in commit order, without gaps except before a `LedgerRestored`: a reader that goes on
/// from the last one misses none.
/// The header `accept` says in which form they are sent:
///
/// - `application/json`: a page at a time.
/// - `application/x-ndjson`: all events up to the one that is last now, one entry a line, in the same
///   shape as in pages. Only by HTTP/1.1, which tells a whole body from one that broke off.
/// - `text/event-stream`: Server-Sent Events, which go on with what is recorded from now on. `id`
///   is the position, `event` the kind, `data` the entry. The header `last-event-id` wins over
///   `after`. An event or a comment comes at least every 15 seconds.
///
/// A stream whose connection breaks is not whole: go on after the last position. It breaks if the
/// client takes nothing for 30 seconds, and when the service stops.
#[utoipa::path(
    get,
    path = "/events",
    tag = "auditors",
    params(EventsQuery, LastEventId),
    responses(
        (
            status = 200,
            description = "Events",
            headers((
                "ledger-position" = i64,
                description = "Of a page: no event up to this position is missing, so that one can go on after it"
            )),
            content(
                (Events = "application/json", example = json!({
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
                })),
                (String = "application/x-ndjson", example = "{\"event\":{\"data\":{\"contactId\":2,\"primaryId\":1},\"kind\":\"ContactLinked\",\"position\":4,\"recordedAt\":\"2026-11-01T12:00:00.000000Z\"},\"observation\":null}\n"),
                (String = "text/event-stream", example = "id: 4\nevent: ContactLinked\ndata: {\"event\":{\"data\":{\"contactId\":2,\"primaryId\":1},\"kind\":\"ContactLinked\",\"position\":4,\"recordedAt\":\"2026-11-01T12:00:00.000000Z\"},\"observation\":null}\n\n"),
            ),
        ),
    ),
)]
pub async fn events(
    State(app): State<Arc<App>>,
    version: Version,
    headers: HeaderMap,
    Parameters(asked): Parameters<EventsQuery>,
) -> Result<Response, Problem> {
    let after = paging::after(asked.after.as_deref())?;
    let wanted = asked.wanted()?;
    let contact_id = wanted.contact;
    let (response, position) = match form(&headers) {
        Form::Page => {
            let limit = paging::limit(asked.limit.as_deref())?;
            let head = head_from(&app, "after", after).await?;
            let page = app.auditor.events(after, head, &wanted, limit);
            (paged(&ask(page).await?, head, &wanted, limit)?, after)
        }
        // The body would end where the connection does, and one that broke off would pass for a whole one.
        Form::Lines if version < Version::HTTP_11 => return Err(too_old_for_lines()),
        Form::Lines | Form::Live if asked.limit.is_some() => return Err(only_pages_have_a_limit()),
        Form::Lines => {
            let head = head_from(&app, "after", after).await?;
            let feed = app.auditor.feed(after, wanted).ok_or_else(too_many)?;
            (stream::lines(feed, head), after)
        }
        Form::Live => {
            let last = last_event_id(&headers)?;
            let (name, after) = last.map_or(("after", after), |last| (LAST_EVENT_ID, last));
            // Besides, a client hears that Postgres is away before it is promised a stream.
            head_from(&app, name, after).await?;
            let feed = app.auditor.feed(after, wanted).ok_or_else(too_many)?;
            (stream::live(feed), after)
        }
    };
    Ok(Shown { contact_id, other_contact_id: None, position }.by(response))
}

/// The head. Fails if it is before `after`: a stream would wait in silence, perhaps for events that were
/// lost with a part of the ledger.
async fn head_from(app: &App, name: &'static str, after: Position) -> Result<Position, Problem> {
    let head = ask(app.auditor.position()).await?;
    if after > head { Err(beyond_the_head(name)) } else { Ok(head) }
}

impl EventsQuery {
    fn wanted(&self) -> Result<EventFilter, Problem> {
        let kind = self.kind.as_deref().map(|kind| known(kind).ok_or_else(not_a_kind));
        let contact = self.contact.as_deref().map(|text| id("contact", Some(text)));
        Ok(EventFilter { kind: kind.transpose()?, contact: contact.transpose()? })
    }
}

/// The path of a page that begins after a position.
fn path(after: Position, limit: i64, wanted: &EventFilter) -> String {
    let mut path = format!("/events?after={after}&limit={limit}");
    if let Some(kind) = wanted.kind {
        path += &format!("&kind={kind}");
    }
    if let Some(contact) = wanted.contact {
        path += &format!("&contact={contact}");
    }
    path
}

fn known(kind: &str) -> Option<&'static str> {
    Fact::KINDS.into_iter().find(|known| *known == kind)
}

/// The known form with the greatest weight, the first of several; a page if none is known (RFC 9110,
/// section 12.5.1).
fn form(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let weighed = accepted.flat_map(|value| value.split(',')).filter_map(weighed);
    let best = weighed.reduce(|best, other| if other.1 > best.1 { other } else { best });
    best.map_or(Form::Page, |(form, _)| form)
}

/// A form and its weight, if it is known and its weight is not 0.
fn weighed(range: &str) -> Option<(Form, f32)> {
    let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
    let form = match &*parts.next()? {
        "application/json" => Form::Page,
        "application/x-ndjson" => Form::Lines,
        "text/event-stream" => Form::Live,
        _ => return None,
    };
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
    (weight > 0.0).then_some((form, weight))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    number(LAST_EVENT_ID, Some(id.to_str().unwrap_or_default()), None, paging::AFTER)
        .map(|id| Some(Position::new(id)))
}

pub fn problems() -> Vec<Problem> {
    let others = [
        paging::not_a_limit(),
        beyond_the_head("after"),
        not_a_kind(),
        not_these::<EventsQuery>(),
        too_old_for_lines(),
        only_pages_have_a_limit(),
        too_many(),
    ];
    others.into_iter().chain(unanswered()).collect()
}

fn paged(
    page: &EventPage,
    head: Position,
    wanted: &EventFilter,
    limit: i64,
) -> Result<Response, Problem> {
    let is_full = i64::try_from(page.events.len()) == Ok(limit);
    let goes_on = is_full || page.through < head;
    let events = Events {
        events: page.events.iter().map(entry).collect::<Result<_, _>>()?,
        next: goes_on.then(|| path(page.through, limit, wanted)),
    };
    let headers = [
        (VARY, HeaderValue::from_static("accept")),
        (LEDGER_POSITION, HeaderValue::from(page.through.get())),
    ];
    Ok((headers, json(&events)).into_response())
}

fn beyond_the_head(name: &'static str) -> Problem {
    Problem::bad_field(name, "a position that the ledger has reached")
}

fn not_a_kind() -> Problem {
    Problem::bad_field("kind", format!("one of {}", Fact::KINDS.join(", ")))
}

fn too_old_for_lines() -> Problem {
    let detail = "Ask for lines by HTTP/1.1. A proxy on the way may have to be told to use it.";
    Problem::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, detail)
}

/// A stream without its limit would send a client more than it asked for.
fn only_pages_have_a_limit() -> Problem {
    Problem::bad_field("limit", "none, except for pages (accept: application/json)")
}

fn too_many() -> Problem {
    let detail = "Too many streams of events are open. Close one, or ask again later.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{ContactId, ObservationId};
    use crate::ledger::EventRow;
    use http_body_util::BodyExt as _;

    fn row(position: i64, line: &str, observation_id: Option<i64>) -> EventRow {
        EventRow {
            position: Position::new(position),
            kind: "ContactObserved".into(),
            line: line.into(),
            observation_id: observation_id.map(ObservationId::new),
            email: observation_id.map(|_| "a@x".into()),
            phone_number: None,
        }
    }

    async fn page(events: Vec<EventRow>, through: i64, limit: i64) -> (u16, String) {
        let page = EventPage { events, through: Position::new(through) };
        let wanted = EventFilter { kind: None, contact: Some(ContactId::new(5)) };
        let response = paged(&page, Position::new(9), &wanted, limit).into_response();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    #[tokio::test]
    async fn a_page_has_each_line_as_it_was_recorded_and_what_was_observed() {
        let rows = || vec![row(8, r#"{"b":1.0,"a":2e3}"#, None), row(9, "{}", Some(5))];
        let events = concat!(
            r#"{"events":[{"event":{"b":1.0,"a":2e3},"observation":null},"#,
            r#"{"event":{},"observation":{"id":5,"email":"a@x","phoneNumber":null}}],"next":"#,
        );
        assert_eq!(page(rows(), 9, 3).await, (200, format!("{events}null}}")));
        let next = r#""/events?after=9&limit=2&contact=5"}"#;
        assert_eq!(page(rows(), 9, 2).await, (200, format!("{events}{next}")));
    }

    #[tokio::test]
    async fn a_page_that_looked_far_for_little_says_where_to_go_on() {
        let expected = r#"{"events":[],"next":"/events?after=7&limit=2&contact=5"}"#;
        assert_eq!(page(vec![], 7, 2).await, (200, expected.to_owned()));
    }

    #[tokio::test]
    async fn a_line_that_was_tampered_with_is_reported_and_not_passed_on() {
        let (status, body) = page(vec![row(8, "canary", None)], 9, 1).await;
        assert_eq!(status, 500);
        assert!(body.contains("identity-ledger verify") && !body.contains("canary"), "{body}");
    }

    #[test]
    fn the_form_that_is_liked_best_is_sent() {
        let form_of = |accept: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            form(&headers)
        };
        assert!(matches!(form_of("text/html, */*;q=0.8"), Form::Page));
        assert!(matches!(form_of("text/plain, Application/X-NDJSON;q=1"), Form::Lines));
        assert!(matches!(form_of("text/event-stream"), Form::Live));
        assert!(matches!(form(&HeaderMap::new()), Form::Page));
        assert!(matches!(form_of("text/event-stream;q=0"), Form::Page));
        assert!(matches!(form_of("application/x-ndjson; q=0.5, application/json"), Form::Page));
        assert!(matches!(
            form_of("text/event-stream;q=0.2, application/x-ndjson;Q=0.3"),
            Form::Lines
        ));
    }
}
