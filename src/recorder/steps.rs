//! The steps that both paths take, and what all of them share.

use super::decide::Batch;
use super::queue::Request;
use crate::identity::{Identities, Key, Known as _, Rules};
use crate::ledger::{Database, Fault};
use crate::metrics::Metrics;
use crate::projection::{self, Snapshot};
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longer than the statement timeout of the session: the server gives up first.
const STEP_WAIT: Duration = Duration::from_secs(12);

pub struct Shared {
    pub database: Database,
    pub rules: watch::Sender<Arc<Rules>>,
    pub metrics: Arc<Metrics>,
    /// For how long a retry is known by its key.
    pub retries_kept_for: Duration,
}

impl Shared {
    /// Keys are made ahead by the handlers; those made by other rules are made again.
    pub fn make_keys(&self, requests: &mut [Request]) {
        let rules = self.rules.borrow();
        for request in requests.iter_mut().filter(|request| !Arc::ptr_eq(&request.rules, &rules)) {
            request.keys = rules.keys(&request.identifiers);
            request.rules = rules.clone();
        }
    }

    pub fn measure(&self, batch: &Batch) {
        self.metrics.recorded(batch.len(), batch.last_position(), batch.identity_len_max);
        self.metrics.unlinked_observations.inc_by(batch.unlinked_len as u64);
    }

    /// Whether a snapshot was made under the rules that the keys are made by.
    pub fn has_rules_of(&self, snapshot: &Snapshot) -> bool {
        snapshot.head.rules_digest == *self.rules.borrow().digest()
    }
}

/// Reads the identities that the requests touch, but for those that are known.
pub async fn load(
    connection: &mut PgConnection,
    known: &Identities,
    requests: &[Request],
) -> Result<Snapshot, Fault> {
    let keys = || requests.iter().map(|request| &request.keys);
    let email_keys: Vec<_> = keys()
        .filter_map(|keys| keys.email.as_ref())
        .filter(|key| key.is_link() && known.email_holder(key).is_none())
        .map(Key::as_str)
        .collect();
    let phone_keys: Vec<_> = keys()
        .filter_map(|keys| keys.phone_number.as_ref())
        .filter(|key| key.is_link() && known.phone_holder(key).is_none())
        .map(Key::as_str)
        .collect();
    within(projection::load(connection, &email_keys, &phone_keys)).await
}

/// A server that does not answer in time is as good as gone.
pub async fn within<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP_WAIT, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Fault::Lost("no answer in time")),
    }
}
