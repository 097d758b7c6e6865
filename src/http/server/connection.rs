//! How long a connection waits for its client.
//!
//! Hyper has one timeout, from the end of an answer to the end of the next request's head. That
//! is two things: a client that is slow to send a head, and a connection that rests. Load
//! balancers rest connections for a minute, and would send a request into one just closed.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// From the first byte of a head to its last; and from the start of a connection to its first byte.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// From one request to the next. A client may take as long to read an answer.
const REST_MAX: Duration = Duration::from_secs(75);
/// From the last answer to the end of what the client is still sending, as for a body that is read.
const HANG_UP_MAX: Duration = Duration::from_secs(10);

/// Number of bytes.
const SHORT_LEN_MAX: usize = 1024;
const DISCARDED_LEN: usize = 8 * 1024;
/// Number of bytes. A client that sends more is not reading the answer.
const DISCARDED_LEN_MAX: usize = 16 * 1024 * 1024;

/// What a connection waits for, shared by the connection and the handler of its requests.
#[derive(Clone)]
pub struct Patience(Arc<Mutex<Waits>>);

#[derive(Clone, Copy)]
enum Waits {
    ForHead {
        until: Instant,
    },
    /// For an answer of ours: the handler has limits of its own.
    ForHandler,
    Resting {
        until: Instant,
    },
    /// For the client to take more of a stream. `None` while it has taken all there is.
    Streaming {
        until: Option<Instant>,
    },
    /// For the client to take its last answer, and to end what it is still sending.
    HangingUp {
        until: Instant,
    },
}

impl Patience {
    pub fn new() -> Self {
        // Until the first byte of a head has come.
        Self(Arc::new(Mutex::new(Waits::Resting { until: Instant::now() + HEAD_WAIT_MAX })))
    }

    pub fn head_received(&self) {
        *self.waits() = Waits::ForHandler;
    }

    pub fn answered(&self) {
        *self.waits() = Waits::Resting { until: Instant::now() + REST_MAX };
    }

    /// A stream begins. It ends when the returned value is dropped. If it is the last answer, the client may
    /// be sending yet.
    pub fn streaming(&self, is_last: bool) -> Streaming {
        *self.waits() = Waits::Streaming { until: None };
        Streaming { patience: self.clone(), is_last }
    }

    /// The next answer is the last one, and the client may be sending yet.
    pub fn hanging_up(&self) {
        *self.waits() = Waits::HangingUp { until: Instant::now() + HANG_UP_MAX };
    }

    /// Whether the client may still be sending what will not be read: a body, or a head that is refused.
    fn is_sent_to(&self) -> bool {
        matches!(*self.waits(), Waits::HangingUp { .. } | Waits::ForHead { .. })
    }

    /// Bytes were offered to the client, which has taken some of them or none.
    fn offered(&self, is_taken: bool) {
        if let Waits::Streaming { until } = &mut *self.waits() {
            match is_taken {
                true => *until = None,
                false => _ = until.get_or_insert_with(|| Instant::now() + REST_MAX),
            }
        }
    }

    fn bytes_received(&self) {
        let mut waits = self.waits();
        if let Waits::Resting { .. } = *waits {
            *waits = Waits::for_head();
        }
    }

    /// Serves a connection until it has ended, or until its client has kept it waiting too long. When
    /// `stopping` has lost its sender, tells the connection to end, and breaks a stream off. Returns whether
    /// nothing was under way at the end: the client can be told that no more will come.
    pub async fn limit<C: Future<Output = hyper::Result<()>>>(
        &self,
        connection: C,
        end_soon: impl Fn(Pin<&mut C>),
        stopping: watch::Receiver<()>,
    ) -> bool {
        let mut connection = pin!(connection);
        let mut stops = stopping.clone();
        let mut stop = pin!(async move { while stops.changed().await.is_ok() {} });
        let mut is_stopping = false;
        let mut hang_up = pin!(sleep_until(Instant::now() + HEAD_WAIT_MAX));
        poll_fn(|context| {
            loop {
                if !is_stopping && stopping.has_changed().is_err() {
                    is_stopping = true;
                    end_soon(connection.as_mut());
                }
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(ended.is_ok());
                }
                let until = match *self.waits() {
                    // This is polled again once the handler has answered.
                    Waits::ForHandler => return Poll::Pending,
                    Waits::Streaming { .. } if is_stopping => return Poll::Ready(false),
                    Waits::Streaming { until } => until,
                    Waits::ForHead { until }
                    | Waits::Resting { until }
                    | Waits::HangingUp { until } => Some(until),
                };
                if !is_stopping && stop.as_mut().poll(context).is_ready() {
                    continue;
                }
                let Some(until) = until else { return Poll::Pending };
                // Postponing the timer with each request would cost more than waking up too early now and then.
                if until < hang_up.deadline() {
                    hang_up.as_mut().reset(until);
                }
                ready!(hang_up.as_mut().poll(context));
                if until <= hang_up.deadline() {
                    return Poll::Ready(matches!(*self.waits(), Waits::Resting { .. }));
                }
                hang_up.as_mut().reset(until);
            }
        })
        .await
    }

    fn waits(&self) -> impl std::ops::DerefMut<Target = Waits> {
        self.0.lock()
    }
}

