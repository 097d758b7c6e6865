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
use crate::seal::{self, SealInputs, Sealer, Status};
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long to wait for Postgres to end the sessions of readers. It may be gone.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Each connection takes some 30 kB of memory.
const CONNECTIONS_MAX: u64 = 10_000;
/// How many files are kept for sessions of Postgres, checkpoints and all else that is not a connection of
/// a client.
const FILES_KEPT: u64 = 100;
/// How many clients may have connected that are not accepted yet. All of them come at once after a restart, and
/// one that finds no room tries again only after a second. The system may allow fewer.
const BACKLOG_LEN: u32 = 4096;

/// Serves until the signal. Then it accepts no more connections, finishes what is queued, and stops the
/// private Postgres.
pub async fn serve(
    database: DatabaseConfig,
    config: ServeConfig,
    mut signal: Signal,
) -> anyhow::Result<()> {
    let connections_max = connections_max(raise_file_limit());
    let address = config.address()?;
    let Door { gate, tls } = Door::open(&config, address)?;
    let listener = listen(address).with_context(|| {
        format!("cannot listen on {address}; choose another with --listen or PORT")
    })?;

    let metrics = Arc::new(Metrics::default());
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
    let expiring =
        tokio::spawn(recorder::expire(place.database.clone(), config.retries_kept_for()));
    let (sealer, status) = start_sealer(inputs, &metrics);
    let watching = match sealer {
        Some(_) => None,
        None => watch_others(&place, &metrics).await?,
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
    // The last handles are gone with the answers: both tasks drain their queues and end.
    recording.await;
    reads_task.await.context("the record of reads panicked")?;
    expiring.abort();
    if let Some(sealer) = sealer {
        sealer.stop().await;
    }
    let closing = async { tokio::join!(reader.close(), auditor.close()) };
    if timeout(CLOSE_WAIT_MAX, closing).await.is_err() {
        tracing::debug!("some sessions of readers end with the process");
    }
    for task in [watching, keeping].into_iter().flatten() {
        task.abort();
    }
    place.close().await?;
    tracing::info!("stopped");
    Ok(())
}

fn start_sealer(
    inputs: Option<SealInputs>,
    metrics: &Arc<Metrics>,
) -> (Option<Sealer>, Arc<Status>) {
    match inputs {
        Some(inputs) => {
            let (sealer, status) = seal::start(inputs, metrics.clone());
            (Some(sealer), status)
        }
        None => (None, Arc::new(Status::off())),
    }
}

/// Measures what is sealed elsewhere, if anything is: this node has no key. Says what that means.
async fn watch_others(
    place: &Place,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<JoinHandle<()>>> {
    if !seal::is_sealed(&mut place.database.owner().await?).await? {
        tracing::info!("nothing is sealed: there is no signing key (see --signing-key)");
        return Ok(None);
    }
    tracing::warn!(
        "this node seals nothing: the ledger is sealed, and there is no signing key (see --signing-key)"
    );
    Ok(Some(tokio::spawn(seal::watch(place.database.clone(), metrics.clone()))))
}

/// Opens the ledger, and starts its recorder. Fails if anything contradicts what was signed. Returns what a
/// sealer is given, too, if there is a key.
async fn open(
    database: DatabaseConfig,
    config: &ServeConfig,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Place, Option<SealInputs>, (Recorder, impl Future<Output = ()> + use<>))> {
    let place = Place::open_for_service(database, &config.seal).await?;
    let inputs = place.seal_inputs(&config.seal).await?;
    match &inputs {
        Some(inputs) => seal::check(inputs.clone(), config.new_checkpoint_dir).await?,
        // Without a key nothing would look into the directory, although the operator relies on it.
        None => anyhow::ensure!(
            config.seal.checkpoint_dir.is_none(),
            "--checkpoint-dir needs the key that its checkpoint is signed with: pass --signing-key"
        ),
    }
    let kept_for = config.retries_kept_for();
    let recorder = recorder::start(place.database.clone(), metrics.clone(), kept_for).await?;
    Ok((place, inputs, recorder))
}

/// As `TcpListener::bind`, which has a shorter backlog.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of a service that ended just now may linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG_LEN)
}

/// Raises the limit of open files: each connection is one. By default systems give a process few, for
/// old programs that could not count further, and let it ask for more. Returns the limit.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // No more than are needed: the maximum of macOS is unlimited, which it then refuses.
    let wanted = (CONNECTIONS_MAX + FILES_KEPT).min(limit.maximum.unwrap_or(u64::MAX));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many clients may connect, so that files are left for sessions of Postgres.
fn connections_max(files_max: u64) -> usize {
    let max = files_max.saturating_sub(FILES_KEPT).clamp(1, CONNECTIONS_MAX);
    usize::try_from(max).expect("it is at most CONNECTIONS_MAX")
}

/// Who is let in, and how connections are encrypted.
struct Door {
    gate: Option<Arc<Gate>>,
    tls: Option<Tls>,
}

impl Door {
    /// Reads both, and again at each SIGHUP. The signal does not end the service if there are none, either.
    fn open(config: &ServeConfig, address: SocketAddr) -> anyhow::Result<Self> {
        let gate = config.tokens.clone().map(Gate::open).transpose()?.map(Arc::new);
        let tls = config.tls().map(|(certificate, key)| Tls::open(certificate, key)).transpose()?;
        tokio::spawn(reload::reload(reload::listen()?, gate.clone(), tls.clone()));
        if gate.is_some() && tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                "tokens and customers cross the network unencrypted: pass --tls-cert and --tls-key, or put \
                 a proxy that does TLS in front of the service"
            );
        }
        Ok(Self { gate, tls })
    }
}
