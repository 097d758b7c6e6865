//! What is required of every request's head, whatever it asks. Hyper sees to the rest of HTTP.

use super::around::Around;
use super::problem::Problem;
use axum::extract::Request;
use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};

/// Stands before all routes.
#[derive(Clone)]
pub struct HeadCheck;

impl Around for HeadCheck {
    type Kept = ();

    fn before(&self, request: &mut Request) -> Result<(), Box<Response>> {
        let checked = check(request.version(), request.headers());
        checked.map_err(|problem| Box::new(problem.into_response()))
    }

    fn after(&self, (): (), response: Response) -> Response {
        response
    }
}

fn check(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    // RFC 9112, section 3.2: another server on the way may have taken another host for the one meant.
    if version == Version::HTTP_11 && headers.get_all(HOST).iter().count() != 1 {
        return Err(Problem::bad_request("Send the header host once."));
    }
    // RFC 9112, section 6.1: a body would be read in a form that nobody here knows.
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_known =
        encodings.next().is_none_or(|first| first.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_known || encodings.next().is_some() {
        let detail = "Send the body with no transfer-encoding but chunked.";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
    }
    Ok(())
}
