//! The careful path, for batches that could not be recorded on the usual one. It takes one step after
//! another: it settles what became of a lost append, takes the lock after a lost race, follows new rules,
//! and halves a batch that cannot be recorded as a whole.

use super::append::append;
use super::decide::Batch;
use super::queue::{NotRecorded, Request};
use super::retry::{answer_repeated, originals, retry_keys};
use super::settle::{Settled, settle};
use super::shared::{Shared, WantedKeys};
use crate::identity::Identities;
use crate::ledger::{self, Fault, RulesFault, in_time};
use crate::outage::Outage;
use crate::projection::Snapshot;
use sqlx::{Executor as _, PgConnection};
use std::time::{Duration, Instant};

/// For how long an append is tried again that waited in vain for a lock, as at the end of an activation
/// that changes much. Together with the tries, of ten seconds each, that is as long as callers wait.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// For how long parts of a batch are decided on one reading: its time is the time of their events.
const READ_AGE_MAX: Duration = Duration::from_secs(1);

/// Why requests are not recorded, or why it is not known whether they are.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the connection to Postgres was lost during an append, and did not come back")]
    OutcomeUnknown,
    #[error("{0}")]
    Rules(RulesFault),
}

#[derive(Default)]
pub struct CarefulPath {
    /// `None` at first and after a failure, until it is needed.
    connection: Option<PgConnection>,
    /// Begins with a batch that is not recorded, and ends with the next one that is.
    outage: Outage,
    /// When the first of several tries in a row began to wait for a lock in vain.
    locked_since: Option<Instant>,
}

impl CarefulPath {
    /// Records requests and answers them. If one of them cannot be recorded, each half is tried alone.
    pub async fn record(&mut self, shared: &Shared, mut requests: Vec<Request>, lost_race: bool) {
        let was_connected = self.connection.is_some();
        let len = requests.len();
        let attempted = match self.connect(shared).await {
            Ok(connection) => attempt(shared, connection, &mut requests, lost_race).await,
            Err(fault) => Err(fault.into()),
        };
        if requests.len() < len {
            self.locked_since = None;
        }
        match attempted {
            Ok(connection) => {
                self.connection = Some(connection);
                self.recorded();
            }
            // The connection may have died long ago. No append was sent on it, or it would be settled.
            Err(Failure::Fault(Fault::Lost(_))) if was_connected => {
                Box::pin(self.record(shared, requests, lost_race)).await;
            }
            Err(Failure::Fault(fault)) if fault.is_cancelled() && self.may_wait() => {
                Box::pin(self.record(shared, requests, lost_race)).await;
            }
            Err(Failure::Fault(fault)) if fault.is_of_one() && requests.len() > 1 => {
                let second_half = requests.split_off(requests.len() / 2);
                Box::pin(self.record(shared, requests, false)).await;
                Box::pin(self.record(shared, second_half, false)).await;
            }
            Err(failure) => self.refuse(requests, &failure),
        }
    }

    /// Finds out what became of a batch whose append was sent and not answered. Answers its callers,
    /// and records it again if it is not in the ledger.
    pub async fn settle(&mut self, shared: &Shared, batch: Batch) {
        match settle(shared, &batch).await {
            None => self.refuse(batch.requests, &Failure::OutcomeUnknown),
            Some(Settled { connection, is_recorded }) => {
                self.connection = Some(connection);
                match is_recorded {
                    true => shared.appended(batch),
                    false => self.record(shared, batch.requests, false).await,
                }
            }
        }
    }

    /// Notes that a batch was recorded, on whichever path.
    pub fn recorded(&mut self) {
        if self.outage.ends() {
            tracing::info!("recording again");
        }
    }

    async fn connect(&mut self, shared: &Shared) -> Result<PgConnection, Fault> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(shared.database.recorder().await?),
        }
    }

    fn may_wait(&mut self) -> bool {
        self.locked_since.get_or_insert_with(Instant::now).elapsed() < LOCK_WAIT
    }

    fn refuse(&mut self, requests: Vec<Request>, failure: &Failure) {
        self.locked_since = None;
        if self.outage.begins() {
            tracing::error!(batch_len = requests.len(), "not recorded: {failure}");
        }
        answer_all(requests, failure);
    }
}

fn answer_all(requests: Vec<Request>, failure: &Failure) {
    for request in requests {
        request.answer(Err(failure.to_client()));
    }
}

/// Reads, decides and appends, and begins again for as long as other nodes get there first. Takes out the
/// requests that it has answered. Returns the connection if it is still good.
async fn attempt(
    shared: &Shared,
    connection: PgConnection,
    requests: &mut Vec<Request>,
    mut lost_race: bool,
) -> Result<PgConnection, Failure> {
    let mut session = Session { connection, is_locked: false };
    while !requests.is_empty() {
        shared.make_keys(requests);
        // Having lost a race, take the lock before reading: a busier node could otherwise keep this
        // one from ever getting its turn.
        if lost_race {
            session.lock().await?;
        }
        let wanted = WantedKeys::by(requests, &Identities::default(), None);
        let snapshot = shared.load(&wanted, &mut session.connection).await?;
        if !shared.has_rules_of(&snapshot) {
            follow_rules(shared, &mut session.connection).await?;
            continue;
        }
        let keys: Vec<_> = retry_keys(requests).collect();
        let originals = originals(&mut session.connection, &keys, shared.retries_kept_for).await?;
        answer_repeated(requests, &originals);
        lost_race |= !append_parts(shared, &mut session, snapshot, requests).await?;
    }
    // It is still locked if the last requests were all retries.
    session.unlock().await?;
    Ok(session.connection)
}

