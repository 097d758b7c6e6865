//! The sealer: one over all nodes at a time, beside the write path.

use super::checkpoint::Checkpoint;
use super::error::{By, SealError};
use super::grow::{Growing, extent};
use super::key::SigningKey;
use super::loss;
use super::outside::{CheckpointDir, OutsideError};
use super::status::{Sealing, Status};
use super::store;
use crate::ledger::{self, Database, Fault, in_time, try_lock_sealer};
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::threads::on_a_thread;
use anyhow::{Context as _, bail, ensure};
use sqlx::PgConnection;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The time from the beginning of one look at the head to that of the next. A checkpoint thus follows an
/// event within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// To see that lines still differ, all events after the last checkpoint may have to be read again.
const LOOK_EVERY_IF_LINES_DIFFER: Duration = Duration::from_secs(60);
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
/// For a node without a key, which sees only what others seal. Postgres ends the session of a sealer that is
/// silent for five seconds.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// How long a service that stops tries to seal its last events.
const LAST_SEAL_WAIT: Duration = Duration::from_secs(5);

/// What a sealer is given.
#[derive(Clone)]
pub struct SealInputs {
    pub database: Database,
    pub key: SigningKey,
    pub outside: Option<CheckpointDir>,
}

/// A running sealer.
pub struct Sealer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts the sealer of this node. Postgres may be away, then or later.
pub fn start(inputs: SealInputs, metrics: Arc<Metrics>) -> (Sealer, Arc<Status>) {
    let status = Arc::new(Status::standby(inputs.key.verifier_keys().clone()));
    let (stop, stopped) = watch::channel(false);
    let database = inputs.database.clone();
    let growing = Growing::new(inputs);
    let task = Task { database, growing, status: status.clone(), metrics, stopped };
    (Sealer { stop, task: tokio::spawn(run(task)) }, status)
}

/// Runs the task. If it panics, that shows like any other reason why nothing is sealed.
async fn run(task: Task) {
    let (status, metrics) = (task.status.clone(), task.metrics.clone());
    if tokio::spawn(task.run()).await.is_err() {
        let why = "the sealer panicked; run identity-ledger verify, and start the service again";
        turn(&status, &metrics, Sealing::Refused(why.to_owned()));
    }
}

/// Sets the status and the metrics, and logs a change once.
fn turn(status: &Status, metrics: &Metrics, sealing: Sealing) {
    let before = status.set(sealing.clone());
    metrics.sealing_refused.set(matches!(sealing, Sealing::Refused(_)).into());
    metrics.sealing_stuck.set(matches!(sealing, Sealing::Stuck(_)).into());
    if before == sealing {
        return;
    }
    match (before, sealing) {
        (_, Sealing::Refused(why)) => tracing::error!("nothing more is sealed: {why}"),
        (_, Sealing::Stuck(why)) => {
            tracing::error!("nothing is sealed until this is put right: {why}")
        }
        (_, Sealing::Active) => tracing::info!("this node seals the ledger"),
        _ => {}
    }
}

/// Measures what is sealed elsewhere, for a node without a key. Does not end.
pub async fn watch(database: Database, metrics: Arc<Metrics>) {
    loop {
        // If Postgres is away, the recorder says so.
        if let Ok(mut session) = database.sealer().await {
            while measure(&mut session, &metrics).await.is_ok() {
                sleep(WATCH_EVERY).await;
            }
        }
        sleep(PAUSE_AFTER_FAULT).await;
    }
}

/// Measures what another node seals. What this node measured last would soon be wrong.
async fn measure(session: &mut PgConnection, metrics: &Metrics) -> Result<(), Fault> {
    let (position, gaps) = extent(session).await?;
    let size = in_time(store::sealed_size(session)).await?;
    metrics.sealed(size, gaps.size_at(position), position);
    Ok(())
}

/// Seals what is in the ledger now, unless another sealer is at work.
pub async fn seal_once(inputs: SealInputs) -> anyhow::Result<()> {
    let mut session = inputs.database.sealer().await?;
    if try_lock_sealer(&mut session).await? {
        make_outside(&inputs).await;
        Growing::new(inputs).seal(&mut session, |_, _, _| {}).await?;
    }
    Ok(())
}

