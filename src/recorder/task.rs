//! The recorder's task, on the usual path: while one batch is being appended, the next one is decided on
//! top of it, and what that needs is read.

mod landed;

use super::absent::{self, AbsentKeys};
use super::careful::CarefulPath;
use super::clock::Clock;
use super::decide::Batch;
use super::flight::{Flight, land};
use super::memory::Memory;
use super::queue::{Recorder, Request};
use super::reading::{Findings, Reading, finish};
use super::retry::{RetryKey, answer_repeated, hold_back, retry_keys};
use super::shared::{Shared, WantedKeys, is_known};
use crate::identity::{DEFAULT_RULES, Rules};
use crate::ledger::{self, Database, RulesFault};
use crate::metrics::Metrics;
use crate::projection::Snapshot;
use sqlx::PgConnection;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const QUEUE_LEN_MAX: usize = 8192;
/// Twice as many would not fit into the 208 KiB that Linux buffers for a socket: Postgres would have to wait for
/// the rest, which is sent when the handlers leave time for it.
const BATCH_LEN_MAX: usize = 256;
/// Number of contacts that stay unpacked. Few, since those that are packed while the processor's cache still
/// has them cost less.
const RECENT_LEN_MAX: usize = 250;
/// For how long retries are looked for after one has come.
const RETRIES_WAIT: Duration = Duration::from_secs(10);
/// For how long the head is read before each batch after another node has written, since it may do so
/// again.
const OTHERS_WAIT: Duration = Duration::from_secs(10);

/// Returns a recorder, and its work, which ends when all handles are gone and the queue is drained.
pub async fn start(
    database: Database,
    metrics: Arc<Metrics>,
    retries_kept_for: Duration,
) -> anyhow::Result<(Recorder, impl Future<Output = ()>)> {
    let mut reader = database.recorder().await?;
    let rules = Arc::new(first_rules(&mut reader).await?);
    let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
    let (rules_sender, rules_receiver) = watch::channel(rules);
    let absent = AbsentKeys::new(metrics.keys_known.clone());
    // If the head cannot be read now, the first batch will fail and say so.
    let reader = match WantedKeys::default().load(&mut reader).await {
        Ok(Snapshot { head, .. }) => {
            absent.begin(&head);
            Some(reader)
        }
        Err(_) => None,
    };
    let recorded_to = AtomicI64::default();
    let rules = rules_sender;
    let shared =
        Arc::new(Shared { database, rules, metrics, absent, retries_kept_for, recorded_to });
    let mut filling = JoinSet::new();
    filling.spawn(absent::fill(shared.clone()));
    let task = Task {
        shared,
        _filling: filling,
        reader,
        writer: None,
        memory: Memory::default(),
        clock: None,
        others_wrote_at: None,
        next: None,
        held_back: Vec::new(),
        retried_at: None,
        reading: None,
        flight: None,
        careful: CarefulPath::default(),
    };
    Ok((Recorder::new(sender, rules_receiver), task.run(queue)))
}

/// The rules in force. If this binary cannot decide by them it starts all the same, with rules that
/// are not in force: each batch then tries again to follow those that are.
async fn first_rules(reader: &mut PgConnection) -> anyhow::Result<Rules> {
    match ledger::rules_in_force(reader).await {
        Ok(rules) => Ok(rules),
        Err(RulesFault::Database(error)) => Err(error.into()),
        Err(fault) => {
            tracing::error!("no observation is recorded: {fault}");
            Ok(Rules::parse(DEFAULT_RULES)?)
        }
    }
}

