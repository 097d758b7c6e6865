//! A limit for what a server may take to answer.

use super::fault::Fault;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than the statement timeout of the sessions: a server that is there gives up first.
const STEP_WAIT: Duration = Duration::from_secs(12);

/// A server that does not answer in time is as good as gone.
pub async fn in_time<T, E: Into<Fault>>(
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match timeout(STEP_WAIT, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Fault::Lost("no answer in time")),
    }
}
