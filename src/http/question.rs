//! Questions to Postgres that a handler waits for.

use super::problem::Problem;
use crate::ledger::Fault;
use axum::http::StatusCode;
use std::time::Duration;
use tokio::time::timeout;

pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The answer, or the problem to send when there is none within `wait_max`. Logs the latter.
pub async fn ask<T>(
    wait_max: Duration,
    question: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Problem> {
    let answer = timeout(wait_max, question).await;
    let fault = match answer.unwrap_or(Err(Fault::Lost("no answer in time"))) {
        Ok(answer) => return Ok(answer),
        Err(fault) => fault,
    };
    tracing::warn!("a question was not answered: {fault}");
    Err(unanswered())
}

pub fn unanswered() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Postgres is out of reach. Ask again.")
}
