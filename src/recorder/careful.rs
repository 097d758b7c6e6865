//! The careful path: one step after another, for batches that had bad luck on the usual one.
//! It settles what became of a lost append, takes the lock after a lost race, follows new
//! rules, and halves a batch that cannot be recorded as a whole.

use super::append::append;
use super::decide::Batch;
use super::queue::{NotRecorded, Request};
use super::retry::{answer_repeated, originals, retry_keys};
use super::steps::{Shared, Wanted};
use crate::identity::Identities;
use crate::ledger::{self, Fault, RulesFault, in_time};
use sqlx::{Executor as _, PgConnection};
use std::time::{Duration, Instant};

/// How long a lost append is looked for before its callers hear that nobody knows.
const SETTLE_WAIT: Duration = Duration::from_secs(8);
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// For how long an append is tried again that has waited in vain because nobody can append, as at
/// the end of an activation that changes much. With the tries themselves, which take ten seconds
/// each, that is as long as callers wait.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// For how long parts of a batch are decided on what was read once: events have the time of the reading.
const READ_AGE_MAX: Duration = Duration::from_secs(1);

/// Why requests are not recorded, or may be.
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
    /// None at first and after a failure, until it is needed.
    connection: Option<PgConnection>,
    /// Whether the last batch failed: a trouble is told when it begins and when it ends.
    is_failing: bool,
    /// Since when a lock has been waited for.
    locked_since: Option<Instant>,
}

impl CarefulPath {
    /// Records requests and answers them. Where one of them is in the way, the halves go alone.
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
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("recording again");
                }
            }
            // The connection may have died long ago. Nothing was sent, or it would be settled.
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

    /// Ends a batch whose append was sent and not answered.
    pub async fn settle(&mut self, shared: &Shared, batch: Batch) {
        match settle(shared, &batch).await {
            Ok((_, true)) => shared.appended(batch),
            Ok((_, false)) => self.record(shared, batch.requests, false).await,
            Err(failure) => self.refuse(batch.requests, &failure),
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
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(batch_len = requests.len(), "not recorded: {failure}");
        }
        tell(requests, failure);
    }
}

fn tell(requests: Vec<Request>, failure: &Failure) {
    for request in requests {
        // A caller that has gone away has nobody to tell.
        let _ = request.reply.send(Err(failure.told()));
    }
}

/// Reads, decides and appends, in parts where the answers are long, and again for as long as other
/// nodes get there first. Takes the requests that are answered, and leaves those that are not. Gives
/// the connection back if it is still good.
async fn attempt(
    shared: &Shared,
    mut connection: PgConnection,
    requests: &mut Vec<Request>,
    mut lost_race: bool,
) -> Result<PgConnection, Failure> {
    let mut is_locked = false;
    loop {
        shared.make_keys(requests);
        // Whoever lost a race takes the lock before it reads, or a busier node could keep
        // it from ever getting its turn.
        if lost_race && !is_locked {
            in_time(lock(&mut connection)).await?;
            is_locked = true;
        }
        let wanted = Wanted::by(requests, &Identities::default(), None);
        let snapshot = wanted.load(&mut connection).await?;
        if !shared.has_rules_of(&snapshot) {
            follow_rules(shared, &mut connection).await?;
            continue;
        }
        let keys: Vec<_> = retry_keys(requests).collect();
        let originals = originals(&mut connection, &keys, shared.retries_kept_for).await?;
        answer_repeated(requests, &originals);
        if requests.is_empty() {
            if is_locked {
                in_time(connection.execute("commit")).await?;
            }
            return Ok(connection);
        }
        let read_at = Instant::now();
        let mut known = Identities::default();
        known.take_in(snapshot.contacts);
        let mut head = snapshot.head;
        loop {
            let mut batch = Batch::at(head, snapshot.now);
            let mut rest = std::mem::take(requests).into_iter();
            while !batch.is_full()
                && let Some(request) = rest.next()
            {
                batch.decide(&mut known, request);
            }
            requests.extend(rest);
            batch.close(&known);
            let appended = match in_time(append(&mut connection, &batch)).await {
                Ok(Some(_)) if is_locked => {
                    in_time(connection.execute("commit")).await.map(|_| true)
                }
                appended => appended.map(|now| now.is_some()),
            };
            let recorded = match appended {
                Err(Fault::Lost(_)) => settle(shared, &batch).await.map(|(settled, recorded)| {
                    connection = settled;
                    // With the one that was lost.
                    is_locked = false;
                    recorded
                }),
                appended => appended.map_err(Failure::Fault),
            };
            match recorded {
                Ok(true) => {
                    head = batch.head();
                    shared.appended(batch);
                    is_locked = false;
                    if requests.is_empty() {
                        return Ok(connection);
                    }
                    if read_at.elapsed() > READ_AGE_MAX {
                        break;
                    }
                }
                // Of the others nothing was sent.
                Err(Failure::OutcomeUnknown) if !requests.is_empty() => {
                    tell(batch.requests, &Failure::OutcomeUnknown);
                    return Err(Fault::Lost("during an append").into());
                }
                not_recorded => {
                    requests.splice(..0, batch.requests);
                    not_recorded?;
                    // Nobody can have moved the head.
                    if is_locked {
                        return Err(Fault::Lost("an append was refused under the lock").into());
                    }
                    lost_race = true;
                    break;
                }
            }
        }
    }
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute("begin").await?;
    ledger::lock_to_append(connection).await
}

