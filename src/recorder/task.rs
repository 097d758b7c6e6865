//! The recorder's task, on the usual path: while one batch is being appended, the next is
//! decided on top of it, and what it needs is read.

mod landed;

use super::absent::{self, AbsentKeys};
use super::careful::CarefulPath;
use super::clock::Clock;
use super::decide::Batch;
use super::flight::{Flight, land};
use super::memory::Memory;
use super::queue::{Recorder, Request};
use super::reading::{Found, Reading, finish};
use super::retry::{RetryKey, answer_repeated, hold_back, retry_keys};
use super::steps::{Shared, WantedKeys, is_known};
use crate::identity::{DEFAULT_RULES, Rules};
use crate::ledger::{self, Database, RulesFault};
use crate::metrics::Metrics;
use crate::projection::Snapshot;
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const QUEUE_LEN_MAX: usize = 8192;
const BATCH_LEN_MAX: usize = 1024;
/// In contacts that are known unpacked, some 600 bytes each. Few, for then they stay in the processor's
/// cache.
const RECENT_LEN_MAX: usize = 4_000;
/// For how long retries are looked for after one came.
const RETRIES_WAIT: Duration = Duration::from_secs(10);
/// For how long the head is read before each batch after another node has written: it may again.
const OTHERS_WAIT: Duration = Duration::from_secs(10);

/// A recorder, and its work, which ends when all handles are gone and the queue is drained.
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
    // Where it cannot be read now, the first batch will tell.
    let reader = match WantedKeys::default().load(&mut reader).await {
        Ok(Snapshot { head, .. }) => {
            absent.begin(&head);
            Some(reader)
        }
        Err(_) => None,
    };
    let shared =
        Arc::new(Shared { database, rules: rules_sender, metrics, absent, retries_kept_for });
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

/// The rules in force. Where this binary cannot decide by them it starts all the same, with rules
/// that are not in force: each batch then looks whether it can follow by now.
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
    /// Ends with the recorder.
    _filling: JoinSet<()>,
    /// None after a failure, until it is needed again.
    reader: Option<PgConnection>,
    writer: Option<PgConnection>,
    memory: Memory,
    clock: Option<Clock>,
    /// When it was noticed last that another node writes.
    others_wrote_at: Option<Instant>,
    /// Decided on top of the batch in flight, to be sent when that has landed.
    next: Option<Batch>,
    /// Retries of what is on its way or being read for, and what the next batch had no room for.
    held_back: Vec<Request>,
    /// When a retry came last, or an append was refused for a key that was there.
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

    /// For so many may wait.
    fn room(&self) -> usize {
        let reading_len = self.reading.as_ref().map_or(0, |reading| reading.requests.len());
        BATCH_LEN_MAX.saturating_sub(self.held_back.len() + self.next_len() + reading_len)
    }

    /// Decides what waits, from the given one on, and needs no reading: later Postgres would have to
    /// wait for that. No identity that is being read is known, so whoever touches one waits for it.
    fn decide_known(&mut self, waiting: &mut Vec<Request>, from: usize) {
        let candidates = &mut waiting[from..];
        // Those that are held back come first.
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

    /// A reading is for all that wait: more than one for a batch, each for a few, would cost more than
    /// they are worth, unless there is nothing else to send then. Beside another node that writes, few
    /// batches decided ahead stand: there so many wait first as are in flight.
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

    /// Whether more had better be decided when what is in flight has landed.
    fn is_full(&self) -> bool {
        self.next.as_ref().is_some_and(Batch::is_full) || self.memory.is_full()
    }

    /// All that wait, but for retries of what is on its way. Where nothing is, there are some. Of
    /// those with the same key there is one.
    fn take(&mut self, waiting: &mut Vec<Request>) -> Vec<Request> {
        let mut requests = std::mem::take(&mut self.held_back);
        requests.extend(waiting.drain(..).filter(Request::take));
        self.held_back = hold_back(&mut requests, |key| self.is_busy(key));
        if !self.held_back.is_empty() {
            self.retried_at = Some(Instant::now());
        }
        requests
    }

    /// Begins to read what the requests touch and is not known, and decides them where nothing need be
    /// read. Their keys are made by the rules that are followed now: new ones may have come since the last
    /// time.
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

    /// Decides what was read for; where that does not stand, it is read again, or goes the careful way.
    async fn decide_read(&mut self, reading: Reading, found: Option<Found>) {
        let Reading { mut requests, is_stale, .. } = reading;
        let found = found.map(|Found { reader, snapshot, clock, originals }| {
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

    /// Decides requests on top of what is known, which the snapshot fits. What there is no room for is held
    /// back.
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

    /// Few requests are retries. An append that brings a key again is refused, and the careful path
    /// looks; from then on this one does, too, for as long as they come.
    fn looks_for_retries(&self) -> bool {
        self.retried_at.is_some_and(|at| at.elapsed() < RETRIES_WAIT)
    }

    /// What reading nothing would find, as long as nobody else writes. Who has written meanwhile has
    /// moved the head, and what is decided here is not appended.
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

    /// Another node may have written, the rules may have changed, and the table may be another one.
    fn fits(&self, snapshot: &Snapshot) -> bool {
        let head = self.memory.head.as_ref();
        let is_same_table =
            head.is_none_or(|head| head.contact_table == snapshot.head.contact_table);
        self.memory.covers_since(snapshot.head.position)
            && is_same_table
            && self.shared.has_rules_of(snapshot)
    }

    /// Whether a request with this key is on its way into the ledger, or being read for.
    fn is_busy(&self, key: &RetryKey) -> bool {
        let of_flight = self.flight.as_ref().map(|flight| &flight.retry_keys);
        let of_next = self.next.as_ref().map(|next| &next.retry_keys);
        let of_reading = self.reading.as_ref().map(|reading| &reading.retry_keys);
        [of_flight, of_next, of_reading].into_iter().flatten().any(|keys| keys.contains(key))
    }
}
