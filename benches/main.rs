//! `make bench`: how fast the service is on this machine, against what Postgres could do.
//!
//! Arguments name the sections to run; none means all. stdout has the table, stderr progress.

mod history;
mod load;
mod machine;
mod postgres;
mod ran;
mod report;
mod service;
mod speed;
mod traffic;

use anyhow::{Context as _, ensure};
use postgres::Server;
use ran::{Ran, costs, latencies};
use report::{Cell, Report, Table};
use speed::Line;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const SECTIONS: [&str; 3] = ["line", "ceiling", "identify"];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("cannot start a runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                done = bench() => done,
                // Dropping everything stops the server and the service.
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> anyhow::Result<()> {
    // cargo adds --bench.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|name| name != "--bench").collect();
    for name in &wanted {
        ensure!(SECTIONS.contains(&name.as_str()), "no section {name}: {}", SECTIONS.join(", "));
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);

    allow_many_connections();
    let dir = directory()?;
    let server = Server::start(&dir).await?;
    let mut report = Report::default();
    report.facts.extend([
        format!("machine: {}, Postgres {}", machine::description(), server.version),
        "Postgres: fsync, full_page_writes and synchronous_commit are on".to_owned(),
        "The service, Postgres and the load generator share the cores.".to_owned(),
    ]);

    let mut lines = Vec::new();
    if wants("line") {
        lines.push(speed::line(&server, &dir).await?);
    }
    let ceiling = if wants("ceiling") { Some(speed::ceiling(&server).await?) } else { None };
    let runs = if wants("identify") { speed::identify(&server, &dir).await? } else { Vec::new() };
    if wants("line") && wants("identify") {
        lines.push(speed::line(&server, &dir).await?);
    }
    report_speed(&mut report, &lines, ceiling, &runs);
    report.publish(&dir.join("report.json"))
}

fn report_speed(report: &mut Report, lines: &[Line], ceiling: Option<f64>, runs: &[Ran]) {
    let mean = |of: fn(&Line) -> f64| {
        (!lines.is_empty()).then(|| lines.iter().map(of).sum::<f64>() / lines.len() as f64)
    };
    let line = mean(|line| line.commits_per_second);
    let alone_ms = mean(|line| line.alone_ms);
    if !lines.is_empty() {
        const COLUMNS: &[&str] = &["when", "commits/s at 64 clients", "ms alone"];
        let mut table = Table::new("1 the line: one INSERT a commit, pgbench", COLUMNS);
        for (line, when) in lines.iter().zip(["before /identify", "after"]) {
            table.row(vec![
                Cell::Text(when.to_owned()),
                Cell::Number(line.commits_per_second, 0),
                Cell::Number(line.alone_ms, 3),
            ]);
        }
        report.tables.push(table);
    }
    if let Some(ceiling) = ceiling {
        const COLUMNS: &[&str] = &["how", "requests' rows/s", "x line"];
        let mut table = Table::new("2 the ceiling: the same rows by COPY", COLUMNS);
        table.row(vec![
            Cell::Text("1,000 requests a commit".to_owned()),
            Cell::Number(ceiling, 0),
            Cell::number(line.map(|line| ceiling / line), 2),
        ]);
        report.tables.push(table);
    }
    if runs.is_empty() {
        return;
    }
    const COLUMNS: &[&str] = &[
        "connections",
        "requests/s",
        "x line",
        "x ceiling",
        "batch",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "errors",
    ];
    let mut table = Table::new("3 /identify", COLUMNS);
    for run in runs {
        let mut cells = vec![
            Cell::Text(run.label.clone()),
            Cell::Number(run.rate(), 0),
            Cell::number(line.map(|line| run.rate() / line), 2),
            Cell::number(ceiling.map(|ceiling| run.rate() / ceiling), 2),
            Cell::number(run.batch_len_mean, 1),
        ];
        cells.extend(latencies(&run.outcome.ordinary_us));
        cells.push(Cell::Number(run.outcome.errors as f64, 0));
        table.row(cells);
    }
    report.tables.push(table);
    report.tables.push(costs("3 /identify: what it cost", runs));

    let [alone, .., at_256, at_1024, open] = runs else { return };
    let x_line = |run: &Ran| line.map(|line| run.rate() / line);
    report.bar_at_least("256 connections, x line", x_line(at_256), 1.2);
    report.bar_at_least("1,024 connections, x line", x_line(at_1024), 1.4);
    let peak = at_256.rate().max(at_1024.rate());
    report.bar_at_least("peak, x ceiling", ceiling.map(|ceiling| peak / ceiling), 0.5);
    let x_alone = alone_ms.map(|line| alone.mean_ms() / line);
    report.bar_at_most("one connection alone, mean latency x pgbench's", x_alone, 2.0);
    report.bar_at_most("half the peak rate, p99 in ms", Some(open.p99_ms()), 15.0);
}

/// Where the server, the kept ledgers and the report are: `target/bench`.
fn directory() -> anyhow::Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target directory")?;
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// 1,024 connections are more than many shells allow by default. The service inherits it.
fn allow_many_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where this is refused, opening a connection will say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