async fn follow_rules(shared: &Shared, connection: &mut PgConnection) -> Result<(), Failure> {
    let rules = ledger::rules_in_force(connection).await.map_err(|fault| match fault {
        RulesFault::Database(error) => Failure::Fault(error.into()),
        RulesFault::Missing | RulesFault::Unreadable(_) | RulesFault::OtherNormaliser { .. } => {
            Failure::Rules(fault)
        }
    })?;
    tracing::info!(rules = rules.name(), version = rules.version(), "following new rules");
    shared.rules.send_replace(rules.into());
    Ok(())
}

/// Finds out whether an append whose connection died is in the ledger, by sending it again:
/// it can be appended once only, be it by the statement that was lost, which may still be
/// running, or by this one. Where the head has moved, the line at the batch's first position
/// says whose batch it was.
async fn settle(shared: &Shared, batch: &Batch) -> Result<(PgConnection, bool), Failure> {
    let since = Instant::now();
    tracing::warn!(batch_len = batch.len(), "the connection was lost during an append");
    while since.elapsed() < SETTLE_WAIT {
        match try_settle(shared, batch).await {
            Ok(settled) => return Ok(settled),
            Err(Fault::Data(_)) => return Err(Failure::OutcomeUnknown),
            Err(_) => tokio::time::sleep(SETTLE_PAUSE).await,
        }
    }
    Err(Failure::OutcomeUnknown)
}

async fn try_settle(shared: &Shared, batch: &Batch) -> Result<(PgConnection, bool), Fault> {
    let mut connection = shared.database.recorder().await?;
    if in_time(append(&mut connection, batch)).await?.is_some() {
        return Ok((connection, true));
    }
    let first = batch.events.first().expect("every observation is an event");
    let line = in_time(ledger::line_at(&mut connection, first.position)).await?;
    Ok((connection, line.as_ref() == batch.lines.first()))
}

impl Failure {
    fn told(&self) -> NotRecorded {
        match self {
            Self::Fault(fault) if fault.is_of_one() => NotRecorded::Refused,
            Self::Fault(Fault::Corrupt) => NotRecorded::Refused,
            Self::Fault(Fault::OtherVersion(_)) => NotRecorded::OtherVersion,
            Self::Fault(fault) if fault.is_disk_full() => NotRecorded::DiskFull,
            Self::Fault(_) => NotRecorded::Unreachable,
            Self::Rules(_) => NotRecorded::OtherRules,
            Self::OutcomeUnknown => NotRecorded::OutcomeUnknown,
        }
    }
}
