//! Erasing for a service: in tasks that do not end with the client that asked.

use super::erase::{Erased, NotErased, erase};
use super::sweep::{is_due, sweep};
use crate::identity::{ObservationId, ReasonCode};
use crate::ledger::{Database, Fault};
use std::sync::Arc;
use tokio::sync::Notify;

/// Erases, and sweeps after it without anybody waiting. Cheap to clone.
#[derive(Clone)]
pub struct Eraser {
    database: Database,
    /// One sweep at a time, for however many erasures.
    sweep_wanted: Arc<Notify>,
}

impl Eraser {
    pub fn start(database: Database) -> Self {
        let sweep_wanted = Arc::new(Notify::new());
        tokio::spawn(sweep_when_told(database.clone(), sweep_wanted.clone()));
        Self { database, sweep_wanted }
    }

    /// As `erase`. Given up by whoever asked, it goes on.
    pub async fn erase(
        &self,
        id: ObservationId,
        reason: ReasonCode,
        by: Option<String>,
    ) -> Result<Erased, NotErased> {
        let Self { database, sweep_wanted } = self.clone();
        let erasing = tokio::spawn(async move {
            let erased = erase(&database, id, &reason, by.as_deref()).await?;
            sweep_wanted.notify_one();
            Ok(erased)
        });
        erasing.await.unwrap_or(Err(NotErased::Fault(Fault::Lost("the service is stopping"))))
    }
}

async fn sweep_when_told(database: Database, sweep_wanted: Arc<Notify>) {
    if is_due(&database).await.unwrap_or(false) {
        sweep_wanted.notify_one();
    }
    loop {
        sweep_wanted.notified().await;
        if let Err(error) = sweep(&database).await {
            let fault = Fault::from(error);
            tracing::warn!("what was erased is not vacuumed: {fault}");
        }
    }
}
