//! The service, wired from top to bottom.

use super::config::{DatabaseConfig, ServeConfig};
use super::place::Place;
use crate::http::{self, App};
use crate::metrics::Metrics;
use crate::projection::Reader;
use crate::{ledger, recorder};
use anyhow::Context as _;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM or Ctrl-C: then stops accepting, finishes what is queued, and stops
/// the private Postgres.
pub async fn serve(database: DatabaseConfig, config: ServeConfig) -> anyhow::Result<()> {
    let address = config.address()?;
    let shutdown = shutdown()?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another with --listen or PORT")
    })?;

    let place = Place::reach(database).await?;
    let _service = place.postgres.as_ref().map(|postgres| postgres.lock_service()).transpose()?;
    ledger::open(&place.database).await?;

    let metrics = Arc::new(Metrics::new());
    let reader = Reader::new(&place.database);
    let (recorder, mut task) = recorder::start(place.database.clone(), metrics.clone()).await?;
    let router = http::router(App { recorder, reader: reader.clone(), metrics });
    tracing::info!(
        ledger = place.database.ledger().as_str(),
        "listening on http://{}",
        listener.local_addr()?
    );

    tokio::select! {
        () = http::serve(listener, router, shutdown) => {}
        ended = &mut task => anyhow::bail!("the recorder ended before the service: {ended:?}"),
    }
    // The last handle went with the router: the recorder drains its queue and ends.
    task.await.context("the recorder panicked")?;
    reader.close().await;
    place.close().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Listens for the signals from here on, so that none is missed while the service starts.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is queued"),
            _ = interrupt.recv() => tracing::info!("interrupted: finishing what is queued"),
        }
    })
}
