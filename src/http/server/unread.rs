//! What a handler leaves unread of the body of a request. Unless the rest has come already, hyper then closes
//! the connection without saying so: the client's next request fails, and a client that is still sending may
//! not see the answer.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

/// Number of bytes. Reading more would cost more than another connection does.
const REST_LEN_MAX: u64 = 64 * 1024;
/// A client sends the body right after the head.
const REST_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where a body goes that was not read to its end. There is one for each connection, which has one request at a
/// time.
#[derive(Clone, Default)]
pub struct Unread(Arc<Mutex<Rest>>);

#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    Left(Incoming),
    /// The rest cannot be read.
    Broken,
}

/// A body that goes there when it is dropped.
struct Watched {
    /// `None` once its end has been read.
    body: Option<Incoming>,
    unread: Unread,
}

impl Unread {
    /// The body for a handler.
    pub fn watch(&self, body: Incoming) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Watched { body: Some(body), unread: self.clone() })
    }

    /// Whether the connection is good for another request: nothing is left unread, or what is left is short and
    /// comes soon. If the client is not to be waited for, only whether something is left counts.
    pub async fn is_read(&self, may_wait: bool) -> bool {
        let rest = std::mem::take(&mut *self.0.lock());
        match rest {
            Rest::Nothing => true,
            // Boxed: the future of every request has room for what is awaited here.
            Rest::Left(body) if may_wait => Box::pin(comes_soon(body)).await,
            Rest::Left(_) | Rest::Broken => false,
        }
    }

    fn put(&self, rest: Rest) {
        *self.0.lock() = rest;
    }
}

async fn comes_soon(mut body: Incoming) -> bool {
    if body.size_hint().lower() > REST_LEN_MAX {
        return false;
    }
    let reading = async {
        let mut len = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            len += frame.data_ref().map_or(0, Bytes::len) as u64;
            if len > REST_LEN_MAX {
                return false;
            }
        }
        true
    };
    timeout(REST_WAIT_MAX, reading).await.unwrap_or(false)
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        if let Some(Err(_)) = frame {
            self.unread.put(Rest::Broken);
        }
        Poll::Ready(frame)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.unread.put(Rest::Left(body));
        }
    }
}