/// Seals what is in the ledger now, whatever was signed outside, and replaces the checkpoint there at the
/// end: if it is interrupted before that, it can be done again. Fails if another sealer is at work.
pub async fn seal_anew(inputs: SealInputs, outside: &CheckpointDir) -> anyhow::Result<()> {
    let mut session = inputs.database.sealer().await?;
    ensure!(
        try_lock_sealer(&mut session).await?,
        "a service on this database is sealing; stop every service on it and try again"
    );
    Growing::new(SealInputs { outside: None, ..inputs }).seal(&mut session, |_, _, _| {}).await?;
    let signed = store::last_checkpoint(&mut session)
        .await?
        .context("the checkpoint has vanished; try again")?;
    Ok(outside.replace(&signed.note)?)
}

/// Makes the directory of the checkpoint outside. If that fails, so does the writing of the checkpoint, and
/// tells why.
async fn make_outside(inputs: &SealInputs) {
    if let Some(outside) = &inputs.outside {
        let _ = outside.make_aside().await;
    }
}

/// Fails if the ledger contradicts the checkpoint that is kept outside: a service on it would give out
/// numbers and positions again that others know already. Fails, too, if that checkpoint cannot be read, is
/// of another key, or is missing although the ledger is sealed, unless the directory is new; and if the last
/// checkpoint in the database is not valid. Anything else that is wrong stops the sealing alone. Makes the
/// directory if it is missing.
pub async fn check(inputs: SealInputs, is_new_dir: bool) -> anyhow::Result<()> {
    let Some(outside) = inputs.outside.clone() else { return Ok(()) };
    let file = outside.file().display();
    let mut session = inputs.database.sealer().await?;
    // Read before the file, which a sealer writes first: another node may be sealing meanwhile.
    let stored = store::last_checkpoint(&mut session).await?;
    let kept = outside.read_aside(inputs.key.verifier_keys()).await.context(
        "the checkpoint in --checkpoint-dir cannot be used: pass the key that it was signed with \
         (--signing-key), or, if the file is damaged, put a copy of it back",
    )?;
    ensure!(
        kept.is_some() || stored.is_none() || is_new_dir,
        "there is no {file}, and the ledger is sealed already: pass the directory that has it, or, if no \
         checkpoint was kept yet, pass --new-checkpoint-dir once"
    );
    if is_new_dir && kept.is_some() {
        tracing::warn!(
            "--new-checkpoint-dir is not needed any more, and hides that {file} is missing: remove it"
        );
    }
    make_outside(&inputs).await;
    let covered = kept.as_ref().map(|kept| kept.head);
    match Growing::new(inputs.clone()).check(&mut session, covered).await {
        Err(SealError::Fault(fault)) => return Err(fault.into()),
        Err(error @ SealError::NotFinished(_)) => return Err(error.into()),
        Err(error @ SealError::WentBack { by: By::Outside, .. }) => {
            let kept = kept.context("nothing was kept outside")?;
            bail!("{error} ({file}): {}", loss::what_to_do(inputs, &mut session, kept).await)
        }
        Err(error @ SealError::Differs { by: By::Outside, .. }) => bail!(
            "{error} ({file}): this is not an older backup, but another history than was signed; \
             find out who has rewritten it, beginning with identity-ledger verify"
        ),
        Err(error @ (SealError::NotACheckpoint(_) | SealError::RowDiffers)) => bail!(
            "{error}: either the key file lacks the line of an earlier key, or this is another history \
             than was signed; find out which, beginning with identity-ledger verify"
        ),
        Ok(()) | Err(_) => {}
    }
    match stored {
        Some(stored) if kept.is_none() => begin_outside(outside, stored.note).await,
        _ => Ok(()),
    }
}

/// Writes the first checkpoint into a new directory: the next one is signed only when there is a new event.
async fn begin_outside(outside: CheckpointDir, note: String) -> anyhow::Result<()> {
    on_a_thread(move || {
        outside.write(&Checkpoint::read_by(&note, None)?)?;
        Ok(())
    })
    .await
}