/// Decides requests on one reading, at least a part of them and more while it is recent, and appends them, in
/// parts if the answers are long. Returns `false` if another node got there first.
async fn append_parts(
    shared: &Shared,
    session: &mut Session,
    snapshot: Snapshot,
    requests: &mut Vec<Request>,
) -> Result<bool, Failure> {
    let read_at = Instant::now();
    let mut known = Identities::default();
    known.take_in(snapshot.contacts);
    let mut head = snapshot.head;
    while !requests.is_empty() {
        let batch = decide_part(Batch::at(head, snapshot.now), &mut known, requests);
        match session.append(shared, &batch).await {
            Ok(true) => {
                head = batch.head();
                shared.appended(batch);
            }
            // Nothing was sent of the requests that are left.
            Err(Failure::OutcomeUnknown) if !requests.is_empty() => {
                answer_all(batch.requests, &Failure::OutcomeUnknown);
                return Err(Fault::Lost("during an append").into());
            }
            not_recorded => {
                requests.splice(..0, batch.requests);
                not_recorded?;
                // Under the lock no one can have moved the head.
                if session.is_locked {
                    return Err(Fault::Lost("an append was refused under the lock").into());
                }
                return Ok(false);
            }
        }
        // Looked at last: if to take everything in took so long, nothing would ever be decided.
        if read_at.elapsed() > READ_AGE_MAX {
            break;
        }
    }
    Ok(true)
}

/// Takes out and decides as many of the requests as the batch has room for.
fn decide_part(mut batch: Batch, known: &mut Identities, requests: &mut Vec<Request>) -> Batch {
    let mut rest = std::mem::take(requests).into_iter();
    while !batch.is_full()
        && let Some(request) = rest.next()
    {
        batch.decide(known, request);
    }
    requests.extend(rest);
    batch.close(known);
    batch
}

struct Session {
    connection: PgConnection,
    /// Whether it holds the lock on the head.
    is_locked: bool,
}

impl Session {
    async fn lock(&mut self) -> Result<(), Fault> {
        if !self.is_locked {
            in_time(lock(&mut self.connection)).await?;
            self.is_locked = true;
        }
        Ok(())
    }

    async fn unlock(&mut self) -> Result<(), Fault> {
        if std::mem::take(&mut self.is_locked) {
            in_time(self.connection.execute("commit")).await?;
        }
        Ok(())
    }

    /// Appends a batch, durably, and releases the lock. Returns `false` if the head has moved.
    async fn append(&mut self, shared: &Shared, batch: &Batch) -> Result<bool, Failure> {
        let appended = match in_time(append(&mut self.connection, batch)).await {
            Ok(Some(_)) => self.unlock().await.map(|()| true),
            appended => appended.map(|_| false),
        };
        if let Err(Fault::Lost(_)) = appended {
            let settled = settle(shared, batch).await.ok_or(Failure::OutcomeUnknown)?;
            // The lock went with the connection that was lost.
            *self = Self { connection: settled.connection, is_locked: false };
            return Ok(settled.is_recorded);
        }
        Ok(appended?)
    }
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute("begin").await?;
    ledger::lock_to_append(connection).await
}

async fn follow_rules(shared: &Shared, connection: &mut PgConnection) -> Result<(), Failure> {
    let reading = async { Ok::<_, Fault>(ledger::rules_in_force(connection).await) };
    let rules = in_time(reading).await?.map_err(|fault| match fault {
        RulesFault::Database(error) => Failure::Fault(error.into()),
        RulesFault::Missing | RulesFault::Unreadable(_) | RulesFault::OtherNormaliser { .. } => {
            Failure::Rules(fault)
        }
    })?;
    tracing::info!(rules = rules.name(), version = rules.version(), "following new rules");
    shared.rules.send_replace(rules.into());
    Ok(())
}

impl Failure {
    fn to_client(&self) -> NotRecorded {
        match self {
            Self::Fault(fault) if fault.is_of_one() || fault.is_for_good() => NotRecorded::Refused,
            Self::Fault(Fault::Corrupt) => NotRecorded::Refused,
            Self::Fault(Fault::WentBack { .. }) => NotRecorded::WentBack,
            Self::Fault(Fault::OtherVersion(_)) => NotRecorded::OtherVersion,
            Self::Fault(fault) if fault.is_disk_full() => NotRecorded::DiskFull,
            Self::Fault(_) => NotRecorded::Unreachable,
            Self::Rules(_) => NotRecorded::OtherRules,
            Self::OutcomeUnknown => NotRecorded::OutcomeUnknown,
        }
    }
}
