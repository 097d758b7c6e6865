//! Accepts connections until it is told to stop.

use super::connection::{Connection, Patience};
use axum::Router;
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Longer than a request may wait for its answer.
const LAST_ANSWERS_WAIT_MAX: Duration = Duration::from_secs(35);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is ready; then accepts nothing more and returns when the requests
/// under way are answered, or after 35 s. Answers without an end are broken off at once.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let (stop, stopping) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (watcher, stopping) = (connections.watcher(), stopping.clone());
                tokio::spawn(answer(stream, router.clone(), watcher, stopping));
            }
            Err(error) => {
                // Such as too many open files: connections that end give theirs back.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    if timeout(LAST_ANSWERS_WAIT_MAX, connections.shutdown()).await.is_err() {
        tracing::warn!("some requests were not answered before the service stopped");
    }
}

/// Answers the requests of one connection. A handler that panics ends this task alone.
async fn answer(
    stream: TcpStream,
    router: Router,
    watcher: Watcher,
    mut stopping: watch::Receiver<()>,
) {
    // Without it, an answer may wait for the client to acknowledge the one before.
    let _ = stream.set_nodelay(true);
    let patience = Patience::new();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        patience.head_received();
        let answer = router.call(request);
        let patience = patience.clone();
        async move {
            let answer = answer.await;
            if answer.as_ref().is_ok_and(is_stream) {
                patience.streaming();
            } else {
                patience.answered();
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(Connection::new(stream, patience.clone()), service);
    // However it ends, there is nobody left to tell.
    // The sender says nothing: that it is gone says that the service stops.
    let stopping = async move { while stopping.changed().await.is_ok() {} };
    patience.limit(watcher.watch(connection), stopping).await;
}

/// Its length is not known: it goes on for as long as its client takes it.
fn is_stream(answer: &Response) -> bool {
    answer.body().size_hint().exact().is_none()
}
