//! Questions to Postgres that a handler waits for.

use super::problem::Problem;
use crate::ledger::{Fault, Unanswered};
use axum::http::StatusCode;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// It lasts until the node is restarted, and every question meets it.
static OTHER_VERSION_TOLD: Once = Once::new();
/// Whether Postgres did not answer the last question. An outage is logged when it begins and when it ends.
static IS_AWAY: AtomicBool = AtomicBool::new(false);

/// The answer, or the problem to send when there is none in time. Logs the latter.
pub async fn ask<T, E: Into<Unanswered>>(
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    ask_within(WAIT_MAX, question).await
}

/// As `ask`, with a time of its own.
pub async fn ask_within<T, E: Into<Unanswered>>(
    wait_max: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    let answer = timeout(wait_max, question).await;
    let why = match answer {
        Ok(Ok(answer)) => {
            // Looked at first: a write by each question would cost those on the other cores.
            if IS_AWAY.load(Ordering::Relaxed) && IS_AWAY.swap(false, Ordering::Relaxed) {
                tracing::info!("Postgres answers questions again");
            }
            return Ok(answer);
        }
        Ok(Err(error)) => error.into(),
        Err(_) => Fault::Lost("no answer in time").into(),
    };
    match &why {
        Unanswered::Fault(fault) if is_away(fault) => {
            if !IS_AWAY.swap(true, Ordering::Relaxed) {
                tracing::warn!("Postgres answers no questions: {fault}");
            }
        }
        Unanswered::Fault(Fault::OtherVersion(other)) => {
            OTHER_VERSION_TOLD.call_once(|| tracing::error!("no question is answered: {other}"));
        }
        _ => tracing::warn!("a question was not answered: {why}"),
    }
    Err(match why {
        Unanswered::Fault(fault) => fault.into(),
        Unanswered::Unreadable(_) => corrupt(),
        Unanswered::OtherRules => other_rules(),
    })
}

/// What every question may be answered with.
pub fn unanswered() -> [Problem; 7] {
    [out_of_reach(), too_slow(), disk_full(), other_version(), refused(), damaged(), corrupt()]
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            fault if fault.is_disk_full() => disk_full(),
            fault if is_away(&fault) => out_of_reach(),
            Fault::OtherVersion(_) => other_version(),
            Fault::Damaged(_) => damaged(),
            Fault::Corrupt => corrupt(),
            fault if fault.is_cancelled() => too_slow(),
            _ => refused(),
        }
    }
}

/// Whether another question may fare better: there is no session, or Postgres wants none now.
fn is_away(fault: &Fault) -> bool {
    match fault {
        Fault::Lost(_) => true,
        fault if fault.is_cancelled() => false,
        Fault::Refused(_) => !fault.is_for_good(),
        Fault::Data(_)
        | Fault::OtherVersion(_)
        | Fault::Damaged(_)
        | Fault::WentBack { .. }
        | Fault::Corrupt => false,
    }
}

fn out_of_reach() -> Problem {
    let detail = "Postgres is out of reach, or is asked too much at once. Ask again.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn too_slow() -> Problem {
    let detail = "Postgres took too long to answer. Ask for less, or ask again later.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

pub fn disk_full() -> Problem {
    let detail = "The disk of Postgres is full. Make room there, then ask again.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

/// The same question is refused again.
fn refused() -> Problem {
    let detail =
        "Postgres refused the query. The service's log has the SQLSTATE that says why: report it.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

fn damaged() -> Problem {
    let detail = "The contact table is damaged. Run identity-ledger rebuild, which makes it anew.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

pub fn other_version() -> Problem {
    let detail = "This node and the database are of different versions. Upgrade the node, or restart \
        it if it is the newer one.";
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

pub fn panicked() -> Problem {
    let detail = "Internal error, or something that is recorded was tampered with. Run \
        identity-ledger verify, and report the error if that finds nothing.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_may_be_answered_later_is_to_be_asked_again() {
        let answered = async |fault: Fault| {
            let problem = ask(async { Err::<(), _>(fault) }).await.unwrap_err();
            let problem = serde_json::to_value(problem).unwrap();
            (problem["status"].as_u64().unwrap(), problem["detail"].as_str().unwrap().to_owned())
        };
        let refused = |code: &str| Fault::Refused(code.to_owned());
        for (fault, status, says) in [
            (Fault::Lost("input/output"), 503, "out of reach"),
            (refused("53300"), 503, "out of reach"),
            (refused("53100"), 503, "disk of Postgres is full"),
            (refused("57014"), 503, "took too long"),
            (refused("42501"), 500, "SQLSTATE"),
            (Fault::Data("22008".to_owned()), 500, "SQLSTATE"),
            (Fault::Corrupt, 500, "identity-ledger verify"),
        ] {
            let (told, detail) = answered(fault).await;
            assert!(told == status && detail.contains(says), "{told}: {detail}");
        }
    }
}