struct Task {
    shared: Arc<Shared>,
    /// Fills the filter of keys. Dropping this ends it with the recorder.
    _filling: JoinSet<()>,
    /// `None` after a failure, until it is needed again.
    reader: Option<PgConnection>,
    /// `None` after a failure, until it is needed again.
    writer: Option<PgConnection>,
    memory: Memory,
    clock: Option<Clock>,
    /// When it was last noticed that another node writes.
    others_wrote_at: Option<Instant>,
    /// The batch that is decided on top of the one in flight, to be sent when that has landed.
    next: Option<Batch>,
    /// Requests whose retry key is busy, and those that the next batch had no room for.
    held_back: Vec<Request>,
    /// When a retry last came, or an append was last refused for a key that was there.
    retried_at: Option<Instant>,
    reading: Option<Reading>,
    flight: Option<Flight>,
    careful: CarefulPath,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(BATCH_LEN_MAX);
        let mut is_open = true;
        while is_open || self.flight.is_some() || self.reading.is_some() {
            let room = self.room().saturating_sub(waiting.len());
            let new_from = tokio::select! {
                biased;
                landing = land(&mut self.flight) => {
                    self.conclude(landing).await;
                    0
                }
                (reading, found) = finish(&mut self.reading) => {
                    self.decide_read(reading, found).await;
                    0
                }
                len = queue.recv_many(&mut waiting, room), if is_open && room > 0 => {
                    is_open = len > 0;
                    waiting.len() - len
                }
            };
            self.decide_known(&mut waiting, new_from);
            let is_sent = self.send_next().await;
            let begins = self.should_read(waiting.len());
            if is_sent || begins {
                self.release();
            }
            if begins {
                let requests = self.take(&mut waiting);
                self.read(requests).await;
            }
        }
    }

    /// How many requests may wait, so that they fit into a batch with those that come before them.
    fn room(&self) -> usize {
        let reading_len = self.reading.as_ref().map_or(0, |reading| reading.requests.len());
        BATCH_LEN_MAX.saturating_sub(self.held_back.len() + self.next_len() + reading_len)
    }

    /// Decides those requests, from the given one on, that need no reading. It is done now, while a
    /// batch is in flight: later Postgres would have to wait for it. An identity that is being read
    /// is not known, so requests that touch it wait for the reading.
    fn decide_known(&mut self, waiting: &mut Vec<Request>, from: usize) {
        let candidates = &mut waiting[from..];
        // Requests that are held back come first.
        if candidates.is_empty() || !self.held_back.is_empty() || self.is_full() {
            return;
        }
        self.shared.make_keys(candidates);
        let Some(snapshot) = self.known_snapshot() else { return };
        self.memory.recall(candidates.iter().map(|request| &request.keys));
        let filter = self.memory.filter(&self.shared.absent);
        let identities = &self.memory.identities;
        let looks_for_retries = self.looks_for_retries();
        let is_known = |request: &mut Request| {
            let may_be_retry = looks_for_retries && request.retry_key.is_some();
            !may_be_retry && is_known(request, identities, filter.as_deref())
        };
        let mut known = waiting.extract_if(from.., is_known).collect();
        let requests = self.take(&mut known);
        self.decide(snapshot, requests);
    }

    /// Whether to begin a reading, for all that wait. One for each batch in flight is enough:
    /// several, each for a few requests, would cost more than they are worth, unless there would be
    /// nothing to send next. Beside another node that writes, few batches stand that were decided
    /// ahead: there a reading begins only when as many wait as are in flight.
    fn should_read(&self, waiting_len: usize) -> bool {
        if self.reading.is_some() {
            return false;
        }
        match &self.flight {
            None => waiting_len > 0 || !self.held_back.is_empty(),
            Some(flight) => {
                let is_worth_it = match self.others_write() {
                    true => waiting_len >= flight.batch_len.min(self.room()),
                    false => !flight.is_read_beside || self.next.is_none(),
                };
                waiting_len > 0 && is_worth_it && !self.is_full()
            }
        }
    }

    fn next_len(&self) -> usize {
        self.next.as_ref().map_or(0, Batch::len)
    }

    /// Whether nothing more should be decided before the flight has landed.
    fn is_full(&self) -> bool {
        self.next.as_ref().is_some_and(Batch::is_full) || self.memory.is_full()
    }

    /// Takes the requests that are held back and those that wait. Requests whose retry key is busy
    /// are held back again, and so are all but one of those with the same key.
    fn take(&mut self, waiting: &mut Vec<Request>) -> Vec<Request> {
        let mut requests = std::mem::take(&mut self.held_back);
        requests.extend(waiting.drain(..).filter(Request::take));
        self.held_back = hold_back(&mut requests, |key| self.is_busy(key));
        if !self.held_back.is_empty() {
            self.retried_at = Some(Instant::now());
        }
        requests
    }

    /// Begins to read the identities that the requests touch and that are not known, or decides the
    /// requests if there are none. Keys are made again first, since the rules may have changed
    /// since they were made.
    async fn read(&mut self, mut requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        self.shared.make_keys(&mut requests);
        self.memory.recall(requests.iter().map(|request| &request.keys));
        let filter = self.memory.filter(&self.shared.absent);
        let wanted = WantedKeys::by(&requests, &self.memory.identities, filter.as_deref());
        let retry_keys: Vec<_> = match self.looks_for_retries() {
            true => retry_keys(&requests).collect(),
            false => Vec::new(),
        };
        let is_known = wanted.is_nothing() && retry_keys.is_empty();
        match self.known_snapshot().filter(|_| is_known) {
            Some(snapshot) => {
                self.decide(snapshot, requests);
                self.send_next().await;
            }
            None => {
                let shared = self.shared.clone();
                if let Some(flight) = &mut self.flight {
                    flight.is_read_beside = true;
                }
                let reader = self.reader.take();
                self.reading = Some(Reading::of(requests, wanted, retry_keys, shared, reader));
            }
        }
    }

    /// Decides the requests that the reading was for. If what was found is not of use, they are
    /// read for again, or take the careful path.
    async fn decide_read(&mut self, reading: Reading, found: Option<Findings>) {
        let Reading { mut requests, is_stale, .. } = reading;
        let found = found.map(|Findings { reader, snapshot, clock, originals }| {
            self.reader = Some(reader);
            self.clock = Some(clock);
            (snapshot, originals)
        });
        match found {
            Some(_) if is_stale => self.read(requests).await,
            Some((snapshot, originals)) if self.fits(&snapshot) => {
                if !originals.is_empty() {
                    self.retried_at = Some(Instant::now());
                }
                answer_repeated(&mut requests, &originals);
                answer_repeated(&mut self.held_back, &originals);
                self.decide(snapshot, requests);
            }
            Some((snapshot, _)) if self.shared.has_rules_of(&snapshot) => {
                self.others_wrote_at = Some(Instant::now());
                self.land_and_redo().await;
                self.read(requests).await;
            }
            _ => {
                self.land_and_redo().await;
                self.careful.record(&self.shared, requests, false).await;
            }
        }
    }

    /// Decides requests on top of what is known, which the snapshot fits. Requests that the batch
    /// has no room for are held back.
    fn decide(&mut self, snapshot: Snapshot, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let head = self.memory.begin_at(snapshot.head);
        let next = self.next.get_or_insert_with(|| Batch::at(head.clone(), snapshot.now));
        self.memory.take_in(snapshot.contacts);
        for request in requests {
            match next.is_full() {
                true => self.held_back.push(request),
                false => self.memory.decide(next, request),
            }
        }
    }

    /// Whether to look for retries before deciding. Few requests are retries, so mostly it is not
    /// worth it: an append with a retry key that was recorded before is refused, and the careful
    /// path looks. From then on this path looks, too, for as long as retries come.
    fn looks_for_retries(&self) -> bool {
        self.retried_at.is_some_and(|at| at.elapsed() < RETRIES_WAIT)
    }

    /// The snapshot that a reading of no keys would find, unless another node has written. If one
    /// has, the head has moved, and what is decided on this snapshot is not appended.
    fn known_snapshot(&self) -> Option<Snapshot> {
        if self.others_write() {
            return None;
        }
        let now = self.clock.as_ref()?.now()?;
        let head = self.memory.head.clone()?;
        let snapshot = Snapshot { head, now, contacts: Vec::new() };
        self.shared.has_rules_of(&snapshot).then_some(snapshot)
    }

    fn others_write(&self) -> bool {
        self.others_wrote_at.is_some_and(|at| at.elapsed() < OTHERS_WAIT)
    }

    /// Whether requests can be decided on memory and this snapshot together: no other node has
    /// written, the rules are those that keys are made by, and the table is the same.
    fn fits(&self, snapshot: &Snapshot) -> bool {
        let head = self.memory.head.as_ref();
        let is_same_table =
            head.is_none_or(|head| head.contact_table == snapshot.head.contact_table);
        self.memory.covers_since(snapshot.head.position)
            && is_same_table
            && self.shared.has_rules_of(snapshot)
    }

    /// Whether a request with this key is on its way into the ledger, or waits for a reading.
    fn is_busy(&self, key: &RetryKey) -> bool {
        let of_flight = self.flight.as_ref().map(|flight| &flight.retry_keys);
        let of_next = self.next.as_ref().map(|next| &next.retry_keys);
        let of_reading = self.reading.as_ref().map(|reading| &reading.retry_keys);
        [of_flight, of_next, of_reading].into_iter().flatten().any(|keys| keys.contains(key))
    }
}
