//! Sections 1 to 3: what Postgres can write one by one, what it can take in bulk, and /identify.

use crate::history::History;
use crate::load::Arrivals;
use crate::postgres::{Server, execute};
use crate::ran::{Ran, Trial};
use crate::traffic::{Caller, Traffic};
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const EVENT_LEN: usize = 130;
const LINE_SECONDS: &str = "4";
const CEILING_TRANSACTIONS: usize = 200;
const REQUESTS_A_TRANSACTION: usize = 1000;

/// One commit a request: what 64 clients reach, and how long a lone one waits.
pub struct Line {
    pub commits_per_second: f64,
    pub alone_ms: f64,
}

/// pgbench: one INSERT of an event a transaction, prepared.
pub async fn line(server: &Server, dir: &Path) -> anyhow::Result<Line> {
    eprintln!("the line: pgbench ...");
    server.empty().await?;
    let script = dir.join("line.sql");
    std::fs::write(
        &script,
        "insert into line (position, event) values (nextval('line_position'), :event);\n",
    )?;
    let mut admin = server.admin("run").await?;
    let tables = "create table line (position bigint primary key, event text not null);
        create sequence line_position";
    execute(&mut admin, tables).await?;
    let event = format!("event={}", "x".repeat(EVENT_LEN));
    let run = |clients: &str, figure: &str| {
        let mut pgbench = server.pgbench("run");
        pgbench.args(["-n", "-M", "prepared", "-j", "1", "-T", LINE_SECONDS, "-c", clients]);
        pgbench.args(["-D", &event, "-f"]).arg(&script).stderr(Stdio::inherit());
        let output = pgbench.output().context("cannot run pgbench; is it installed?")?;
        ensure!(output.status.success(), "pgbench failed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = said.lines().find_map(|line| line.strip_prefix(figure)?.split(' ').next());
        value.and_then(|value| value.parse::<f64>().ok()).context("pgbench said nothing")
    };
    server.settle().await?;
    let commits_per_second = run("64", "tps = ")?;
    let alone_ms = run("1", "latency average = ")?;
    Ok(Line { commits_per_second, alone_ms })
}

/// COPY of the rows that section 3's mix makes. Returns requests' worth a second.
pub async fn ceiling(server: &Server) -> anyhow::Result<f64> {
    eprintln!("the ceiling: COPY ...");
    let cloned = server.empty().await?;
    let mut owner = cloned.database.owner().await?;
    let mut history = History::after(&mut owner).await?;
    let traffic = Traffic::new(1);
    let mut caller = Caller::new(&traffic, 1);
    let mut transactions = Vec::new();
    for _ in 0..CEILING_TRANSACTIONS {
        for _ in 0..REQUESTS_A_TRANSACTION {
            history.observe(caller.next().0)?;
            caller.acknowledged();
        }
        transactions.push(history.take_rows()?);
    }
    server.settle().await?;
    let since = Instant::now();
    for rows in &transactions {
        rows.copy(&mut owner, "contact").await?;
    }
    let requests = CEILING_TRANSACTIONS * REQUESTS_A_TRANSACTION;
    Ok(requests as f64 / since.elapsed().as_secs_f64())
}

/// A closed loop at each number of connections, then an open one at half the best rate.
pub async fn identify(server: &Server, dir: &Path) -> anyhow::Result<Vec<Ran>> {
    eprintln!("/identify ...");
    let mut runs = Vec::new();
    for connections in [1, 16, 64, 256, 1024] {
        let cloned = server.empty().await?;
        runs.push(Trial::closed(connections).run(server, &cloned, dir).await?);
    }
    let peak = runs.iter().map(Ran::rate).fold(0.0, f64::max);
    let open = Trial {
        label: "open, 1/2 peak".to_owned(),
        arrivals: Arrivals::Open { per_second: peak / 2.0 },
        measured: Duration::from_secs(6),
        ..Trial::closed(256)
    };
    let cloned = server.empty().await?;
    runs.push(open.run(server, &cloned, dir).await?);
    Ok(runs)
}
