//! Work that blocks, on a thread that is not waited for at the end, so that Ctrl-C ends the process
//! at once. And work that may panic.

use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use tokio::sync::oneshot;

/// Does work on a thread. It may be cut off at any point.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (sender, done) = oneshot::channel();
    let work = move || {
        let _ = sender.send(work());
    };
    // The runtime would wait for a blocking task of its own.
    std::thread::Builder::new().spawn(work).context("cannot start a thread")?;
    done.await.context("a thread panicked")?
}

/// Does work, and makes an error of its panic. sqlx panics if a time is later than chrono can tell,
/// which can only be in a table that was tampered with.
pub async fn without_panic<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| {
        Err(anyhow!(
            "this met what it cannot understand, such as a time that is infinite: run \
             identity-ledger verify, and report it where that finds nothing"
        ))
    })
}
