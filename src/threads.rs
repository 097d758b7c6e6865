//! Work that blocks, on a thread that nobody waits for at the end: Ctrl-C is heard meanwhile. And work that
//! may panic.

use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;
use tokio::sync::oneshot;

/// Does work that may be cut off at any point.
pub async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (sender, done) = oneshot::channel();
    let work = move || {
        let _ = sender.send(work());
    };
    // A blocking task of the runtime's would be waited for.
    std::thread::Builder::new().spawn(work).context("cannot start a thread")?;
    done.await.context("a thread panicked")?
}

/// Does work whose panic is an error like any other. sqlx panics where a time is later than chrono can
/// say, which only somebody who has tampered with a table can have written.
pub async fn without_panic<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|_| {
        Err(anyhow!(
            "this met what it cannot understand, such as a time that is infinite: run \
             identity-ledger verify, and report it where that finds nothing"
        ))
    })
}
