//! `GET /metrics`, and the measuring of every request.

use super::App;
use crate::metrics::{Metrics, Route};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
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
    ([(CONTENT_TYPE, openmetrics)], app.metrics.text())
}

pub async fn measure(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = Route(request.extensions().get::<MatchedPath>().cloned());
    let method = name(request.method());
    let response = next.run(request).await;
    metrics.answered(route, method, response.status().as_u16(), started.elapsed());
    response
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
