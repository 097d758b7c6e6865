//! SIGHUP: the tokens and the certificate are read again.

use crate::access::Gate;
use crate::http::Tls;
use std::io;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from here on. The signal does not end the process any more.
pub fn listen() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reads both again at each signal. If one cannot be read, it stays as it was, and the log says so.
pub async fn reload(mut hangup: Signal, gate: Option<Arc<Gate>>, tls: Option<Tls>) {
    while hangup.recv().await.is_some() {
        if gate.is_none() && tls.is_none() {
            tracing::info!("SIGHUP: there are neither tokens nor a certificate to read again");
        }
        if let Some(gate) = &gate {
            match gate.reopen() {
                Ok(len) => tracing::info!(tokens_len = len, "SIGHUP: the tokens were read again"),
                Err(error) => tracing::error!("SIGHUP: the tokens stay as they were: {error:#}"),
            }
        }
        if let Some(tls) = &tls {
            match tls.reopen() {
                Ok(()) => tracing::info!("SIGHUP: the TLS certificate was read again"),
                Err(error) => tracing::error!("SIGHUP: the certificate stays as it was: {error:#}"),
            }
        }
    }
}
