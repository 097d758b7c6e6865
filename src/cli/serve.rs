//! The service, wired from top to bottom.

use super::config::{DatabaseConfig, ServeConfig};
use super::place::Place;
use super::reload;
use super::signals::Signal;
use crate::access::{Gate, ReadLog};
use crate::audit::Auditor;
use crate::erasure::Eraser;
use crate::http::{self, Access, App, SharedAnswers, Tls};
use crate::metrics::Metrics;
use crate::projection::Reader;
use crate::recorder::{self, Recorder};
use crate::seal::{self, SealInputs, Status};
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// For Postgres to take leave of the readers' sessions: it may be gone.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Each takes some 30 kB of memory.
const CONNECTIONS_MAX: u64 = 10_000;
/// For Postgres' sessions, checkpoints and whatever else is no connection of a client.
const FILES_KEPT: u64 = 100;

/// Serves until the signal: then stops accepting, finishes what is queued, and stops the
/// private Postgres.
pub async fn serve(
    database: DatabaseConfig,
    config: ServeConfig,
    mut signal: Signal,
) -> anyhow::Result<()> {
    let connections_max = connections_max(raise_file_limit());
    let address = config.address()?;
    let Door { gate, tls } = Door::open(&config, address)?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another with --listen or PORT")
    })?;

    let metrics = Arc::new(Metrics::new());
    let kept_for = config.retries_kept_for();
    let (place, inputs, (recorder, recording)) = tokio::select! {
        biased;
        name = &mut signal => {
            tracing::info!("{name} during the start: stopping");
            return Ok(());
        }
        opened = open(database, &config, &metrics) => opened?,
    };
    let keeping = place.keep_postgres();
    let reader = Reader::new(&place.database);
    let mut recording = pin!(recording);
    let expiring = tokio::spawn(recorder::expire(place.database.clone(), kept_for));
    let (sealer, status) = match inputs {
        Some(inputs) => {
            let (sealer, status) = seal::start(inputs, metrics.clone());
            (Some(sealer), status)
        }
        None => {
            tracing::info!("nothing is sealed: there is no signing key (see --signing-key)");
            (None, Arc::new(Status::off()))
        }
    };
    let auditor = Auditor::new(&place.database);
    let (reads, reads_task) = ReadLog::start(place.database.clone(), metrics.clone());
    let app = App {
        recorder,
        reader: reader.clone(),
        auditor: auditor.clone(),
        eraser: Eraser::start(place.database.clone()),
        status,
        metrics,
        shared: SharedAnswers::default(),
        access: gate.map(|gate| Access { gate, reads }),
        local_names_only: config.local_names_only(),
    };
    let answering = http::answering(app);
    tracing::info!(
        ledger = place.database.ledger().as_str(),
        "listening on {}://{} (its API: /docs)",
        if tls.is_some() { "https" } else { "http" },
        listener.local_addr()?
    );

    let shutdown = async move {
        let name = signal.await;
        tracing::info!("{name}: finishing what is queued");
    };
    tokio::select! {
        biased;
        () = &mut recording => anyhow::bail!("the recorder ended before the service"),
        () = http::serve(listener, connections_max, tls, answering, shutdown) => {}
    }
    // The last handles went with what answers: both tasks drain their queues and end.
    recording.await;
    reads_task.await.context("the record of reads panicked")?;
    expiring.abort();
    if let Some(sealer) = sealer {
        sealer.stop().await;
    }
    let closing = async { tokio::join!(reader.close(), auditor.close()) };
    if timeout(CLOSE_WAIT_MAX, closing).await.is_err() {
        tracing::debug!("some readers' sessions end with the process");
    }
    if let Some(keeping) = keeping {
        keeping.abort();
    }
    place.close().await?;
    tracing::info!("stopped");
    Ok(())
}

/// The ledger, what it is sealed with, where nothing contradicts what was signed, and its recorder.
async fn open(
    database: DatabaseConfig,
    config: &ServeConfig,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Place, Option<SealInputs>, (Recorder, impl Future<Output = ()> + use<>))> {
    let place = Place::open_for_service(database, &config.seal).await?;
    let inputs = place.seal_inputs(&config.seal).await?;
    match &inputs {
        Some(inputs) => seal::check(inputs.clone(), config.new_checkpoint_dir).await?,
        // Else nobody would look into the directory, and whoever gave it relies on that.
        None => anyhow::ensure!(
            config.seal.checkpoint_dir.is_none(),
            "--checkpoint-dir needs the key that its checkpoint is signed with: give --signing-key"
        ),
    }
    let kept_for = config.retries_kept_for();
    let recorder = recorder::start(place.database.clone(), metrics.clone(), kept_for).await?;
    Ok((place, inputs, recorder))
}

/// Each connection is an open file. Systems give a process few by default, for old programs that could
/// not count further, and let it ask for more. Returns how many there may be.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // No more than are needed: macOS refuses a limit without a bound, which its maximum is.
    let wanted = (CONNECTIONS_MAX + FILES_KEPT).min(limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::debug!("there are no more open files than {:?}: {error}", limit.current);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// However many connect, there are files left for sessions of Postgres.
fn connections_max(files_max: u64) -> usize {
    let max = files_max.saturating_sub(FILES_KEPT).clamp(1, CONNECTIONS_MAX);
    usize::try_from(max).expect("it is at most CONNECTIONS_MAX")
}

/// Who is let in, and how connections are kept from listeners.
struct Door {
    gate: Option<Arc<Gate>>,
    tls: Option<Tls>,
}

impl Door {
    /// Reads both, and again at each SIGHUP, which without them must not end the service either.
    fn open(config: &ServeConfig, address: SocketAddr) -> anyhow::Result<Self> {
        let gate = config.tokens.clone().map(Gate::open).transpose()?.map(Arc::new);
        let tls = config.tls().map(|(certificate, key)| Tls::open(certificate, key)).transpose()?;
        tokio::spawn(reload::reload(reload::listen()?, gate.clone(), tls.clone()));
        if gate.is_some() && tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                "whoever listens on the way reads tokens and customers: give --tls-cert and \
                 --tls-key, or let something before the service do TLS"
            );
        }
        Ok(Self { gate, tls })
    }
}
