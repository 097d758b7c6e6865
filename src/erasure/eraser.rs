//! Erases for a service, in tasks that go on when the client that asked has left.

use super::erase::{Erased, NotErased, erase};
use super::sweep::{Swept, is_due, sweep};
use crate::identity::{ObservationId, ReasonCode};
use crate::ledger::{Database, Fault};
use crate::outage::Outage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, timeout};

/// How long an erasure waits for the one before it: as long as for anything else that is in its way.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// How long an erasure may take. Each of its steps waits for locks, and a large one takes seconds.
const ERASE_WAIT: Duration = Duration::from_secs(30);
/// How long to wait before sweeping again.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
/// How much longer to rest after a sweep than it took.
const SWEEP_REST: u32 = 4;
/// How long a vacuum may run at most, or a transaction beside it that still sees what was erased. Ample,
/// as sweeping once more than necessary costs little.
const SWEEP_LEN_MAX: Duration = Duration::from_hours(24);

/// Erases, and sweeps in the background afterwards. Cheap to clone.
#[derive(Clone)]
pub struct Eraser {
    database: Database,
    /// There is one sweep at a time, however many erasures there are.
    sweep_wanted: Arc<Notify>,
    /// There is one erasure at a time. They would wait for one another anyway, each with a session.
    turn: Arc<Semaphore>,
}

impl Eraser {
    pub fn start(database: Database) -> Self {
        let sweep_wanted = Arc::new(Notify::new());
        tokio::spawn(sweep_when_told(database.clone(), sweep_wanted.clone()));
        Self { database, sweep_wanted, turn: Arc::new(Semaphore::new(1)) }
    }

    /// As `erase`. It goes on if this future is dropped.
    pub async fn erase(
        &self,
        id: ObservationId,
        reason: ReasonCode,
        by: Option<String>,
    ) -> Result<Erased, NotErased> {
        let Self { database, sweep_wanted, turn } = self.clone();
        let erasing = tokio::spawn(async move {
            let in_the_way = |_| NotErased::InTheWay("another erasure".to_owned());
            let turn = timeout(TURN_WAIT, turn.acquire_owned()).await.map_err(in_the_way)?;
            let turn = turn.expect("it is never closed");
            let erasing = timeout(ERASE_WAIT, erase(&database, id, None, &reason, by.as_deref()));
            let erased = erasing.await.unwrap_or(Err(Fault::Lost("no answer in time").into()));
            drop(turn);
            // If it failed at its end, it may be done nevertheless. If the identity was erased already,
            // that erasure may not have been swept.
            if !matches!(erased, Err(NotErased::NotObserved | NotErased::InTheWay(_))) {
                sweep_wanted.notify_one();
            }
            erased
        });
        erasing.await.unwrap_or(Err(NotErased::Fault(Fault::Lost("the service is stopping"))))
    }
}

async fn sweep_when_told(database: Database, sweep_wanted: Arc<Notify>) {
    let is_due = timeout(ERASE_WAIT, is_due(&database, SWEEP_LEN_MAX)).await;
    if !matches!(is_due, Ok(Ok(false))) {
        sweep_wanted.notify_one();
    }
    let mut outage = Outage::default();
    loop {
        sweep_wanted.notified().await;
        let since = Instant::now();
        // A server that is gone without a word would be waited for without end.
        let swept = timeout(SWEEP_LEN_MAX, sweep(&database)).await;
        let swept = swept.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if matches!(swept, Ok(Swept::All | Swept::TooEarly)) && outage.ends() {
            tracing::info!("what was erased can be vacuumed again");
        }
        match swept {
            Ok(Swept::All) => {
                // A sweep reads whole indexes, however little was erased. While customers are erased one
                // after another, it is not to take a core for itself.
                sleep(SWEEP_REST * since.elapsed()).await;
                continue;
            }
            Ok(Swept::TooEarly) => {
                tracing::debug!("what was erased is vacuumed later: an older transaction sees it");
            }
            Ok(Swept::NotAllowed) => {
                if outage.begins() {
                    tracing::warn!(
                        "what was erased is still in the files of Postgres: this role may not vacuum \
                         observation, contact and idempotency; let it own them, or have a superuser \
                         vacuum them"
                    );
                }
            }
            Err(error) => {
                if outage.begins() {
                    let fault = Fault::from(error);
                    tracing::warn!("what was erased is vacuumed later: {fault}");
                }
            }
        }
        sleep(SWEEP_PAUSE).await;
        sweep_wanted.notify_one();
    }
}
