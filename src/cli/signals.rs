//! SIGTERM and Ctrl-C, and SIGHUP, which ends commands but not the service.

use std::io;
use std::pin::Pin;
use tokio::signal::unix::{self, SignalKind};

/// Ends with the first signal, and tells its name.
pub type Signal = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Ends with `signal`, or when the terminal that the command was started from goes away, except under
/// `nohup`.
pub fn or_hangup(signal: Signal) -> io::Result<Signal> {
    if is_hangup_ignored() {
        return Ok(signal);
    }
    let mut hangup = unix::signal(SignalKind::hangup())?;
    Ok(Box::pin(async move {
        tokio::select! {
            name = signal => name,
            _ = hangup.recv() => "SIGHUP",
        }
    }))
}

/// Listens from here on, so that no signal is missed while a command starts.
pub fn listen() -> io::Result<Signal> {
    let mut terminate = unix::signal(SignalKind::terminate())?;
    let mut interrupt = unix::signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        }
    }))
}

/// Whether SIGHUP is ignored, as under `nohup`: to listen would undo that. Known on Linux only.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}
