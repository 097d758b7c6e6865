//! What is put on record of a request for personal data: who asked which route, of whom, and why.
//! Nothing that was asked by, and nothing that was answered.

use super::answer::LEDGER_POSITION;
use super::events::LAST_EVENT_ID;
use super::problem::Problem;
use crate::access::{Holder, Read};
use crate::identity::ContactId;
use axum::RequestExt as _;
use axum::extract::{MatchedPath, Query, RawPathParams, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use std::time::Instant;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

const PURPOSE: &str = "purpose";
const PURPOSE_LEN_MAX: usize = 200;

/// Of a request, what is put on record if it is answered.
pub struct Asked {
    at: Instant,
    route: String,
    contact_id: Option<i64>,
    other_contact_id: Option<i64>,
    position: Option<i64>,
    purpose: Option<String>,
}

/// Whom an answer shows, where only the answer says that.
#[derive(Clone, Copy)]
pub struct Shown(pub ContactId);

impl Asked {
    pub async fn of(request: &mut Request) -> Result<Self, Problem> {
        let purpose = purpose(request.headers())?;
        let path = request.extensions().get::<MatchedPath>();
        let path = path.map_or("", MatchedPath::as_str);
        let route = format!("{} {path}", request.method());
        let query = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok();
        // Numbers and nothing else: what is no number could be anything.
        let number = |name: &str| {
            let mut pairs = query.iter().flat_map(|Query(pairs)| pairs);
            pairs.find(|(given, _)| given == name).and_then(|(_, value)| value.parse().ok())
        };
        let (contact, with) = (number("contact"), number("with"));
        let last_event_id = request.headers().get(LAST_EVENT_ID);
        let last_event_id = last_event_id.and_then(|id| id.to_str().ok()?.parse().ok());
        let position = last_event_id.or(number("after")).or(number("as_of"));
        let params = request.extract_parts::<RawPathParams>().await.ok();
        let id = params.iter().flatten().find(|(name, _)| *name == "id");
        let id = id.and_then(|(_, value)| value.parse().ok());
        Ok(Self {
            at: Instant::now(),
            route,
            contact_id: id.or(contact),
            other_contact_id: with,
            position,
            purpose,
        })
    }

    pub fn read(self, holder: &Holder, answer: &Response) -> Read {
        let shown = answer.extensions().get().map(|Shown(contact)| contact.get());
        let position = answer.headers().get(LEDGER_POSITION);
        let position = position.and_then(|position| position.to_str().ok()?.parse().ok());
        Read {
            at: self.at,
            asked_by: holder.asker.clone(),
            role: holder.role,
            route: self.route,
            contact_id: self.contact_id.or(shown),
            other_contact_id: self.other_contact_id,
            position: position.or(self.position),
            purpose: self.purpose,
        }
    }
}

/// How the document describes the header.
pub fn purpose_parameter() -> Parameter {
    ParameterBuilder::new()
        .name(PURPOSE)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Why an auditor or an operator asks, for the record of reads: at most 200 characters, \
             none of them a control character, else 400. Name a case, not a person: it is kept \
             for ever.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn purpose(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(PURPOSE) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| not_a_purpose())?.trim();
    if text.chars().count() > PURPOSE_LEN_MAX || text.contains(char::is_control) {
        return Err(not_a_purpose());
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn not_a_purpose() -> Problem {
    let expected = "at most 200 characters, none of them a control character";
    Problem::bad_field(PURPOSE, expected)
}
