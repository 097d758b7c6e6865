//! The recorder's task: takes what waits, decides it, appends it, answers.

use super::append::append;
use super::decide::{Decided, decide};
use super::queue::{NotRecorded, Recorded, Recorder, Request};
use crate::identity::{Key, Rules};
use crate::ledger::{self, Database, Fault};
use crate::metrics::Metrics;
use crate::projection::{self, Snapshot};
use sqlx::{Executor as _, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const QUEUE_LEN_MAX: usize = 8192;
const BATCH_LEN_MAX: usize = 1024;
/// Longer than the statement timeout of the session: the server gives up first.
const STEP_WAIT: Duration = Duration::from_secs(12);
/// How long a lost append is looked for before its callers hear that nobody knows.
const SETTLE_WAIT: Duration = Duration::from_secs(8);
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// Starts the recorder. It ends when all handles are gone and the queue is drained.
pub async fn start(
    database: Database,
    metrics: Arc<Metrics>,
) -> anyhow::Result<(Recorder, JoinHandle<()>)> {
    let mut connection = database.recorder().await?;
    let rules = Arc::new(ledger::rules_in_force(&mut connection).await?);
    let (sender, queue) = mpsc::channel(QUEUE_LEN_MAX);
    let (rules_sender, rules_receiver) = watch::channel(rules);
    let task = Task {
        database,
        connection: Some(connection),
        rules: rules_sender,
        metrics,
        is_failing: false,
    };
    Ok((Recorder::new(sender, rules_receiver), tokio::spawn(task.run(queue))))
}

struct Task {
    database: Database,
    /// None after a failure, until the next batch connects again.
    connection: Option<PgConnection>,
    rules: watch::Sender<Arc<Rules>>,
    metrics: Arc<Metrics>,
    /// Whether the last batch failed: a trouble is told when it begins and when it ends.
    is_failing: bool,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(BATCH_LEN_MAX);
        while queue.recv_many(&mut waiting, BATCH_LEN_MAX).await > 0 {
            self.metrics.queue_len.set(queue.len() as i64);
            let batch: Vec<Request> = waiting.drain(..).filter(Request::take).collect();
            if !batch.is_empty() {
                self.record(batch).await;
            }
        }
    }

    /// Records the batch and answers it. Where Postgres refuses its data, the halves go alone.
    async fn record(&mut self, mut batch: Vec<Request>) {
        let not_recorded = match self.attempt(&mut batch).await {
            Ok(answers) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("recording again");
                }
                for (request, answer) in batch.into_iter().zip(answers) {
                    // A caller that has gone away has nobody to tell.
                    let _ = request.reply.send(Ok(answer));
                }
                return;
            }
            Err(Failure::Fault(Fault::Data(_))) if batch.len() > 1 => {
                let second_half = batch.split_off(batch.len() / 2);
                Box::pin(self.record(batch)).await;
                return Box::pin(self.record(second_half)).await;
            }
            Err(failure) => {
                if !self.is_failing {
                    tracing::error!(batch_len = batch.len(), "not recorded: {failure}");
                }
                self.is_failing = true;
                failure.told()
            }
        };
        for request in batch {
            let _ = request.reply.send(Err(not_recorded));
        }
    }

    /// Reads, decides and appends, again for as long as other nodes get there first.
    async fn attempt(&mut self, batch: &mut [Request]) -> Result<Vec<Recorded>, Failure> {
        let mut connection = self.connect().await?;
        let mut lost_race = false;
        loop {
            self.make_keys(batch);
            // Whoever lost a race takes the lock before it reads, or a busier node could keep
            // it from ever getting its turn.
            if lost_race {
                within(lock(&mut connection)).await?;
            }
            let snapshot = within(load(&mut connection, batch)).await?;
            if snapshot.head.rules_digest != *self.rules.borrow().digest() {
                self.follow_rules(&mut connection).await?;
                lost_race = false;
                continue;
            }
            let decided = decide(snapshot, batch);
            let appended = match within(append(&mut connection, &decided, batch)).await {
                Ok(true) if lost_race => within(connection.execute("commit")).await.map(|_| true),
                Ok(false) if lost_race => unreachable!("the head cannot move while it is locked"),
                appended => appended,
            };
            let appended = match appended {
                Err(Fault::Lost(_)) => {
                    drop(connection);
                    let (settled, recorded) = self.settle(&decided, batch).await?;
                    connection = settled;
                    recorded
                }
                appended => appended?,
            };
            if appended {
                self.connection = Some(connection);
                self.measure(&decided);
                return Ok(decided.answers);
            }
            lost_race = true;
        }
    }

    async fn connect(&mut self) -> Result<PgConnection, Fault> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.database.recorder().await?),
        }
    }

    /// Finds out whether an append whose connection died is in the ledger, by sending it
    /// again: it can be appended once only, be it by the statement that was lost, which may
    /// still be running, or by this one. Where the head has moved, the line at the batch's
    /// first position says whose batch it was.
    async fn settle(
        &mut self,
        decided: &Decided,
        batch: &[Request],
    ) -> Result<(PgConnection, bool), Failure> {
        let since = Instant::now();
        tracing::warn!(batch_len = batch.len(), "the connection was lost during an append");
        while since.elapsed() < SETTLE_WAIT {
            match self.try_settle(decided, batch).await {
                Ok(settled) => return Ok(settled),
                Err(Fault::Data(_)) => return Err(Failure::OutcomeUnknown),
                Err(Fault::Lost(_) | Fault::Refused(_)) => {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
            }
        }
        Err(Failure::OutcomeUnknown)
    }

    async fn try_settle(
        &mut self,
        decided: &Decided,
        batch: &[Request],
    ) -> Result<(PgConnection, bool), Fault> {
        let mut connection = self.database.recorder().await?;
        let first = decided.events.first().expect("every observation is an event");
        let recorded = within(append(&mut connection, decided, batch)).await?
            || within(ledger::line_at(&mut connection, first.position)).await?
                == Some(first.line());
        Ok((connection, recorded))
    }

    fn measure(&self, decided: &Decided) {
        self.metrics.identity_touched(decided.identity_len_max);
        self.metrics.batch_len.observe(decided.answers.len() as f64);
        self.metrics.position.set(decided.last_position().get());
    }

    /// Keys are made ahead by the handlers; those made by other rules are made again.
    fn make_keys(&self, batch: &mut [Request]) {
        let rules = self.rules.borrow();
        for request in batch.iter_mut().filter(|request| !Arc::ptr_eq(&request.rules, &rules)) {
            request.keys = rules.keys(&request.identifiers);
            request.rules = rules.clone();
        }
    }

    async fn follow_rules(&mut self, connection: &mut PgConnection) -> Result<(), Failure> {
        let rules = ledger::rules_in_force(connection).await.map_err(Failure::Rules)?;
        tracing::info!(rules = rules.name(), version = rules.version(), "following new rules");
        self.rules.send_replace(Arc::new(rules));
        Ok(())
    }
}

