//! `make bench`: how fast the service is on this machine, against what Postgres could do.
//!
//! Arguments name the sections to run; none means all. stdout has the table, stderr progress.

mod access;
mod change;
mod generate;
mod history;
mod load;
mod machine;
mod past;
mod postgres;
mod proof;
mod ran;
mod report;
mod scale;
mod service;
mod speed;
mod traffic;

use anyhow::{Context as _, ensure};
use postgres::Server;
use report::Report;
use speed::Speed;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

const SECTIONS: [&str; 10] =
    ["line", "ceiling", "identify", "growth", "big", "memory", "rules", "proof", "past", "access"];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("cannot start a runtime").and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                done = bench() => done,
                // What is dropped here stops the service and the server.
                ended = ended() => ended,
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
    let huge_pages = if machine::has_huge_pages(server.postmaster) { "on" } else { "off" };
    report.facts.extend([
        format!("machine: {}, Postgres {}", machine::description(), server.version),
        format!(
            "Postgres: fsync, full_page_writes and synchronous_commit are on, huge pages {huge_pages}"
        ),
        "The service, Postgres and the load generator share the cores.".to_owned(),
    ]);

    let measured = measure(wants, &server, &dir, &mut report).await;
    // What was measured before something failed is worth as much.
    server.drop_run().await?;
    report.publish(&dir.join("report.json"))?;
    measured
}

async fn measure(
    wants: impl Fn(&str) -> bool,
    server: &Server,
    dir: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    Speed::measure(server, dir, &wants).await?.report(report);
    if wants("growth") {
        scale::growth(server, dir, report).await?;
    }
    if wants("big") {
        scale::big(server, dir, report).await?;
    }
    if wants("memory") {
        scale::memory(server, dir, report).await?;
    }
    if wants("rules") {
        change::rules(server, dir, report).await?;
    }
    if wants("proof") {
        proof::sealing(server, dir, report).await?;
        proof::verifying(server, dir, report).await?;
    }
    if wants("past") {
        past::past(server, dir, report).await?;
    }
    if wants("access") {
        access::access(server, dir, report).await?;
    }
    Ok(())
}

async fn ended() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    anyhow::bail!("interrupted")
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
    // If this is refused, opening a connection will say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
