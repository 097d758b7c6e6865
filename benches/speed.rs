//! Sections 1 to 3: what Postgres can write one by one, what it takes in bulk, and /identify.

use crate::history::History;
use crate::load::Arrivals;
use crate::machine::CpuTime;
use crate::postgres::{Server, execute};
use crate::ran::{Ran, Trial, latencies_ms, report_runs};
use crate::report::{OTHERS_BUSY_MAX, Report, Table};
use crate::traffic::{Caller, Traffic};
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const EVENT_LEN: usize = 130;
const TRANSACTIONS: usize = 200;
const REQUESTS_A_TRANSACTION: usize = 1000;

/// What was found; what was not asked for is empty or NaN.
pub struct Speed {
    pub lines: Vec<Line>,
    /// Requests' worth of rows a second.
    pub ceiling: f64,
    pub runs: Vec<Ran>,
}

/// One commit a request: what 64 clients reach, and how long a lone one waits in the mean.
#[derive(Clone, Copy)]
pub struct Line {
    commits_per_second: f64,
    alone_ms: f64,
    /// Cores that others kept busy meanwhile.
    others_busy: f64,
}

/// pgbench: one INSERT of an event a transaction, prepared.
pub async fn line(server: &Server, dir: &Path) -> anyhow::Result<Line> {
    eprintln!("line ...");
    let cloned = server.empty().await?;
    let mut owner = cloned.database.owner().await?;
    let tables = "create table public.line (position bigint primary key, event text not null);
        create sequence public.line_position";
    execute(&mut owner, tables).await?;
    let insert = "insert into line (position, event) values (nextval('line_position'), :event);";
    let script = dir.join("line.sql");
    std::fs::write(&script, insert)?;
    let event = format!("event={}", "x".repeat(EVENT_LEN));
    let run = |clients: &str, figure: &str| {
        let mut pgbench = server.pgbench();
        pgbench.args(["-n", "-M", "prepared", "-j", "1", "-T", "5", "-c", clients]);
        pgbench.args(["-D", &event, "-f"]).arg(&script).stderr(Stdio::inherit());
        let output = pgbench.output().context("cannot run pgbench; is it installed?")?;
        ensure!(output.status.success(), "pgbench failed");
        let said = String::from_utf8_lossy(&output.stdout);
        let value = said.lines().find_map(|line| line.strip_prefix(figure)?.split(' ').next());
        value.and_then(|value| value.parse::<f64>().ok()).context("pgbench said nothing")
    };
    server.settle().await?;
    let (before, since) = (CpuTime::now(0, server.postmaster), Instant::now());
    let commits_per_second = run("64", "tps = ")?;
    let alone_ms = run("1", "latency average = ")?;
    let cpu = CpuTime::now(0, server.postmaster).since(before);
    let others_busy = cpu.others() / since.elapsed().as_secs_f64();
    Ok(Line { commits_per_second, alone_ms, others_busy })
}

/// COPY of the rows that section 3's mix makes.
pub async fn ceiling(server: &Server) -> anyhow::Result<f64> {
    eprintln!("ceiling ...");
    let cloned = server.empty().await?;
    let mut owner = cloned.database.owner().await?;
    let mut history = History::after(&mut owner).await?;
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
    server.settle().await?;
    let since = Instant::now();
    for rows in &transactions {
        rows.copy(&mut owner, "contact").await?;
    }
    Ok((TRANSACTIONS * REQUESTS_A_TRANSACTION) as f64 / since.elapsed().as_secs_f64())
}

/// A closed loop at each number of connections, then an open one at half the best rate.
pub async fn identify(server: &Server, dir: &Path) -> anyhow::Result<Vec<Ran>> {
    eprintln!("/identify ...");
    let mut runs = Vec::new();
    for connections in [1, 16, 64, 256, 1024] {
        let trial = Trial::closed(connections.to_string(), Traffic::new(connections, 0, 0));
        runs.push(trial.run(server, &server.empty().await?, dir).await?);
    }
    let peak = runs.iter().map(Ran::rate).fold(0.0, f64::max);
    let open = Trial {
        arrivals: Arrivals::Open { per_second: peak / 2.0 },
        measured: Duration::from_secs(6),
        ..Trial::closed("open, 1/2 peak", Traffic::new(256, 0, 0))
    };
    runs.push(open.run(server, &server.empty().await?, dir).await?);
    Ok(runs)
}

impl Speed {
    pub fn report(&self, report: &mut Report) {
        let Self { lines, ceiling, runs } = self;
        let mean = |of: fn(&Line) -> f64| mean(lines, of);
        let line = mean(|line| line.commits_per_second);
        lines.iter().for_each(|line| report.note_others(line.others_busy));
        if !lines.is_empty() {
            let rows = lines.iter().zip(["before /identify", "after"]).map(|(line, when)| {
                let row = vec![line.commits_per_second, line.alone_ms, line.others_busy];
                (when.to_owned(), row)
            });
            report.tables.push(Table {
                title: "1 the line: one INSERT a commit, by pgbench",
                columns: vec!["when", "commits/s at 64 clients", "mean ms alone", "others busy"],
                rows: rows.collect(),
            });
        }
        if !ceiling.is_nan() {
            report.tables.push(Table {
                title: "2 the ceiling: the same rows by COPY",
                columns: vec!["how", "requests/s", "x line"],
                rows: vec![("1,000 requests a commit".into(), vec![*ceiling, ceiling / line])],
            });
        }
        let [alone, .., at_256, at_1024, open] = runs.as_slice() else { return };
        let titles = ["3 /identify", "3 what it cost"];
        let ratios = [("x line", line), ("x ceiling", *ceiling)];
        report_runs(report, titles, "connections", &ratios, runs);

        report.bar_at_least("256 connections, x line", at_256.rate() / line, 1.2);
        report.bar_at_least("1,024 connections, x line", at_1024.rate() / line, 1.4);
        let peak = at_256.rate().max(at_1024.rate());
        report.bar_at_least("peak, x ceiling", peak / ceiling, 0.5);
        let alone_ms = alone.outcome.ordinary_us.mean() / 1000.0;
        let x_line = alone_ms / mean(|line| line.alone_ms);
        report.bar_at_most("one connection alone, mean latency x pgbench's", x_line, 2.0);
        let [_, p99_ms, ..] = latencies_ms(&open.outcome.ordinary_us);
        report.bar_at_most("half the peak rate, p99 in ms", p99_ms, 15.0);
    }
}

/// The mean of the lines that nothing disturbed, or of all if none was left alone.
fn mean(lines: &[Line], of: fn(&Line) -> f64) -> f64 {
    let quiet = lines.iter().filter(|line| line.others_busy <= OTHERS_BUSY_MAX);
    let quiet: Vec<f64> = quiet.map(of).collect();
    let counted = if quiet.is_empty() { lines.iter().map(of).collect() } else { quiet };
    counted.iter().sum::<f64>() / counted.len() as f64
}
