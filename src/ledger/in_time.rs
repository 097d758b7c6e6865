//! A limit for the time that a server may take to answer.

use super::fault::Fault;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than the sessions' statement timeout, so that a server that is there gives up first.
const STEP_WAIT: Duration = Duration::from_secs(12);

/// Waits for a step. A server that does not answer in time counts as lost.
pub async fn in_time<T, E: Into<Fault>>(
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(STEP_WAIT, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Fault::Lost("no answer in time")),
    }
}