impl Sealer {
    /// Seals what is left, if that takes seconds only, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

struct Task {
    database: Database,
    growing: Growing,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    stopped: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self) {
        let mut outage = Outage::default();
        while !*self.stopped.borrow() {
            let Err(fault) = self.session(&mut outage).await else { return };
            self.growing.forget();
            if outage.begins() {
                tracing::warn!("sealing waits for Postgres: {fault}");
            }
            self.wait_until(Instant::now() + PAUSE_AFTER_FAULT).await;
        }
    }

    /// Seals until it is stopped, or its session fails.
    async fn session(&mut self, outage: &mut Outage) -> Result<(), Fault> {
        let mut session = self.database.sealer().await?;
        while !in_time(try_lock_sealer(&mut session)).await? {
            measure(&mut session, &self.metrics).await?;
            outage.ends();
            self.turn(Sealing::Standby);
            if self.wait_until(Instant::now() + LOOK_EVERY).await {
                return Ok(());
            }
        }
        let mut stopped = self.stopped.clone();
        loop {
            let begun = Instant::now();
            let pause = tokio::select! {
                looked = self.look(&mut session) => looked?,
                // There is much to catch up on. The next sealer goes on from here.
                () = stopped_for_long(&mut stopped) => return Ok(()),
            };
            outage.ends();
            if self.hold_until(&mut session, begun + pause).await? {
                let last = timeout(LAST_SEAL_WAIT, self.look(&mut session)).await;
                return last.map_or(Ok(()), |looked| looked.map(drop));
            }
        }
    }

    /// Seals what is new. Returns how long after its beginning to look again. If it refuses, it keeps the
    /// lock: no other node may sign instead. Nor need one try what the role may not do: all nodes have the
    /// same.
    async fn look(&mut self, session: &mut PgConnection) -> Result<Duration, Fault> {
        let metrics = &self.metrics;
        let sealed = |size, head, position| metrics.sealed(size, head, position);
        match self.growing.seal(session, sealed).await {
            Ok(()) => {
                self.turn(Sealing::Active);
                Ok(LOOK_EVERY)
            }
            Err(SealError::Fault(fault)) if !fault.is_not_allowed() => Err(fault),
            Err(error) => {
                self.growing.forget();
                let why = error.to_string();
                let (sealing, pause) = match &error {
                    SealError::Fault(_) => (Sealing::Stuck(why), PAUSE_AFTER_FAULT),
                    SealError::Outside(OutsideError::Io(..)) => (Sealing::Stuck(why), LOOK_EVERY),
                    error if error.is_in_lines() => {
                        (Sealing::Refused(why), LOOK_EVERY_IF_LINES_DIFFER)
                    }
                    _ => (Sealing::Refused(why), LOOK_EVERY),
                };
                self.turn(sealing);
                // Some errors come before Postgres is asked for anything. It ends a session that is silent, and
                // gives the lock to the next.
                let _ = measure(session, &self.metrics).await;
                Ok(pause)
            }
        }
    }

    fn turn(&self, sealing: Sealing) {
        turn(&self.status, &self.metrics, sealing);
    }

    /// As `wait_until`, and keeps the session in use: Postgres ends one that is silent, and gives the lock
    /// to the next.
    async fn hold_until(
        &mut self,
        session: &mut PgConnection,
        end: Instant,
    ) -> Result<bool, Fault> {
        loop {
            if self.wait_until(end.min(Instant::now() + LOOK_EVERY)).await {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            in_time(ledger::position(&mut *session)).await?;
        }
    }

    /// Waits. Returns early, and true, if the sealer is stopped.
    async fn wait_until(&mut self, end: Instant) -> bool {
        tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => true,
            () = sleep_until(end) => false,
        }
    }
}

/// Returns when the sealer was stopped, and has had the time for its last events.
async fn stopped_for_long(stopped: &mut watch::Receiver<bool>) {
    // The handle is kept until it has stopped the task.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    sleep(LAST_SEAL_WAIT).await;
}
