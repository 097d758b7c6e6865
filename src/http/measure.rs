//! `GET /metrics`, and the measuring of every request.

use super::App;
use super::answering::pattern;
use super::around::Around;
use crate::metrics::{Metrics, Route};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;

/// What a Prometheus server collects, in the OpenMetrics text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operators",
    responses((
        status = 200,
        description = "All metrics",
        body = String,
        content_type = "application/openmetrics-text",
        example = "# TYPE identity_ledger_position gauge\nidentity_ledger_position 42\n# EOF\n",
    )),
)]
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, openmetrics)], app.metrics.text(app.recorder.queue_len()))
}

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
