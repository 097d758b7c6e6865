//! Sections 1 to 3: what Postgres can write one by one, what it takes in bulk, and /identify.

use crate::history::{History, Rows};
use crate::load::Arrivals;
use crate::machine::CpuTime;
use crate::postgres::{Server, execute};
use crate::ran::{ROUNDS, Ran, Trial, latencies_ms, median, median_ratio, of_rounds, report_runs};
use crate::report::{Report, Table};
use crate::traffic::{Caller, Traffic};
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const EVENT_LEN: usize = 130;
const TRANSACTIONS: usize = 200;
const REQUESTS_A_TRANSACTION: usize = 1000;
const COPIED: &str = "1,000 requests a commit";

/// Numbers of connections: those that are measured once, and those that are measured once a round.
const ONCE: [u64; 2] = [16, 64];
const ALONE: [u64; 1] = [1];
const MANY: [u64; 2] = [256, 1024];
/// A client that is alone does so little at once that a short time tells as much.
const ALONE_LEN: Duration = Duration::from_secs(2);
const LINE_LEN: Duration = Duration::from_secs(4);

/// What was found; what was not asked for is empty.
#[derive(Default)]
pub struct Speed {
    /// One client, once a round.
    alone: Vec<Line>,
    /// 64 clients, once a round.
    lines: Vec<Line>,
    /// Requests' worth of rows a second, once a round.
    ceilings: Vec<f64>,
    runs: Vec<Ran>,
}

/// One commit a request, by pgbench.
#[derive(Clone, Copy)]
struct Line {
    commits_per_second: f64,
    mean_ms: f64,
    /// Cores that others kept busy meanwhile.
    others_busy: f64,
}

