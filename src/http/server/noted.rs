//! What is put on record of a request for personal data: who asked which route, of whom, and why.
//! Never the identifiers that were asked by, and never the answer.

use super::answering::pattern;
use crate::access::{Holder, Read};
use crate::http::parts::parameters::header;
use crate::http::parts::problem::Problem;
use crate::http::parts::schema::text;
use crate::identity::{ContactId, Position};
use axum::extract::Request;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use std::time::Instant;
use utoipa::openapi::path::Parameter;

const PURPOSE: &str = "purpose";
const PURPOSE_LEN_MAX: usize = 200;

/// What is put on record of a request if it is answered.
pub struct ReadRequest {
    at: Instant,
    route: String,
    purpose: Option<String>,
}

/// What an answer shows, as the handler that made it says. Nothing else that the request says counts:
/// a reader could claim there to have read something else.
#[derive(Clone, Copy)]
pub struct Shown {
    pub contact_id: Option<ContactId>,
    /// The number of another customer that is shown, too.
    pub other_contact_id: Option<ContactId>,
    /// The position that the answer holds at, or that a page of events begins after.
    pub position: Position,
}

impl Shown {
    /// One customer's data.
    pub fn of(id: ContactId, position: Position) -> Self {
        Self { contact_id: Some(id), other_contact_id: None, position }
    }

    /// Puts it beside the answer that shows it, which no cache is to keep.
    pub fn by(self, mut answer: Response) -> Response {
        answer.extensions_mut().insert(self);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

impl ReadRequest {
    /// Fails if the header `purpose` cannot be kept.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        let purpose = purpose(request.headers())?;
        let route = format!("{} {}", request.method(), pattern(request).unwrap_or_default());
        Ok(Self { at: Instant::now(), route, purpose })
    }

    /// What the record says of it: who asked, and whom the answer shows if it says so (`Shown`).
    pub fn read(self, holder: &Holder, answer: &Response) -> Read {
        let shown = answer.extensions().get::<Shown>();
        Read {
            at: self.at,
            asked_by: holder.asker.clone(),
            role: holder.role,
            route: self.route,
            contact_id: shown.and_then(|shown| shown.contact_id).map(ContactId::get),
            other_contact_id: shown.and_then(|shown| shown.other_contact_id).map(ContactId::get),
            position: shown.map(|shown| shown.position.get()),
            purpose: self.purpose,
        }
    }
}

/// How the document describes the header.
pub fn purpose_parameter() -> Parameter {
    let description = "Why an auditor or an operator asks, for the record of reads: once, at most 200 \
        characters, without control characters; otherwise 400. Name a case, not a person: it is kept \
        for ever.";
    header(PURPOSE, description, text().max_length(Some(PURPOSE_LEN_MAX)))
}

fn purpose(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(PURPOSE).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(not_a_purpose());
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| not_a_purpose())?.trim();
    if text.chars().count() > PURPOSE_LEN_MAX || text.contains(char::is_control) {
        return Err(not_a_purpose());
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

pub fn not_a_purpose() -> Problem {
    let expected = "one value of at most 200 characters, without control characters";
    Problem::bad_field(PURPOSE, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;

    #[test]
    fn no_cache_keeps_what_shows_a_customer() {
        let shown = Shown::of(ContactId::new(1), Position::new(2));
        let answer = shown.by("a@x".into_response());
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
}
