//! Measures every request.

use super::answering::pattern;
use super::around::Around;
use crate::metrics::Metrics;
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// Stands around all routes.
#[derive(Clone)]
pub struct Measure(pub Arc<Metrics>);

pub struct Timed {
    at: Instant,
    route: Option<Cow<'static, str>>,
    method: &'static str,
}

impl Around for Measure {
    type Kept = Timed;

    fn before(&self, request: &mut Request) -> Result<Timed, Box<Response>> {
        let (route, method) = (pattern(request), name(request.method()));
        Ok(Timed { at: Instant::now(), route, method })
    }

    fn after(&self, Timed { at, route, method }: Timed, response: Response) -> Response {
        self.0.answered(route, method, response.status().as_u16(), at.elapsed());
        response
    }
}

/// A caller may send any word as a method, and every label value is kept for ever.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::POST => "POST",
        _ => "other",
    }
}
