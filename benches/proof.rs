//! Section 8: what sealing costs, whether it keeps up, and what verifying and proving take.

use crate::load;
use crate::postgres::{Cloned, Server, copy_out};
use crate::ran::{ROUNDS, Trial, latencies_ms, median_ratio, of_rounds, rates_of, report_runs};
use crate::report::{Report, Table};
use crate::scale::LARGE;
use crate::service::{Service, run};
use crate::traffic::Traffic;
use hdrhistogram::Histogram;
use identity_ledger::seal::{SealInputs, SigningKey, key, seal_once};
use sqlx::query_scalar;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const WARM_UP_LEN: usize = 500;
const PROOFS_LEN: usize = 5_000;

/// /identify at 256 connections without sealing and with it, in turn.
pub async fn sealing(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("sealing ...");
    let flags = ["--signing-key".to_owned(), signing_key(dir)?.display().to_string()];
    let mut runs = Vec::new();
    let round = [("off", &[][..]), ("on", &flags)];
    for (label, flags) in round.repeat(ROUNDS) {
        let trial = Trial {
            flags: flags.to_vec(),
            measured: Duration::from_secs(6),
            ..Trial::closed(label, Traffic::new(256, 0, 0))
        };
        runs.push(trial.run(server, &server.empty().await?, dir).await?);
    }
    let off = rates_of(&runs, "off");
    // There is about one event a request: the lag in seconds is the one in events by the rate.
    let lag_s =
        runs.iter().filter(|run| run.label == "on").map(|run| run.unsealed_len / run.rate());
    let lag_s = lag_s.fold(0.0, f64::max);
    let titles = ["8 sealing, 256 connections", "8 what it cost"];
    report_runs(report, titles, "sealing", &[("x off", &of_rounds(&off, round.len()))], &runs);
    report.bar_at_least("sealing on, x off", median_ratio(&runs, "on", &off), 0.9);
    report.bar_at_most("lag of the sealer at the end of the load, in seconds", lag_s, 2.0);
    Ok(())
}

/// What `verify` takes, against copying out the rows that it reads, and how long a proof does.
pub async fn verifying(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("verifying ...");
    let cloned = LARGE.clone_of_kept(server).await?;
    let contacts_len = cloned.contacts_len().await?;
    let file = signing_key(dir)?;
    server.settle().await?;
    let since = Instant::now();
    let key = SigningKey::read(&file)?;
    seal_once(SealInputs { database: cloned.database.clone(), key, outside: None }).await?;
    let sealed_s = since.elapsed().as_secs_f64();
    server.settle().await?;
    let mut owner = cloned.database.owner().await?;
    let since = Instant::now();
    copy_out(&mut owner, "event").await?;
    copy_out(&mut owner, "observation").await?;
    let copied_s = since.elapsed().as_secs_f64();
    let flags = ["--signing-key".to_owned(), file.display().to_string()];
    let verified = run(&cloned, &["verify", &flags[0], &flags[1]]).await?;
    eprintln!("{}", verified.output);
    let (verified_s, bytes_each) = (verified.seconds, verified.peak_bytes() / contacts_len);
    let memory = [verified.peak_mb, bytes_each];
    let row = |what: &str, seconds: f64, [peak_mb, bytes_each]: [f64; 2]| {
        (what.to_owned(), vec![seconds, seconds / copied_s, peak_mb, bytes_each])
    };
    report.tables.push(Table {
        title: "8 a ledger of 5 million contacts, read whole",
        columns: vec!["what", "seconds", "x copying", "peak MB", "bytes a contact"],
        rows: vec![
            row("copying events and observations out", copied_s, [f64::NAN; 2]),
            row("sealing all of it at once", sealed_s, [f64::NAN; 2]),
            row("verify", verified_s, memory),
        ],
    });
    report.bar_at_most("verify, x the time of copying out", verified_s / copied_s, 4.0);
    report.bar_at_most("verify, bytes a contact", bytes_each, 250.0);
    server.settle().await?;
    let service = Service::start(&cloned.url, &flags, dir).await?;
    let proofs_us = proofs(&service, &cloned).await?;
    service.stop()?;
    let latencies_ms = latencies_ms(&proofs_us);
    report.tables.push(Table {
        title: "8 proofs of any event, 5 million contacts",
        columns: vec!["proof", "p50 ms", "p99 ms", "p99.9 ms", "max ms"],
        rows: vec![("inclusion".to_owned(), latencies_ms.into())],
    });
    report.bar_at_most("inclusion proof, p99 ms", latencies_ms[1], 5.0);
    Ok(())
}

/// Of events anywhere in the ledger, in the tree of its last checkpoint.
async fn proofs(service: &Service, cloned: &Cloned) -> anyhow::Result<Histogram<u64>> {
    let mut owner = cloned.database.owner().await?;
    let sealed: i64 = query_scalar("select size from checkpoint order by size desc limit 1")
        .fetch_one(&mut owner)
        .await?;
    let mut random = fastrand::Rng::with_seed(3);
    let path = |_| format!("/ledger/proof/inclusion?position={}", random.i64(1..=sealed));
    let paths: Vec<_> = (0..WARM_UP_LEN + PROOFS_LEN).map(path).collect();
    let (warm_up, measured) = paths.split_at(WARM_UP_LEN);
    load::ask(service.address, warm_up).await?;
    load::ask(service.address, measured).await
}

fn signing_key(dir: &Path) -> anyhow::Result<PathBuf> {
    let file = dir.join("signing.key");
    if !file.exists() {
        let name = "ledger.bench/shop".parse().map_err(anyhow::Error::msg)?;
        key::create(&file, &name)?;
    }
    Ok(file)
}
