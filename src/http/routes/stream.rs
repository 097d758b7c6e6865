//! Events as a stream: JSON lines to the end of the ledger, or Server-Sent Events that go on.
//!
//! A page is read when the one before it has been taken, so that a slow client holds two pages in
//! memory and delays no one else. One that takes none for long is dropped: it can ask again for what it
//! has missed.

use crate::audit::Feed;
use crate::http::parts::entry::entry;
use crate::identity::Position;
use crate::ledger::{EventRow, Fault};
use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use std::io::Write as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

const TAKE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Proxies drop a connection that is silent for a minute, many after half of that.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// In bytes.
const PIECE_LEN_MAX: usize = 64 * 1024;
/// The average length of an event, in bytes. Too small a guess costs a copy.
const EVENT_LEN: usize = 400;
/// After how many milliseconds a browser asks again if the connection breaks.
const GREETING: &[u8] = b"retry: 1000\n\n";

/// Why a stream ends before its end. The client sees the connection break.
#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error("{0}")]
    Fault(#[from] Fault),
    #[error("the client took nothing for 30 seconds")]
    Slow,
    #[error("an event was tampered with")]
    Corrupt,
}

/// `None` is the end: a stream without it broke off.
type Chunk = Option<Bytes>;

/// One JSON object a line, up to a position that the ledger has reached.
pub fn lines(feed: Feed, up_to: Position) -> Response {
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (VARY, "accept")];
    let body = body(async move |chunks| send_lines(feed, up_to, chunks).await);
    (headers, body).into_response()
}

/// Server-Sent Events for as long as the client listens.
pub fn live(feed: Feed) -> Response {
    let headers = [(CONTENT_TYPE, "text/event-stream"), (VARY, "accept")];
    let body = body(async move |chunks| send_live(feed, chunks).await);
    (headers, body).into_response()
}

async fn send_lines(
    mut feed: Feed,
    up_to: Position,
    chunks: mpsc::Sender<Chunk>,
) -> Result<(), BrokenOff> {
    while feed.position() < up_to {
        let rows = feed.next(up_to).await?;
        let mut text = Vec::with_capacity(rows.len() * EVENT_LEN);
        for row in &rows {
            write_entry(&mut text, row)?;
            text.push(b'\n');
        }
        send_text(&chunks, text).await?;
    }
    send(&chunks, None).await
}

async fn send_live(mut feed: Feed, chunks: mpsc::Sender<Chunk>) -> Result<(), BrokenOff> {
    send(&chunks, Some(Bytes::from_static(GREETING))).await?;
    loop {
        let text = match timeout(HEARTBEAT_EVERY, feed.next_live()).await {
            Ok(rows) => server_sent(&rows?)?,
            // The position lets a client that wants few events go on from here.
            Err(_) => format!(": heartbeat\nid: {}\n\n", feed.position()).into_bytes(),
        };
        send_text(&chunks, text).await?;
    }
}

fn server_sent(rows: &[EventRow]) -> Result<Vec<u8>, BrokenOff> {
    let mut text = Vec::with_capacity(rows.len() * EVENT_LEN);
    for row in rows {
        write!(text, "id: {}\nevent: {}\ndata: ", row.position, row.kind)
            .expect("a vector takes whatever is written");
        write_entry(&mut text, row)?;
        text.extend_from_slice(b"\n\n");
    }
    Ok(text)
}

fn write_entry(text: &mut Vec<u8>, row: &EventRow) -> Result<(), BrokenOff> {
    let entry = entry(row).map_err(|_| BrokenOff::Corrupt)?;
    serde_json::to_writer(text, &entry).expect("an event is plain data");
    Ok(())
}

/// Sends a text in pieces, so that a slow client takes one now and then.
async fn send_text(chunks: &mpsc::Sender<Chunk>, text: Vec<u8>) -> Result<(), BrokenOff> {
    let mut text = Bytes::from(text);
    while !text.is_empty() {
        let piece = text.split_to(text.len().min(PIECE_LEN_MAX));
        send(chunks, Some(piece)).await?;
    }
    Ok(())
}

async fn send(chunks: &mpsc::Sender<Chunk>, chunk: Chunk) -> Result<(), BrokenOff> {
    let sent = timeout(TAKE_WAIT_MAX, chunks.send(chunk)).await;
    sent.map_err(|_| BrokenOff::Slow)?.ok();
    Ok(())
}

/// A body that a task of its own writes, until it ends or the client goes away.
fn body<F: Future<Output = Result<(), BrokenOff>> + Send + 'static>(
    write: impl FnOnce(mpsc::Sender<Chunk>) -> F,
) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    let writing = write(sender.clone());
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = sender.closed() => {}
            written = writing => match written {
                Err(why) if !sender.is_closed() => {
                    tracing::warn!("a stream of events was broken off: {why}");
                }
                // No one misses what comes too late for a client that went away.
                Ok(()) | Err(_) => {}
            },
        }
    });
    let chunks = ReceiverStream::new(receiver).map(Ok);
    let chunks = chunks.chain(tokio_stream::once(Err("the stream of events broke off")));
    let to_the_end = chunks.take_while(|chunk| !matches!(chunk, Ok(None)));
    Body::from_stream(to_the_end.filter_map(Result::transpose))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tokio::time::{Instant, sleep};

    const LINE: Chunk = Some(Bytes::from_static(b"line\n"));

    /// What a client receives until the end, and whether that is the end of the stream.
    async fn received(mut body: Body) -> (String, bool) {
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return (text, false) };
            text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
        (text, true)
    }

    #[tokio::test]
    async fn a_stream_that_was_written_to_its_end_is_whole() {
        let whole = body(async |chunks| {
            send(&chunks, LINE).await?;
            send(&chunks, LINE).await?;
            send(&chunks, None).await
        });
        assert_eq!(received(whole).await, ("line\nline\n".to_owned(), true));
    }

    #[tokio::test]
    async fn a_stream_that_broke_off_does_not_pass_for_a_whole_one() {
        let broken = body(async |chunks| {
            send(&chunks, LINE).await?;
            Err(BrokenOff::Corrupt)
        });
        assert_eq!(received(broken).await, ("line\n".to_owned(), false));
    }

    /// One chunk waits for the client; the one after it waits 30 seconds, and no other is made.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_30_seconds_is_dropped() {
        let (written, mut ended) = mpsc::channel(1);
        let endless = body(async move |chunks| {
            let since = Instant::now();
            let mut chunks_len = 0;
            loop {
                if let Err(why) = send(&chunks, LINE).await {
                    written.send((chunks_len, since.elapsed().as_secs())).await.unwrap();
                    return Err(why);
                }
                chunks_len += 1;
            }
        });
        assert_eq!(ended.recv().await, Some((1, 30)));
        assert_eq!(received(endless).await, ("line\n".to_owned(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_written_for_a_client_that_went_away() {
        let (written, mut ended) = mpsc::channel::<()>(1);
        let silent = body(async move |_chunks| {
            let _written = written;
            sleep(Duration::from_secs(1_000_000)).await;
            Ok(())
        });
        drop(silent);
        let gone = timeout(Duration::from_secs(1), ended.recv()).await;
        assert_eq!(gone, Ok(None));
    }
}
