//! Accepts connections until it is told to stop.

use super::answering::Answering;
use super::connection::{Connection, Patience, Streaming};
use super::guard::Peer;
use super::tls::Tls;
use super::unread::Unread;
use crate::outage::Outage;
use axum::body::Body;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::StreamExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than nearly every request may take: 10 s for its body, 30 s for its answer, 5 s for a lock
/// before that. Some ask Postgres more than once, and each time may take 30 s.
const LAST_ANSWERS_WAIT_MAX: Duration = Duration::from_secs(50);
/// For a client to shake hands.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Number of bytes. Any client may have this many kept for each connection, without a token. Hyper's own limit
/// is 25 times as high.
const HEAD_LEN_MAX: usize = 16 * 1024;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is ready. Then accepts no more connections, and returns when the requests under way
/// are answered, or after 50 s. Streams are broken off at once. A client that connects while `connections_max`
/// connections are open waits until one of them ends.
pub async fn serve(
    listener: TcpListener,
    connections_max: usize,
    tls: Option<Tls>,
    answering: Answering,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(());
    let mut shutdown = pin!(shutdown);
    let mut clients = JoinSet::new();
    let (mut failing, mut crowded) = (Outage::default(), Outage::default());
    loop {
        let is_full = clients.len() >= connections_max;
        if is_full && crowded.begins() {
            tracing::warn!(connections_max, "others have to wait until a connection ends");
        }
        // While clients come as others go, it is still the same crowd.
        if clients.len() <= connections_max / 2 {
            crowded.ends();
        }
        let accepted = tokio::select! {
            accepted = listener.accept(), if !is_full => accepted,
            Some(_) = clients.join_next() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if failing.ends() {
                    tracing::info!("connections are accepted again");
                }
                // Without it, an answer may wait for the client to acknowledge the one before.
                let _ = stream.set_nodelay(true);
                let client =
                    Client { peer, answering: answering.clone(), stopping: stopping.clone() };
                clients.spawn(client.welcome(stream, tls.clone()));
            }
            // The client has gone already.
            Err(error) if is_of_client(&error) => {}
            Err(error) => {
                // Such as too many open files: connections that end give theirs back.
                if failing.begins() {
                    tracing::warn!(%error, "cannot accept connections");
                }
                sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let last_answers = async { while clients.join_next().await.is_some() {} };
    if timeout(LAST_ANSWERS_WAIT_MAX, last_answers).await.is_err() {
        tracing::warn!("some requests were not answered before the service stopped");
    }
    // Clients that are left hold the recorder, which ends only when all have let go of it.
    clients.shutdown().await;
}

/// A client that has connected.
struct Client {
    peer: SocketAddr,
    answering: Answering,
    /// Nothing is ever sent. Once the sender is gone, the service is stopping.
    stopping: watch::Receiver<()>,
}

impl Client {
    /// Shakes hands if there is TLS, and answers. Hangs up on a client that cannot, or takes too long.
    async fn welcome(mut self, stream: TcpStream, tls: Option<Tls>) {
        let Some(tls) = tls else { return self.answer(stream).await };
        let shaken = tokio::select! {
            // Boxed here and below: the future of every connection has room for what is awaited here.
            shaken = Box::pin(timeout(HANDSHAKE_WAIT_MAX, tls.accept(stream))) => shaken,
            _ = self.stopping.changed() => return,
        };
        match shaken {
            Ok(Ok(stream)) => Box::pin(self.answer(stream)).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    /// Answers the requests of one connection.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { peer, answering, stopping } = self;
        let patience = Patience::new();
        let unread = Unread::default();
        let service = service_fn(async |request: hyper::Request<Incoming>| {
            patience.head_received();
            // To read such a body now would tell the client to send it.
            let sends_when_told = request.headers().contains_key(EXPECT);
            let request = request.map(|body| unread.watch(body));
            let mut answer = answering.answer(Peer(peer.ip()), request).await;
            let may_wait = !sends_when_told && answer.status() != StatusCode::REQUEST_TIMEOUT;
            let is_read = unread.is_read(may_wait).await;
            if !is_read {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if is_stream(&answer) {
                let streaming = patience.streaming(!is_read);
                return Ok(answer.map(|body| until_dropped(streaming, body)));
            }
            match is_read {
                true => patience.answered(),
                false => patience.hanging_up(),
            }
            Ok::<_, Infallible>(answer)
        });
        let mut socket = Connection::new(stream, patience.clone());
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(HEAD_LEN_MAX)
            .serve_connection(&mut socket, service);
        let end_soon = http1::Connection::graceful_shutdown;
        if patience.limit(connection, end_soon, stopping).await {
            socket.shut_down().await;
        }
    }
}

fn is_of_client(error: &io::Error) -> bool {
    let kinds =
        [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused];
    kinds.contains(&error.kind())
}

fn until_dropped(streaming: Streaming, body: Body) -> Body {
    let held = move |_: &_| _ = &streaming;
    Body::from_stream(body.into_data_stream().inspect(held))
}

/// Whether the length of an answer is not known: it goes on for as long as its client takes it.
pub fn is_stream(answer: &Response) -> bool {
    answer.body().size_hint().exact().is_none()
}
