//! What the usual and the careful path share.

use super::absent::{AbsentKeys, KeyFilter};
use super::decide::Batch;
use super::queue::Request;
use crate::identity::{Field, Identities, Key, Keys, Known as _, Position, Rules};
use crate::ledger::{Database, Fault, in_time};
use crate::metrics::Metrics;
use crate::projection::{self, Snapshot};
use futures_util::FutureExt as _;
use sqlx::PgConnection;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub struct Shared {
    pub database: Database,
    pub rules: watch::Sender<Arc<Rules>>,
    pub metrics: Arc<Metrics>,
    pub absent: AbsentKeys,
    /// For how long a retry is recognised by its key.
    pub retries_kept_for: Duration,
    /// The position of the last event that this node has recorded, or 0.
    pub recorded_to: AtomicI64,
}

impl Shared {
    /// Makes keys again that were made by other rules. Handlers make them ahead, by the rules of then.
    pub fn make_keys(&self, requests: &mut [Request]) {
        let rules = self.rules.borrow();
        for request in requests.iter_mut().filter(|request| !Arc::ptr_eq(&request.rules, &rules)) {
            request.keys = rules.keys(&request.identifiers);
            request.rules = rules.clone();
        }
    }

    /// Counts a batch that is in the ledger, and answers its callers.
    pub fn appended(&self, batch: Batch) {
        self.recorded_to.fetch_max(batch.last_position().get(), Ordering::Relaxed);
        self.absent.appended(&batch);
        self.metrics.recorded(batch.len(), batch.last_position(), batch.identity_len_max);
        self.metrics.unlinked_observations.inc_by(batch.unlinked_len as u64);
        batch.answer();
    }

    /// Reads the identities that hold these keys. Fails if events are missing that this node has recorded, as
    /// after a failover to a standby that lagged behind: their numbers would be given out again. After a
    /// fault the connection is of no more use.
    pub async fn load(
        &self,
        wanted: &WantedKeys,
        connection: &mut PgConnection,
    ) -> Result<Snapshot, Fault> {
        // Asked first: meanwhile more may be recorded than is read.
        let recorded_to = Position::new(self.recorded_to.load(Ordering::Relaxed));
        let snapshot = wanted.load(connection).await?;
        let left = snapshot.head.position;
        if left < recorded_to { Err(Fault::WentBack { left, recorded_to }) } else { Ok(snapshot) }
    }

    /// Whether the rules by which keys are made were in force at a snapshot.
    pub fn has_rules_of(&self, snapshot: &Snapshot) -> bool {
        snapshot.head.rules_digest == *self.rules.borrow().digest()
    }
}

/// The keys whose holders must be read before requests can be decided.
#[derive(Default)]
pub struct WantedKeys {
    email_keys: Vec<Key>,
    phone_keys: Vec<Key>,
}

impl WantedKeys {
    /// All keys that link, except for those whose holder is known or which no contact holds.
    pub fn by(requests: &[Request], known: &Identities, filter: Option<&KeyFilter>) -> Self {
        let mut all = Self::default();
        for (field, key) in requests.iter().flat_map(|it| wanted(&it.keys, known, filter)) {
            match field {
                Field::Email => all.email_keys.push(key.clone()),
                Field::PhoneNumber => all.phone_keys.push(key.clone()),
            }
        }
        all
    }

    pub fn is_nothing(&self) -> bool {
        self.email_keys.is_empty() && self.phone_keys.is_empty()
    }

    /// Reads the identities that hold these keys. After a fault the connection is of no more use.
    pub async fn load(&self, connection: &mut PgConnection) -> Result<Snapshot, Fault> {
        let (email_keys, phone_keys) = (distinct(&self.email_keys), distinct(&self.phone_keys));
        let loading = in_time(projection::load(connection, &email_keys, &phone_keys));
        // sqlx panics if a time is later than chrono can tell, which would end the service.
        AssertUnwindSafe(loading)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Fault::out_of_range()))
    }
}

/// Whether a request can be decided without reading anything.
pub fn is_known(request: &Request, known: &Identities, filter: Option<&KeyFilter>) -> bool {
    wanted(&request.keys, known, filter).next().is_none()
}

fn wanted<'a>(
    keys: &'a Keys,
    known: &Identities,
    filter: Option<&KeyFilter>,
) -> impl Iterator<Item = (Field, &'a Key)> {
    keys.each().filter(move |(field, key)| {
        key.is_link()
            && known.holder(*field, key).is_none()
            && filter.is_none_or(|filter| filter.may_have(*field, key))
    })
}

fn distinct(keys: &[Key]) -> Vec<&str> {
    let mut keys: Vec<_> = keys.iter().map(Key::as_str).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