/// Lives as long as a stream.
pub struct Streaming {
    patience: Patience,
    is_last: bool,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        match self.is_last {
            true => self.patience.hanging_up(),
            false => self.patience.answered(),
        }
    }
}

impl Waits {
    fn for_head() -> Self {
        Self::ForHead { until: Instant::now() + HEAD_WAIT_MAX }
    }
}

/// A socket that notes when bytes come and go.
pub struct Connection<S> {
    stream: TokioIo<S>,
    patience: Patience,
    discarded_len: usize,
}

impl<S> Connection<S> {
    pub fn new(stream: S, patience: Patience) -> Self {
        Self { stream: TokioIo::new(stream), patience, discarded_len: 0 }
    }

    /// Tells the client that no more will come, with TLS, too (RFC 8446, section 6.1). Hyper has done so,
    /// unless the connection rested too long, or a request asked for another protocol with the header
    /// `upgrade`.
    pub async fn shut_down(&mut self)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shut_down = poll_fn(|context| Pin::new(&mut *self).poll_shutdown(context));
        // The client has gone, or does not end: no one is left to tell.
        let _ = timeout(HANG_UP_MAX, shut_down).await;
    }

    fn told_when_sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.patience.offered(written.is_ready());
        written
    }
}

impl<S: AsyncRead + Unpin> Read for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.patience.bytes_received();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told_when_sent(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// If the client may still be sending, reads until it ends. Otherwise the client would be told that the
    /// connection broke, and might not see the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        while self.patience.is_sent_to() && self.discarded_len < DISCARDED_LEN_MAX {
            let mut discarded = [0; DISCARDED_LEN];
            let mut buffer = ReadBuf::new(&mut discarded);
            ready!(Pin::new(self.stream.inner_mut()).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
            self.discarded_len += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let stream = Pin::new(&mut self.stream);
        let written = if len <= SHORT_LEN_MAX {
            // Head and body of most answers: to put them together costs less than to send two parts.
            let mut whole = [0; SHORT_LEN_MAX];
            let mut room = &mut whole[..];
            for slice in slices {
                io::Write::write_all(&mut room, slice)?;
            }
            stream.poll_write(context, &whole[..len])
        } else {
            stream.poll_write_vectored(context, slices)
        };
        self.told_when_sent(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    async fn send(stream: impl AsyncRead + AsyncWrite + Unpin, parts: &[&[u8]]) {
        let mut connection = Connection::new(stream, Patience::new());
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let write = |context: &mut Context<'_>| {
                Pin::new(&mut connection).poll_write_vectored(context, rest)
            };
            let sent = poll_fn(write).await.unwrap();
            IoSlice::advance_slices(&mut rest, sent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_rests_too_long_is_told_and_one_that_is_slow_to_send_is_not() {
        let ends_in_order = async |patience: Patience| {
            let (_running, stopping) = watch::channel(());
            patience.limit(std::future::pending(), |_| {}, stopping).await
        };
        let patience = Patience::new();
        patience.head_received();
        patience.answered();
        assert!(ends_in_order(patience.clone()).await);
        patience.bytes_received();
        assert!(!ends_in_order(patience).await);
    }

    #[tokio::test]
    async fn parts_arrive_whole_and_in_order_however_little_the_client_takes() {
        let bytes: Vec<u8> = (0..3 * SHORT_LEN_MAX).map(|n| (n % 251) as u8).collect();
        for len in [1, SHORT_LEN_MAX - 1, SHORT_LEN_MAX, SHORT_LEN_MAX + 1, bytes.len()] {
            let (head, body) = bytes[..len].split_at(len / 3);
            let parts: [&[u8]; 3] = [head, &[], body];
            let (stream, mut client) = tokio::io::duplex(7);
            let mut received = Vec::new();
            let read = client.read_to_end(&mut received);
            let (read, ()) = tokio::join!(read, send(stream, &parts));
            read.unwrap();
            assert!(received == bytes[..len], "{len} bytes");
        }
    }
}
