//! SIGTERM and Ctrl-C.

use std::io;
use std::pin::Pin;
use tokio::signal::unix::{SignalKind, signal};

/// Ends with the first signal, and tells its name.
pub type Signal = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Listens from here on, so that none is missed while a command starts.
pub fn listen() -> io::Result<Signal> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        }
    }))
}