/// Locks in the order that a swap of the contact table does: `contact`, then `head`.
async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = "
        begin;
        lock table contact in row exclusive mode;
        select position from head for update;
    ";
    sqlx::raw_sql(lock).execute(connection).await?;
    Ok(())
}

async fn load(connection: &mut PgConnection, batch: &[Request]) -> Result<Snapshot, sqlx::Error> {
    let keys = || batch.iter().map(|request| &request.keys);
    let email_keys: Vec<_> =
        keys().filter_map(|keys| keys.email.as_ref().map(Key::as_str)).collect();
    let phone_keys: Vec<_> =
        keys().filter_map(|keys| keys.phone_number.as_ref().map(Key::as_str)).collect();
    projection::load(connection, &email_keys, &phone_keys).await
}

/// A server that does not answer in time is as good as gone.
async fn within<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(STEP_WAIT, step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Fault::Lost("no answer in time")),
    }
}

/// Why a batch is not recorded, or may be.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the connection to Postgres was lost during an append, and did not come back")]
    OutcomeUnknown,
    #[error("{0:#}")]
    Rules(anyhow::Error),
}

impl Failure {
    fn told(&self) -> NotRecorded {
        match self {
            Self::Fault(Fault::Data(_)) => NotRecorded::Refused,
            Self::Fault(_) | Self::Rules(_) => NotRecorded::Unreachable,
            Self::OutcomeUnknown => NotRecorded::OutcomeUnknown,
        }
    }
}
