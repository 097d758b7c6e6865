//! Work that blocks, on a thread that nobody waits for at the end: Ctrl-C is heard meanwhile.

use anyhow::Context as _;
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
