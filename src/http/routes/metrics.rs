//! `GET /metrics`: what a Prometheus server collects.

use crate::http::App;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::sync::Arc;

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
