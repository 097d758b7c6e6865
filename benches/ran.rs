//! One run: a service of its own on a database of its own, under load, with what it cost.

use crate::load::{self, Arrivals, Outcome, Plan, Shown};
use crate::machine::{CpuTime, Memory, cores};
use crate::postgres::{Cloned, Server};
use crate::report::{Report, Table};
use crate::service::{Batches, Service};
use crate::traffic::Traffic;
use hdrhistogram::Histogram;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often two things are measured in turn that are compared with each other: the speed of a machine that
/// others share changes within seconds.
pub const ROUNDS: usize = 3;

/// A run to be made.
pub struct Trial {
    pub label: String,
    pub traffic: Traffic,
    pub arrivals: Arrivals,
    pub shown: Shown,
    /// More flags for the service.
    pub flags: Vec<String>,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// A run that was made.
pub struct Ran {
    pub label: String,
    pub outcome: Outcome,
    pub ready_after: Duration,
    /// From the start, with nothing else to do.
    pub keys_known_after: Duration,
    /// Events that no checkpoint covered when the load ended; NaN if a caller's token was shown, since
    /// callers may not ask.
    pub unsealed_len: f64,
    pub memory_at_start: Memory,
    pub memory_at_end: Memory,
    seconds: f64,
    /// NaN if the service does not count its batches.
    batch_len_mean: f64,
    cpu: CpuTime,
    wal_bytes: f64,
}

struct Probe {
    cpu: CpuTime,
    batches: Batches,
    wal_bytes: f64,
}

impl Trial {
    /// Closed loop, 2 seconds to warm up and 4 to measure.
    pub fn closed(label: impl Into<String>, traffic: Traffic) -> Self {
        Self {
            label: label.into(),
            traffic,
            arrivals: Arrivals::Closed,
            shown: Shown::default(),
            flags: Vec::new(),
            warm_up: Duration::from_secs(2),
            measured: Duration::from_secs(4),
        }
    }

    pub async fn run(self, server: &Server, cloned: &Cloned, dir: &Path) -> anyhow::Result<Ran> {
        eprintln!("  {} ...", self.label);
        server.settle().await?;
        let service = Service::start(&cloned.url, &self.flags, dir).await?;
        let memory_at_start = Memory::of(service.process());
        let since = Instant::now();
        service.until_keys_are_known().await?;
        let keys_known_after = service.ready_after + since.elapsed();
        let plan = Plan {
            address: service.address,
            arrivals: self.arrivals,
            shown: self.shown,
            warm_up: self.warm_up,
            measured: self.measured,
        };
        let probe = async || {
            let cpu = CpuTime::now(service.process(), server.postmaster);
            let batches = service.batches().await?;
            Ok(Probe { cpu, batches, wal_bytes: server.wal_bytes().await? })
        };
        let (outcome, before, after) = load::run(&plan, &self.traffic, probe).await?;
        let unsealed_len = match plan.shown.token {
            Some(_) => f64::NAN,
            None => service.unsealed_len().await?,
        };
        let (first, last) = (before.batches, after.batches);
        let ran = Ran {
            label: self.label,
            outcome,
            ready_after: service.ready_after,
            keys_known_after,
            unsealed_len,
            memory_at_start,
            memory_at_end: Memory::of(service.process()),
            seconds: self.measured.as_secs_f64(),
            batch_len_mean: (last.observations - first.observations) / (last.count - first.count),
            cpu: after.cpu.since(before.cpu),
            wal_bytes: after.wal_bytes - before.wal_bytes,
        };
        service.stop()?;
        Ok(ran)
    }
}

impl Ran {
    /// Ordinary requests a second.
    pub fn rate(&self) -> f64 {
        self.outcome.ordinary_us.len() as f64 / self.seconds
    }

    /// Cores that others kept busy.
    pub fn others_busy(&self) -> f64 {
        self.cpu.others() / self.seconds
    }

    fn cost(&self) -> (String, Vec<f64>) {
        let requests = (self.outcome.ordinary_us.len() + self.outcome.big_us.len()) as f64;
        let CpuTime { service, postgres, generator, all } = self.cpu;
        let idle = (cores() * self.seconds - all).max(0.0);
        let busy =
            [service, postgres, generator, self.cpu.others(), idle].map(|cpu| cpu / self.seconds);
        let each = [service, postgres, generator].map(|cpu| 1e6 * cpu / requests);
        let memory = [self.memory_at_end.now_mb, self.memory_at_end.peak_mb];
        let cost = [&busy[..], &each, &[self.wal_bytes / requests], &memory].concat();
        (self.label.clone(), cost)
    }
}

/// The rates of the runs with this label, one for each round.
pub fn rates_of(runs: &[Ran], label: &str) -> Vec<f64> {
    runs.iter().filter(|run| run.label == label).map(Ran::rate).collect()
}

/// What each of the runs of some rounds is compared with, from what was found once a round.
pub fn of_rounds(found: &[f64], runs_a_round: usize) -> Vec<f64> {
    found.iter().flat_map(|found| std::iter::repeat_n(*found, runs_a_round)).collect()
}

/// The median over the rounds of the rate of the run with this label, as a ratio to another of the same
/// round. NaN if there is none.
pub fn median_ratio(runs: &[Ran], label: &str, bases: &[f64]) -> f64 {
    let rates = rates_of(runs, label);
    median(&rates.iter().zip(bases).map(|(rate, base)| rate / base).collect::<Vec<_>>())
}

/// The one in the middle. NaN if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Rates and latencies, and what they cost. Rates are also shown as ratios, each to what it is compared with.
pub fn report_runs(
    report: &mut Report,
    titles: [&'static str; 2],
    label: &'static str,
    ratios: &[(&'static str, &[f64])],
    runs: &[Ran],
) {
    let mut columns = vec![label, "requests/s"];
    columns.extend(ratios.iter().map(|(name, _)| *name));
    columns.extend(["batch", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "errors"]);
    let row = |(n, run): (usize, &Ran)| {
        let mut row = vec![run.rate()];
        row.extend(ratios.iter().map(|(_, bases)| run.rate() / bases[n]));
        row.push(run.batch_len_mean);
        row.extend(latencies_ms(&run.outcome.ordinary_us));
        row.push(run.outcome.errors as f64);
        (run.label.clone(), row)
    };
    let rates =
        Table { title: titles[0], columns, rows: runs.iter().enumerate().map(row).collect() };
    let columns = [
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
    let rows = runs.iter().map(Ran::cost).collect();
    report.tables.extend([rates, Table { title: titles[1], columns: columns.into(), rows }]);
    runs.iter().for_each(|run| report.note_others(run.others_busy()));
}

/// p50, p99, p99.9 and the longest.
pub fn latencies_ms(latencies_us: &Histogram<u64>) -> [f64; 4] {
    [0.5, 0.99, 0.999, 1.0].map(|q| latencies_us.value_at_quantile(q) as f64 / 1000.0)
}
