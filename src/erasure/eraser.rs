//! Erasing for a service: in tasks that do not end with the client that asked.

use super::erase::{Erased, NotErased, erase};
use super::sweep::{Swept, is_due, sweep};
use crate::identity::{ObservationId, ReasonCode};
use crate::ledger::{Database, Fault};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// As long as an erasure itself waits for what is in the way.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// Its steps wait for locks of their own, and one that forgets much takes seconds.
const ERASE_WAIT: Duration = Duration::from_secs(30);
/// Before it is looked again whether what was erased can be swept.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
/// For so long a vacuum runs, or the transaction beside it that still saw what was erased. On what is
/// swept already another sweep costs little.
const SWEEP_LEN_MAX: Duration = Duration::from_hours(24);

/// Erases, and sweeps after it without anybody waiting. Cheap to clone.
#[derive(Clone)]
pub struct Eraser {
    database: Database,
    /// One sweep at a time, for however many erasures.
    sweep_wanted: Arc<Notify>,
    /// One erasure at a time: they wait for one another anyway, each with a session.
    turn: Arc<Semaphore>,
}

impl Eraser {
    pub fn start(database: Database) -> Self {
        let sweep_wanted = Arc::new(Notify::new());
        tokio::spawn(sweep_when_told(database.clone(), sweep_wanted.clone()));
        Self { database, sweep_wanted, turn: Arc::new(Semaphore::new(1)) }
    }

    /// As `erase`. Given up by whoever asked, it goes on.
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
            let turn = turn.expect("nobody closes it");
            let erasing = timeout(ERASE_WAIT, erase(&database, id, None, &reason, by.as_deref()));
            let erased = erasing.await.unwrap_or(Err(Fault::Lost("no answer in time").into()));
            drop(turn);
            // One that failed at its end may have been done, and so may one before that one.
            if !matches!(erased, Err(NotErased::NotObserved | NotErased::InTheWay(_))) {
                sweep_wanted.notify_one();
            }
            erased
        });
        erasing.await.unwrap_or(Err(NotErased::Fault(Fault::Lost("the service is stopping"))))
    }
}

async fn sweep_when_told(database: Database, sweep_wanted: Arc<Notify>) {
    if is_due(&database, SWEEP_LEN_MAX).await.unwrap_or(true) {
        sweep_wanted.notify_one();
    }
    let mut is_failing = false;
    loop {
        sweep_wanted.notified().await;
        let swept = sweep(&database).await;
        let fails = matches!(swept, Err(_) | Ok(Swept::NotAllowed));
        let was_failing = std::mem::replace(&mut is_failing, fails);
        match swept {
            Ok(Swept::All) => continue,
            Ok(Swept::TooEarly) => {
                tracing::debug!("what was erased is vacuumed later: an older transaction sees it");
            }
            Err(_) | Ok(Swept::NotAllowed) if was_failing => {}
            Ok(Swept::NotAllowed) => tracing::warn!(
                "what was erased is still in the files of Postgres: this role may not vacuum observation \
                 and contact; let it own them, or have a superuser vacuum them"
            ),
            Err(error) => {
                let fault = Fault::from(error);
                tracing::warn!("what was erased is vacuumed later: {fault}");
            }
        }
        sleep(SWEEP_PAUSE).await;
        sweep_wanted.notify_one();
    }
}
