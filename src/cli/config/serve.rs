//! The service.

use super::shared::SealConfig;
use anyhow::{Context as _, ensure};
use clap::Args;
use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_000);

#[derive(Args)]
pub struct ServeConfig {
    /// Where to listen. The variable PORT changes the port alone [default: 127.0.0.1:10000].
    #[arg(long, env, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,

    /// Who may ask: a file of token hashes, made with `identity-ledger token new`. SIGHUP reloads it.
    #[arg(long, env, hide_env_values = true, value_name = "FILE", conflicts_with = "no_auth")]
    pub tokens: Option<PathBuf>,

    /// Without tokens, listen on an address that other machines can reach, and answer to any host name.
    /// Anyone who reaches it may then read, record and erase.
    #[arg(long)]
    no_auth: bool,

    /// Serve TLS with this certificate and its chain (PEM). SIGHUP reloads it.
    #[arg(long, env, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The key of the certificate (PEM). SIGHUP reloads it.
    #[arg(long, env, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// How many hours an Idempotency-Key is remembered.
    #[arg(long, env, value_name = "HOURS", default_value = "24")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=8_760))]
    idempotency_hours: u64,

    #[command(flatten)]
    pub seal: SealConfig,

    /// Begin to keep checkpoints in --checkpoint-dir, which has none yet, although the ledger is sealed
    /// already. For one start: without this flag, the service does not start if the checkpoint is missing.
    #[arg(long, requires = "checkpoint_dir", help_heading = "Proof")]
    pub new_checkpoint_dir: bool,
}

impl ServeConfig {
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        let address = match self.listen {
            Some(address) => address,
            None => SocketAddr::new(LISTEN.ip(), port_variable()?.unwrap_or(LISTEN.port())),
        };
        ensure!(
            address.ip().is_loopback() || self.tokens.is_some() || self.no_auth,
            "anyone who reaches {address} could read and record customers: pass --tokens FILE, \
             listen on 127.0.0.1, or pass --no-auth if something else keeps strangers out"
        );
        Ok(address)
    }

    /// Whether its loopback address is all that keeps strangers out.
    pub fn local_names_only(&self) -> bool {
        self.tokens.is_none() && !self.no_auth
    }

    /// The files of the certificate and its key.
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        self.tls_cert.clone().zip(self.tls_key.clone())
    }

    /// For how long a retry is known by its key.
    pub fn retries_kept_for(&self) -> Duration {
        Duration::from_secs(self.idempotency_hours * 3_600)
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an address such as 127.0.0.1:10000 or [::1]:10000")
}

/// The variable that many programs are told their port by. It has no flag of its own, so that --listen wins
/// over it.
fn port_variable() -> anyhow::Result<Option<u16>> {
    let Some(text) = env::var_os("PORT").filter(|text| !text.is_empty()) else { return Ok(None) };
    let port = text.to_str().and_then(|text| text.parse().ok());
    port.map(Some).context("PORT is not a number from 0 to 65535")
}
