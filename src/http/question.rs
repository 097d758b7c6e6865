//! Questions to Postgres that a handler waits for.

use super::problem::Problem;
use crate::ledger::{Fault, Unanswered};
use axum::http::StatusCode;
use std::time::Duration;
use tokio::time::timeout;

pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The answer, or the problem to send when there is none within `wait_max`. Logs the latter.
pub async fn ask<T, E: Into<Unanswered>>(
    wait_max: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    let answer = timeout(wait_max, question).await;
    let why = match answer {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => error.into(),
        Err(_) => Fault::Lost("no answer in time").into(),
    };
    tracing::warn!("a question was not answered: {why}");
    Err(match why {
        Unanswered::Fault(_) => unanswered(),
        Unanswered::Unreadable(_) => corrupt(),
        Unanswered::OtherRules => other_rules(),
    })
}

pub fn unanswered() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Postgres is out of reach. Ask again.")
}

pub fn other_rules() -> Problem {
    let detail = "This service cannot decide by the rules in force. Run identity-ledger rules \
        activate, or a service of the version that activated them.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

pub fn corrupt() -> Problem {
    let detail = "What is recorded was tampered with, or written by a newer version. \
        Run identity-ledger verify.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}