impl Speed {
    /// The line and the ceiling, and a closed loop at each number of connections, the largest ones once a
    /// round. Then an open loop at half the best rate.
    pub async fn measure(
        server: &Server,
        dir: &Path,
        wants: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Self> {
        let mut speed = Self::default();
        let identify = wants("identify");
        let bulk = if wants("ceiling") { bulk(server).await? } else { Vec::new() };
        speed.identify(server, dir, if identify { &ONCE } else { &[] }).await?;
        for _ in 0..ROUNDS {
            if wants("line") {
                speed.alone.push(line(server, dir, 1, ALONE_LEN).await?);
            }
            speed.identify(server, dir, if identify { &ALONE } else { &[] }).await?;
            if wants("line") {
                speed.lines.push(line(server, dir, 64, LINE_LEN).await?);
            }
            if wants("ceiling") {
                speed.ceilings.push(ceiling(server, &bulk).await?);
            }
            speed.identify(server, dir, if identify { &MANY } else { &[] }).await?;
        }
        let peak = speed.runs.iter().map(Ran::rate).reduce(f64::max);
        if let Some(peak) = peak {
            let open = Trial {
                arrivals: Arrivals::Open { per_second: peak / 2.0 },
                measured: Duration::from_secs(6),
                ..Trial::closed("open, 1/2 peak", Traffic::new(256, 0, 0))
            };
            speed.runs.push(open.run(server, &server.empty().await?, dir).await?);
        }
        Ok(speed)
    }

    async fn identify(
        &mut self,
        server: &Server,
        dir: &Path,
        connections: &[u64],
    ) -> anyhow::Result<()> {
        for &connections in connections {
            let mut trial = Trial::closed(connections.to_string(), Traffic::new(connections, 0, 0));
            if ALONE.contains(&connections) {
                (trial.warm_up, trial.measured) = (ALONE_LEN / 2, ALONE_LEN);
            }
            self.runs.push(trial.run(server, &server.empty().await?, dir).await?);
        }
        Ok(())
    }

    pub fn report(&self, report: &mut Report) {
        let Self { alone, lines, ceilings, runs } = self;
        let rows: Vec<_> = alone
            .iter()
            .map(|line| ("1".to_owned(), line))
            .chain(lines.iter().map(|line| ("64".to_owned(), line)))
            .map(|(clients, line)| {
                report.note_others(line.others_busy);
                (clients, vec![line.commits_per_second, line.mean_ms, line.others_busy])
            })
            .collect();
        if !rows.is_empty() {
            report.tables.push(Table {
                title: "1 the line: one INSERT a commit, by pgbench",
                columns: vec!["clients", "commits/s", "mean ms", "others busy"],
                rows,
            });
        }
        let lines = each_round(lines.iter().map(|line| line.commits_per_second));
        let ceilings = each_round(ceilings.iter().copied());
        if !median(&ceilings).is_nan() {
            let rows = ceilings.iter().zip(&lines);
            let rows = rows.map(|(ceiling, line)| (COPIED.into(), vec![*ceiling, ceiling / line]));
            report.tables.push(Table {
                title: "2 the ceiling: the same rows by COPY",
                columns: vec!["how", "requests/s", "x line"],
                rows: rows.collect(),
            });
        }
        let [.., open] = runs.as_slice() else { return };
        let [line_of_runs, ceiling_of_runs] = [&lines, &ceilings].map(|found| {
            let mut of_runs = vec![median(found); ONCE.len()];
            of_runs.extend(of_rounds(found, ALONE.len() + MANY.len()));
            of_runs.push(median(found));
            of_runs
        });
        let ratios: [(_, &[f64]); 2] = [("x line", &line_of_runs), ("x ceiling", &ceiling_of_runs)];
        let titles = ["3 /identify", "3 what it cost"];
        report_runs(report, titles, "connections", &ratios, runs);

        let [at_256, at_1024] = MANY.map(|connections| connections.to_string());
        report.bar_at_least("256 connections, x line", median_ratio(runs, &at_256, &lines), 1.2);
        report.bar_at_least("1,024 connections, x line", median_ratio(runs, &at_1024, &lines), 1.4);
        let of_ceiling = |connections| median_ratio(runs, connections, &ceilings);
        let peak = of_ceiling(&at_256).max(of_ceiling(&at_1024));
        report.bar_at_least("peak, x ceiling", peak, 0.5);
        let lone = runs.iter().filter(|ran| ran.label == ALONE[0].to_string());
        let x_line = alone.iter().zip(lone);
        let x_line =
            x_line.map(|(line, ran)| ran.outcome.ordinary_us.mean() / 1000.0 / line.mean_ms);
        let x_line = median(&x_line.collect::<Vec<_>>());
        report.bar_at_most("one connection alone, mean latency x pgbench's", x_line, 2.0);
        let [_, p99_ms, ..] = latencies_ms(&open.outcome.ordinary_us);
        report.bar_at_most("half the peak rate, p99 in ms", p99_ms, 15.0);
    }
}

/// NaN for what was not measured.
fn each_round(found: impl Iterator<Item = f64>) -> Vec<f64> {
    found.chain(std::iter::repeat(f64::NAN)).take(ROUNDS).collect()
}

/// pgbench: one INSERT of an event a transaction, prepared.
async fn line(server: &Server, dir: &Path, clients: usize, len: Duration) -> anyhow::Result<Line> {
    eprintln!("line, clients: {clients} ...");
    let cloned = server.empty().await?;
    let mut owner = cloned.database.owner().await?;
    let tables = "create table public.line (position bigint primary key, event text not null);
        create sequence public.line_position";
    execute(&mut owner, tables).await?;
    let insert = "insert into line (position, event) values (nextval('line_position'), :event);";
    let script = dir.join("line.sql");
    std::fs::write(&script, insert)?;
    let event = format!("event={}", "x".repeat(EVENT_LEN));
    let mut pgbench = server.pgbench();
    pgbench.args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string()]);
    pgbench.args(["-T", &len.as_secs().to_string()]);
    pgbench.args(["-D", &event, "-f"]).arg(&script).stderr(Stdio::inherit());
    server.settle().await?;
    let (before, since) = (CpuTime::now(0, server.postmaster), Instant::now());
    let output = pgbench.output().context("cannot run pgbench; is it installed?")?;
    ensure!(output.status.success(), "pgbench failed");
    let cpu = CpuTime::now(0, server.postmaster).since(before);
    let said = String::from_utf8_lossy(&output.stdout);
    let figure = |begins: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(begins)?.split(' ').next());
        value.and_then(|value| value.parse::<f64>().ok()).context("pgbench said nothing")
    };
    Ok(Line {
        commits_per_second: figure("tps = ")?,
        mean_ms: figure("latency average = ")?,
        others_busy: cpu.others() / since.elapsed().as_secs_f64(),
    })
}

/// The rows that section 3's mix makes.
async fn bulk(server: &Server) -> anyhow::Result<Vec<Rows>> {
    let cloned = server.empty().await?;
    let mut history = History::after(&mut cloned.database.owner().await?).await?;
    let traffic = Traffic::new(1, 0, 0);
    let mut caller = Caller::new(&traffic, 1);
    let mut transactions = Vec::new();
    for _ in 0..TRANSACTIONS {
        for _ in 0..REQUESTS_A_TRANSACTION {
            history.observe(caller.next().0)?;
            caller.acknowledged();
        }
        transactions.push(history.take_rows());
    }
    Ok(transactions)
}

/// COPY of these rows: how many requests' worth a second.
async fn ceiling(server: &Server, transactions: &[Rows]) -> anyhow::Result<f64> {
    eprintln!("ceiling ...");
    let cloned = server.empty().await?;
    let mut owner = cloned.database.owner().await?;
    server.settle().await?;
    let since = Instant::now();
    for rows in transactions {
        rows.copy(&mut owner, "contact").await?;
    }
    let requests_len = (transactions.len() * REQUESTS_A_TRANSACTION) as f64;
    Ok(requests_len / since.elapsed().as_secs_f64())
}
