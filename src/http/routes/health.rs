//! `GET /health/live` and `/health/ready`: for what restarts the service or sends it traffic.

use crate::http::App;
use crate::http::parts::problem::Problem;
use crate::http::parts::question::unanswered;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::sync::Arc;
use std::time::Duration;

const READY_WAIT_MAX: Duration = Duration::from_secs(2);
/// Five statements a second, however many ask.
const READY_AGE_MAX: Duration = Duration::from_millis(200);

/// Whether the service runs.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "operators",
    responses((status = 200, description = "It runs", body = Object, example = json!({"status": "live"}))),
)]
pub async fn live() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"live"}"#)
}

/// Whether the service can answer, or could 200 ms ago: Postgres is within reach, and of this version.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operators",
    responses(
        (status = 200, description = "It can answer", body = Object, example = json!({"status": "ready"})),
    ),
)]
pub async fn ready(State(app): State<Arc<App>>) -> Result<impl IntoResponse, Problem> {
    let position = async { app.reader.position().await.map(|_| ()) };
    let answer = app.shared.ready.ask(READY_AGE_MAX, READY_WAIT_MAX, position).await;
    answer.map_err(not_ready)?;
    Ok(([(CONTENT_TYPE, "application/json")], r#"{"status":"ready"}"#))
}

pub fn problems() -> Vec<Problem> {
    unanswered().map(not_ready).into()
}

/// Whatever keeps it from answering, another node should be asked.
fn not_ready(problem: Problem) -> Problem {
    problem.status(StatusCode::SERVICE_UNAVAILABLE)
}
