//! Questions to Postgres that a handler waits for.

use super::problem::Problem;
use crate::ledger::{Fault, Unanswered};
use axum::http::StatusCode;
use std::sync::Once;
use std::time::Duration;
use tokio::time::timeout;

pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// It lasts until the node is restarted, and every question meets it.
static OTHER_VERSION_TOLD: Once = Once::new();

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
    if let Unanswered::Fault(Fault::OtherVersion(other)) = why {
        OTHER_VERSION_TOLD.call_once(|| tracing::error!("no question is answered: {other}"));
        return Err(other_version());
    }
    tracing::warn!("a question was not answered: {why}");
    Err(match why {
        Unanswered::Fault(_) => out_of_reach(),
        Unanswered::Unreadable(_) => corrupt(),
        Unanswered::OtherRules => other_rules(),
    })
}

/// What every question may be answered with.
pub fn unanswered() -> [Problem; 2] {
    [out_of_reach(), other_version()]
}

fn out_of_reach() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Postgres is out of reach. Ask again.")
}

pub fn other_version() -> Problem {
    let detail = "This node is of another version than the database. Upgrade the node, or restart \
        it where it is the newer one.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
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
