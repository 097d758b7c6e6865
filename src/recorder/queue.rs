//! The queue between handlers and the recorder's task.

use super::retry::RetryKey;
use crate::identity::{
    Answer, Asker, Commitment, Identifiers, Keys, ObservationId, Position, Rules, Salt,
};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

const ANSWER_WAIT: Duration = Duration::from_secs(30);
const SALT_LEN: usize = 16;

/// Hands observations to the recorder's task. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Request>,
    rules: watch::Receiver<Arc<Rules>>,
}

/// What became of an observation.
pub enum Outcome {
    Recorded(Recorded),
    /// It is a retry of this observation, and was not recorded again.
    RecordedBefore(ObservationId),
}

/// What was recorded, and the answer at that position.
pub struct Recorded {
    pub answer: Arc<Answer>,
    /// The position of the request's own last event.
    pub position: Position,
}

/// Why an observation has no answer. It is not in the ledger, except perhaps for `OutcomeUnknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRecorded {
    QueueFull,
    /// Postgres is out of reach.
    Unreachable,
    /// The disk of Postgres is full.
    DiskFull,
    /// It was still waiting in the queue when its time was over.
    TimedOut,
    /// The connection was lost while it was being recorded.
    OutcomeUnknown,
    /// This binary cannot decide by the rules in force.
    OtherRules,
    /// The tables are of another version than this binary.
    OtherVersion,
    /// The database lacks events that this node has recorded.
    WentBack,
    /// Other identifiers were recorded under its idempotency key.
    KeyReused,
    /// Postgres refused it for good, or what it touches is damaged.
    Refused,
}

/// One observation on its way, prepared as far as possible without knowing any other.
pub(super) struct Request {
    pub asked_by: Option<Asker>,
    pub identifiers: Identifiers,
    pub keys: Keys,
    /// The rules by which the keys were made.
    pub rules: Arc<Rules>,
    pub salt: Salt,
    pub commitment: Commitment,
    pub retry_key: Option<RetryKey>,
    reply: oneshot::Sender<Result<Outcome, NotRecorded>>,
    claim: Claim,
}

/// Whether the recorder has taken a request or its handler has withdrawn it: whoever comes first.
#[derive(Clone, Default)]
struct Claim(Arc<AtomicBool>);

impl Recorder {
    pub(super) fn new(queue: mpsc::Sender<Request>, rules: watch::Receiver<Arc<Rules>>) -> Self {
        Self { queue, rules }
    }

    /// A recorder whose task has ended.
    #[cfg(test)]
    pub fn without_task() -> Self {
        Self::stalled().0
    }

    /// A recorder whose task takes nothing for as long as the other value lives.
    #[cfg(test)]
    pub fn stalled() -> (Self, impl Sized) {
        let rules = Arc::new(Rules::parse(crate::identity::DEFAULT_RULES).unwrap());
        let (sender, queue) = mpsc::channel(1);
        (Self::new(sender, watch::channel(rules).1), queue)
    }

    /// Number of requests that the task has not received yet.
    pub fn queue_len(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Records an observation and answers it, within 30 seconds. A request whose retry key was recorded
    /// before is not recorded again.
    ///
    /// Dropping the future withdraws the observation, unless the recorder has taken it.
    pub async fn record(
        &self,
        identifiers: Identifiers,
        asked_by: Option<Asker>,
        retry_key: Option<RetryKey>,
    ) -> Result<Outcome, NotRecorded> {
        let (reply, answer) = oneshot::channel();
        let request = self.prepare(identifiers, asked_by, retry_key, reply);
        let withdrawal = Withdrawal(request.claim.clone());
        self.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => NotRecorded::QueueFull,
            TrySendError::Closed(_) => NotRecorded::Unreachable,
        })?;
        match tokio::time::timeout(ANSWER_WAIT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(NotRecorded::OutcomeUnknown),
            Err(_) if withdrawal.succeeds() => Err(NotRecorded::TimedOut),
            Err(_) => Err(NotRecorded::OutcomeUnknown),
        }
    }

    pub(super) fn prepare(
        &self,
        identifiers: Identifiers,
        asked_by: Option<Asker>,
        retry_key: Option<RetryKey>,
        reply: oneshot::Sender<Result<Outcome, NotRecorded>>,
    ) -> Request {
        let rules = self.rules.borrow().clone();
        let salt = new_salt();
        Request {
            keys: rules.keys(&identifiers),
            commitment: Commitment::to(&identifiers, salt),
            claim: Claim::default(),
            asked_by,
            identifiers,
            rules,
            salt,
            retry_key,
            reply,
        }
    }
}

thread_local! {
    /// Salts for the next requests, since it would be expensive to ask the operating system for each.
    static SALTS: RefCell<Vec<[u8; SALT_LEN]>> = const { RefCell::new(Vec::new()) };
}

fn new_salt() -> Salt {
    SALTS.with_borrow_mut(|salts| {
        let salt = salts.pop().unwrap_or_else(|| {
            let mut random = [[0; SALT_LEN]; 64];
            getrandom::fill(random.as_flattened_mut())
                .expect("the operating system gives random bytes");
            salts.extend(&random[1..]);
            random[0]
        });
        Salt(salt)
    })
}

impl Request {
    /// Takes it for the recorder, unless its handler has withdrawn it. From here on only the recorder
    /// knows how it ends.
    pub fn take(&self) -> bool {
        self.claim.comes_first()
    }

    /// Tells its handler how it has ended, unless the client has gone away, and with it the handler.
    pub fn answer(self, outcome: Result<Outcome, NotRecorded>) {
        let _ = self.reply.send(outcome);
    }
}

/// Withdraws a request when its handler stops waiting, because its time is over or its client has gone
/// away.
struct Withdrawal(Claim);

impl Withdrawal {
    fn succeeds(&self) -> bool {
        self.0.comes_first()
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.succeeds();
    }
}

impl Claim {
    fn comes_first(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn what_the_queue_has_no_room_for_is_refused_at_once() {
        let (recorder, _task) = Recorder::stalled();
        let identifiers = Identifiers::recorded(Some("a@x.org"), None).unwrap();
        let record = || recorder.record(identifiers.clone(), None, None);
        let mut first = std::pin::pin!(record());
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(recorder.queue_len(), 1);
        assert_eq!(record().await.err(), Some(NotRecorded::QueueFull));
    }
}
