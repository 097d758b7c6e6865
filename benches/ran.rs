//! One run: a service of its own on a database of its own, under load, with what it cost.

use crate::load::{self, Arrivals, Outcome, Plan};
use crate::machine::{CpuTime, Memory, cores};
use crate::postgres::{Cloned, Server};
use crate::report::{Cell, Table};
use crate::service::{Batches, Service};
use crate::traffic::Traffic;
use hdrhistogram::Histogram;
use std::path::Path;
use std::time::Duration;

/// A run to be made.
pub struct Trial {
    pub label: String,
    pub traffic: Traffic,
    pub arrivals: Arrivals,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// A run that was made.
pub struct Ran {
    pub label: String,
    pub outcome: Outcome,
    /// While measured.
    pub cpu: CpuTime,
    pub seconds: f64,
    pub batch_len_mean: Option<f64>,
    pub wal_bytes: f64,
    /// At the end.
    pub memory: Memory,
}

#[derive(Clone, Copy)]
struct Probe {
    cpu: CpuTime,
    batches: Option<Batches>,
    wal_bytes: f64,
}

impl Trial {
    /// As many connections as said, closed loop, 2 seconds to warm up and 4 to measure.
    pub fn closed(connections: u64) -> Self {
        Self {
            label: format!("{connections}"),
            traffic: Traffic::new(connections),
            arrivals: Arrivals::Closed,
            warm_up: Duration::from_secs(2),
            measured: Duration::from_secs(4),
        }
    }

    pub async fn run(self, server: &Server, cloned: &Cloned, dir: &Path) -> anyhow::Result<Ran> {
        eprintln!("  {} ...", self.label);
        server.settle().await?;
        let service = Service::start(&cloned.url, dir).await?;
        let plan = Plan {
            address: service.address,
            arrivals: self.arrivals,
            warm_up: self.warm_up,
            measured: self.measured,
        };
        let probe = async || {
            let cpu = CpuTime::now(service.process(), server.postmaster);
            let batches = service.batches().await?;
            Ok(Probe { cpu, batches, wal_bytes: server.wal_bytes().await? })
        };
        let (outcome, before, after) = load::run(&plan, &self.traffic, probe).await?;
        let batch_len_mean = before.batches.zip(after.batches).map(|(before, after)| {
            (after.observations - before.observations) / (after.count - before.count)
        });
        let ran = Ran {
            label: self.label,
            outcome,
            cpu: after.cpu.since(before.cpu),
            seconds: self.measured.as_secs_f64(),
            batch_len_mean,
            wal_bytes: after.wal_bytes - before.wal_bytes,
            memory: service.memory(),
        };
        service.stop()?;
        Ok(ran)
    }
}

impl Ran {
    pub fn rate(&self) -> f64 {
        self.outcome.requests_per_second
    }

    /// Mean latency of the ordinary requests.
    pub fn mean_ms(&self) -> f64 {
        self.outcome.ordinary_us.mean() / 1000.0
    }

    pub fn p99_ms(&self) -> f64 {
        quantile_ms(&self.outcome.ordinary_us, 0.99)
    }

    fn cost(&self) -> Vec<Cell> {
        let requests = self.rate() * self.seconds;
        let busy = |seconds: f64| Cell::Number(seconds / self.seconds, 2);
        vec![
            Cell::Text(self.label.clone()),
            busy(self.cpu.service),
            busy(self.cpu.postgres),
            busy(self.cpu.generator),
            busy(self.cpu.others()),
            busy((cores() as f64 * self.seconds - self.cpu.all).max(0.0)),
            Cell::Number(1e6 * self.cpu.service / requests, 1),
            Cell::Number(1e6 * self.cpu.postgres / requests, 1),
            Cell::Number(1e6 * self.cpu.generator / requests, 1),
            Cell::Number(self.wal_bytes / requests, 0),
            Cell::Number(self.memory.now_mb, 0),
            Cell::Number(self.memory.peak_mb, 0),
        ]
    }
}

pub fn quantile_ms(latencies_us: &Histogram<u64>, quantile: f64) -> f64 {
    latencies_us.value_at_quantile(quantile) as f64 / 1000.0
}

/// p50, p99, p99.9 and the longest, in milliseconds.
pub fn latencies(latencies_us: &Histogram<u64>) -> Vec<Cell> {
    let quantiles = [0.5, 0.99, 0.999, 1.0];
    quantiles.map(|quantile| Cell::Number(quantile_ms(latencies_us, quantile), 2)).into()
}

/// What runs cost: cores that were busy, CPU time and log a request, and the service's memory.
pub fn costs<'a>(title: &'static str, runs: impl IntoIterator<Item = &'a Ran>) -> Table {
    const COLUMNS: &[&str] = &[
        "cores busy",
        "service",
        "Postgres",
        "generator",
        "others",
        "idle",
        "service us/req",
        "Postgres us/req",
        "generator us/req",
        "WAL B/req",
        "RSS MB",
        "peak MB",
    ];
    let mut table = Table::new(title, COLUMNS);
    for run in runs {
        table.row(run.cost());
    }
    table
}
