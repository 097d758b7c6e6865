//! The measuring of every request.

use super::answering::pattern;
use super::around::Around;
use crate::metrics::{Metrics, Route};
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use std::sync::Arc;
use std::time::Instant;

/// Stands around all routes.
#[derive(Clone)]
pub struct Measure(pub Arc<Metrics>);

pub struct Asked {
    at: Instant,
    route: Route,
    method: &'static str,
}

impl Around for Measure {
    type Kept = Asked;

    fn before(&self, request: &mut Request) -> Result<Asked, Box<Response>> {
        Ok(Asked {
            at: Instant::now(),
            route: Route(pattern(request)),
            method: name(request.method()),
        })
    }

    fn after(&self, Asked { at, route, method }: Asked, response: Response) -> Response {
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
