//! Sections 4 to 6: large ledgers, big identities, memory and disk.

use crate::generate;
use crate::postgres::{Cloned, Server};
use crate::ran::{
    ROUNDS, Trial, latencies_ms, median, median_ratio, of_rounds, rates_of, report_runs,
};
use crate::report::{Report, Table};
use crate::service::{Took, run};
use crate::traffic::{BLOCK_CUSTOMERS_LEN, Traffic};
use sqlx::query_as;
use std::path::Path;
use std::time::{Duration, Instant};

/// A ledger of about 10,000 contacts a block.
#[derive(Clone, Copy)]
pub struct Size {
    pub label: &'static str,
    name: &'static str,
    blocks_len: u64,
}

pub const SMALL: Size = Size { label: "10 thousand", name: "10k", blocks_len: 1 };
const MEDIUM: Size = Size { label: "1 million", name: "1m", blocks_len: 100 };
pub const LARGE: Size = Size { label: "5 million", name: "5m", blocks_len: 500 };

/// /identify at 256 connections as the ledger grows.
pub async fn growth(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("growth ...");
    // The small one is made, and verified, in every run.
    server.forget(SMALL.name).await?;
    let mut runs = Vec::new();
    // New sessions map each page of a table when they first come by: the more pages, the longer it
    // takes until there is little of that.
    let just_started = "5 million, just started";
    let round = [(SMALL, SMALL.label, 4), (LARGE, LARGE.label, 20)];
    let rest = [(MEDIUM, MEDIUM.label, 20), (LARGE, just_started, 1)];
    for (size, label, warm_up_s) in round.repeat(ROUNDS).into_iter().chain(rest) {
        let trial = Trial {
            warm_up: Duration::from_secs(warm_up_s),
            measured: Duration::from_secs(10),
            ..Trial::closed(label, Traffic::new(256, size.customers_len(), 0))
        };
        runs.push(trial.run(server, &size.clone_of_kept(server).await?, dir).await?);
    }
    let small = rates_of(&runs, SMALL.label);
    let mut bases = of_rounds(&small, round.len());
    bases.resize(runs.len(), median(&small));
    let titles = ["4 growth, 256 connections", "4 what it cost"];
    report_runs(report, titles, "contacts", &[("x 10 thousand", &bases)], &runs);
    let x_small = median_ratio(&runs, LARGE.label, &small);
    report.bar_at_least("5 million contacts, x the rate at 10 thousand", x_small, 0.8);
    Ok(())
}

/// Ordinary traffic beside requests that touch one big identity.
pub async fn big(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("big identities ...");
    const NAME: &str = "big";
    let mut runs = Vec::new();
    for big_len in [0, 100, 1_000, 10_000] {
        server.forget(NAME).await?;
        server.keep(NAME, async |new| make(new, SMALL.blocks_len, big_len).await).await?;
        let traffic = Traffic::new(256, SMALL.customers_len(), big_len);
        let trial = Trial::closed(big_len.to_string(), traffic);
        runs.push(trial.run(server, &server.clone_of(NAME).await?, dir).await?);
    }
    server.forget(NAME).await?;
    let without = runs[0].rate();
    let titles = ["5 the others beside a big identity, 256 connections", "5 what it cost"];
    let ratios: [(_, &[f64]); 1] = [("x without", &vec![without; runs.len()])];
    report_runs(report, titles, "contacts of it", &ratios, &runs);
    let own =
        runs[1..].iter().map(|run| (run.label.clone(), latencies_ms(&run.outcome.big_us).into()));
    report.tables.push(Table {
        title: "5 the big identity itself, 1 % of the requests",
        columns: vec!["contacts of it", "p50 ms", "p99 ms", "p99.9 ms", "max ms"],
        rows: own.collect(),
    });
    let beside = runs[3].rate() / without;
    report.bar_at_least("others beside 10,000 contacts, x without", beside, 0.67);
    Ok(())
}

/// Start and memory on the largest ledger, and what it takes on disk.
pub async fn memory(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("memory ...");
    let cloned = LARGE.clone_of_kept(server).await?;
    let disk = disk(&cloned).await?;
    let trial = Trial::closed("1024", Traffic::new(1024, LARGE.customers_len(), 0));
    let run = trial.run(server, &cloned, dir).await?;
    report.note_others(run.others_busy());
    let row = vec![
        run.ready_after.as_secs_f64() * 1000.0,
        run.keys_known_after.as_secs_f64(),
        run.memory_at_start.now_mb,
        run.rate(),
        run.memory_at_end.now_mb,
        run.memory_at_end.peak_mb,
    ];
    let table = Table {
        title: "6 start and memory, 5 million contacts",
        columns: vec![
            "connections",
            "ready ms",
            "keys known s",
            "RSS MB",
            "requests/s",
            "RSS MB after",
            "peak MB",
        ],
        rows: vec![(run.label, row)],
    };
    report.tables.extend([table, disk]);
    let peak_mb = run.memory_at_end.peak_mb;
    report.bar_at_most("1,024 connections, 5 million contacts, peak MB", peak_mb, 150.0);
    Ok(())
}

impl Size {
    pub fn customers_len(&self) -> u64 {
        self.blocks_len * BLOCK_CUSTOMERS_LEN
    }

    pub async fn clone_of_kept(&self, server: &Server) -> anyhow::Result<Cloned> {
        server.keep(self.name, async |new| make(new, self.blocks_len, 0).await).await?;
        server.clone_of(self.name).await
    }
}

async fn make(new: &Cloned, blocks_len: u64, big_len: u64) -> anyhow::Result<()> {
    eprintln!("  making a ledger of {blocks_len} x 10,000 + {big_len} contacts ...");
    let since = Instant::now();
    generate::fill(new, blocks_len, big_len).await?;
    let made_s = since.elapsed().as_secs_f64();
    let Took { seconds: verified_s, output, .. } = run(new, &["verify"]).await?;
    eprintln!("  made in {made_s:.1} s, verified in {verified_s:.1} s: {output}");
    Ok(())
}

async fn disk(cloned: &Cloned) -> anyhow::Result<Table> {
    let relations: Vec<(String, f64, f64)> = query_as(
        "select c.relname::text,
            pg_table_size(c.oid)::double precision,
            h.observation_id::double precision
        from pg_class as c
        cross join head as h
        where c.relnamespace = current_schema()::regnamespace
            and c.relkind in ('r', 'i') and pg_table_size(c.oid) > 1000000
        order by c.relkind desc, 2 desc",
    )
    .fetch_all(&mut cloned.database.owner().await?)
    .await?;
    let row = |(name, bytes, observations): &(String, f64, f64)| {
        (name.clone(), vec![bytes / f64::from(1 << 20), bytes / observations])
    };
    let mut rows: Vec<_> = relations.iter().map(row).collect();
    let sum = |n: usize| rows.iter().map(|(_, row)| row[n]).sum();
    rows.push(("all".to_owned(), vec![sum(0), sum(1)]));
    let columns = vec!["table or index", "MB", "bytes an observation"];
    Ok(Table { title: "6 disk, 5 million contacts", columns, rows })
}
