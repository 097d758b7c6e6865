//! Who read personal data: noted without delaying the request, kept in the table `access`.

use super::role::Role;
use crate::identity::{Asker, Timestamp};
use crate::ledger::{Database, Fault, in_time};
use crate::metrics::Metrics;
use crate::outage::Outage;
use sqlx::{PgConnection, PgExecutor, query_as, query_file};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Some 300 bytes each.
const WAITING_LEN_MAX: usize = 10_000;
const BATCH_LEN_MAX: usize = 1_000;
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
/// How long, in all, a service that stops tries to keep what is noted.
const LAST_WRITE_WAIT: Duration = Duration::from_secs(5);

/// A read of personal data.
pub struct Read {
    pub at: Instant,
    pub asked_by: Asker,
    pub role: Role,
    /// The method and the pattern of the path.
    pub route: String,
    pub contact_id: Option<i64>,
    pub other_contact_id: Option<i64>,
    pub position: Option<i64>,
    pub purpose: Option<String>,
}

/// A read as it is kept.
pub struct ReadRow {
    pub id: i64,
    pub read_at: Timestamp,
    pub asked_by: String,
    pub role: String,
    pub route: String,
    pub contact_id: Option<i64>,
    pub other_contact_id: Option<i64>,
    pub position: Option<i64>,
    pub purpose: Option<String>,
}

/// Takes note of reads. Cheap to clone.
#[derive(Clone)]
pub struct ReadLog {
    sender: mpsc::Sender<Read>,
    metrics: Arc<Metrics>,
    /// Nothing is sent through it: when all of them are gone, the service stops.
    _running: mpsc::Sender<()>,
}

impl ReadLog {
    /// Starts the task that keeps what is noted. It ends when all handles are gone, and what they
    /// noted is kept or given up.
    pub fn start(database: Database, metrics: Arc<Metrics>) -> (Self, JoinHandle<()>) {
        let (sender, noted) = mpsc::channel(WAITING_LEN_MAX);
        let (running, ended) = mpsc::channel(1);
        let task = Task {
            database,
            metrics: metrics.clone(),
            noted,
            in_hand: Vec::new(),
            session: None,
            outage: Outage::default(),
        };
        (Self { sender, metrics, _running: running }, tokio::spawn(task.run(ended)))
    }

    /// Notes a read, without waiting. While as many wait as may, it is lost and counted: a database
    /// that is slow to keep records delays no answer.
    pub fn note(&self, read: Read) {
        if self.sender.try_send(read).is_err() {
            self.metrics.reads_lost.inc();
        }
    }
}

struct Task {
    database: Database,
    metrics: Arc<Metrics>,
    noted: mpsc::Receiver<Read>,
    /// What is being written.
    in_hand: Vec<Read>,
    /// None after a failure, until it is needed again.
    session: Option<PgConnection>,
    outage: Outage,
}

impl Task {
    /// Keeps what is noted until the service stops, and for as long after that as is allowed in
    /// all, a write that is under way included.
    async fn run(mut self, mut ended: mpsc::Receiver<()>) {
        let too_late = async {
            ended.recv().await;
            sleep(LAST_WRITE_WAIT).await;
        };
        tokio::select! {
            biased;
            () = self.keep_all() => {}
            () = too_late => {
                let reads_len = self.in_hand.len() + self.noted.len();
                self.give_up(reads_len);
            }
        }
    }

    async fn keep_all(&mut self) {
        while self.noted.recv_many(&mut self.in_hand, BATCH_LEN_MAX).await > 0 {
            self.keep().await;
            self.in_hand.clear();
        }
    }

    /// Writes until it is done. If the connection breaks in mid-commit, reads may be kept twice.
    async fn keep(&mut self) {
        loop {
            let Err(fault) = in_time(self.write()).await else { return self.tell_success() };
            // Another node was faster.
            if fault.is_duplicate() {
                continue;
            }
            self.session = None;
            self.tell_failure(&fault);
            if matches!(fault, Fault::Data(_)) {
                return self.give_up(self.in_hand.len());
            }
            sleep(PAUSE_AFTER_FAULT).await;
        }
    }

    fn give_up(&self, reads_len: usize) {
        tracing::error!(reads_len, "reads of personal data are not on record");
        self.metrics.reads_lost.inc_by(reads_len as u64);
    }

    async fn write(&mut self) -> Result<(), Fault> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.database.access().await?,
        };
        let appended = append(&mut session, &self.in_hand).await;
        self.session = Some(session);
        Ok(appended?)
    }

    fn tell_success(&mut self) {
        if self.outage.ends() {
            tracing::info!("reads of personal data are put on record again");
        }
    }

    fn tell_failure(&mut self, fault: &Fault) {
        if self.outage.begins() {
            tracing::error!("reads of personal data wait to be put on record: {fault}");
        }
    }
}

async fn append(session: &mut PgConnection, reads: &[Read]) -> Result<(), sqlx::Error> {
    let micros = |read: &Read| i64::try_from(read.at.elapsed().as_micros()).unwrap_or(i64::MAX);
    let ages_us: Vec<_> = reads.iter().map(micros).collect();
    let askers: Vec<_> = reads.iter().map(|read| read.asked_by.as_str()).collect();
    let roles: Vec<_> = reads.iter().map(|read| read.role.as_str()).collect();
    let routes: Vec<_> = reads.iter().map(|read| &*read.route).collect();
    let contact_ids: Vec<_> = reads.iter().map(|read| read.contact_id).collect();
    let other_contact_ids: Vec<_> = reads.iter().map(|read| read.other_contact_id).collect();
    let positions: Vec<_> = reads.iter().map(|read| read.position).collect();
    let purposes: Vec<_> = reads.iter().map(|read| read.purpose.as_deref()).collect();
    query_file!(
        "src/access/append.sql",
        &ages_us,
        askers as _,
        roles as _,
        routes as _,
        contact_ids as _,
        other_contact_ids as _,
        positions as _,
        purposes as _,
    )
    .execute(session)
    .await?;
    Ok(())
}

/// Up to `limit` reads after a number, in order. A caller that goes on from the last one misses none.
pub async fn reads(
    executor: impl PgExecutor<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<ReadRow>, sqlx::Error> {
    query_as!(
        ReadRow,
        "select id, read_at, asked_by, role, route, contact_id, other_contact_id, position,
            purpose
        from access
        where id > $1
        order by id
        limit $2",
        after,
        limit
    )
    .fetch_all(executor)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_finds_no_room_is_counted_and_waits_for_no_one() {
        let metrics = Arc::new(Metrics::default());
        let (sender, _noted) = mpsc::channel(2);
        let (_running, _) = mpsc::channel(1);
        let log = ReadLog { sender, metrics: metrics.clone(), _running };
        for _ in 0..5 {
            log.note(Read {
                at: Instant::now(),
                asked_by: "audit".parse().unwrap(),
                role: Role::Auditor,
                route: "GET /events".to_owned(),
                contact_id: None,
                other_contact_id: None,
                position: None,
                purpose: None,
            });
        }
        assert_eq!(metrics.reads_lost.get(), 3);
        assert!(metrics.text(0).contains("identity_ledger_access_reads_lost_total 3\n"));
    }
}
