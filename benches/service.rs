//! The service as its users start it: the release binary, in a process of its own.

use crate::machine::Memory;
use crate::postgres::Cloned;
use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, read_to_string};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The histogram of batch sizes at /metrics.
const BATCHES: &str = "identity_ledger_batch_requests";
/// 1 while it knows which keys no contact holds.
const KEYS_KNOWN: &str = "identity_ledger_keys_known";
const KEYS_WAIT: Duration = Duration::from_secs(180);
const START_WAIT: Duration = Duration::from_secs(60);

/// A running service. Dropping it kills it.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
}

/// What a command took.
pub struct Took {
    pub seconds: f64,
    pub peak_mb: f64,
    pub output: String,
}

/// How many batches there were, and of how many observations. NaN if no one counts them.
pub struct Batches {
    pub count: f64,
    pub observations: f64,
}

impl Service {
    pub async fn start(url: &str, flags: &[String], dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join("service.log");
        let since = Instant::now();
        let child = command(&["serve", "--listen", "127.0.0.1:0", "--database-url", url])
            .args(flags)
            .stderr(File::create(&log)?)
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { child, address, ready_after: Duration::ZERO };
        while !service.is_ready(&log).await? {
            ensure!(since.elapsed() < START_WAIT, "the service does not start: {}", log.display());
            ensure!(service.child.try_wait()?.is_none(), "the service ended: {}", log.display());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        service.ready_after = since.elapsed();
        Ok(service)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub async fn batches(&self) -> anyhow::Result<Batches> {
        let metrics = self.metrics().await?;
        let value = |suffix: &str| value(&metrics, &format!("{BATCHES}{suffix}"));
        Ok(Batches { count: value("_count"), observations: value("_sum") })
    }

    /// Waits until it knows all keys, as it does some time after its start.
    pub async fn until_keys_are_known(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        while value(&self.metrics().await?, KEYS_KNOWN) != 1.0 {
            ensure!(since.elapsed() < KEYS_WAIT, "the service does not read the keys");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        Ok(reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?)
    }

    pub async fn unsealed_len(&self) -> anyhow::Result<f64> {
        let ledger = reqwest::get(format!("http://{}/ledger", self.address)).await?.text().await?;
        let ledger: serde_json::Value = serde_json::from_str(&ledger)?;
        ledger["lag"].as_f64().context("the ledger does not say how far it is sealed")
    }

    /// Ends it as an operator would.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }

    async fn is_ready(&mut self, log: &Path) -> anyhow::Result<bool> {
        if self.address.port() == 0 {
            let log = read_to_string(log)?;
            let Some(address) = log.split("http://").nth(1) else { return Ok(false) };
            let end = address.find(|c: char| c != ':' && c != '.' && !c.is_ascii_digit());
            let Some(end) = end else { return Ok(false) };
            self.address = address[..end].parse().context("the service's address")?;
        }
        let answer = reqwest::get(format!("http://{}/health/ready", self.address)).await;
        Ok(answer.is_ok_and(|answer| answer.status() != StatusCode::SERVICE_UNAVAILABLE))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that was stopped has no process left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Took {
    pub fn peak_bytes(&self) -> f64 {
        self.peak_mb * f64::from(1 << 20)
    }
}

/// Of a metric without labels; NaN if there is none of this name.
fn value(metrics: &str, name: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
}

/// Runs a command of the binary to its end.
pub async fn run(cloned: &Cloned, args: &[&str]) -> anyhow::Result<Took> {
    eprintln!("  {} ...", args.join(" "));
    let since = Instant::now();
    let mut command = command(args);
    command.args(["--database-url", &cloned.url]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn()?;
    let mut peak_mb = 0.0_f64;
    while child.try_wait()?.is_none() {
        peak_mb = peak_mb.max(Memory::of(child.id()).peak_mb);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = since.elapsed().as_secs_f64();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{} failed", args.join(" "));
    let output = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Took { seconds, peak_mb, output })
}

/// The binary with nothing of our own environment, which could configure it.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_identity-ledger"));
    command.env_clear().args(args).stdin(Stdio::null());
    command
}
