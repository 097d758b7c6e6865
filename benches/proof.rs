//! Section 8: what sealing costs, whether it keeps up, and how long it takes to verify.

use crate::postgres::{Cloned, Server};
use crate::ran::{Ran, Trial, report_runs};
use crate::report::{Report, Table};
use crate::scale::LARGE;
use crate::service;
use crate::traffic::Traffic;
use futures_util::TryStreamExt as _;
use identity_ledger::seal::{Seal, SigningKey, key, seal_once};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// /identify at 256 connections without sealing and with it, in turn.
pub async fn sealing(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("sealing ...");
    let flags = vec!["--signing-key".to_owned(), signing_key(dir)?.display().to_string()];
    let mut runs = Vec::new();
    for (label, flags) in
        [("off", &Vec::new()), ("on", &flags), ("off", &Vec::new()), ("on", &flags)]
    {
        let trial = Trial {
            flags: flags.clone(),
            measured: Duration::from_secs(8),
            ..Trial::closed(label, Traffic::new(256, 0, 0))
        };
        runs.push(trial.run(server, &server.empty().await?, dir).await?);
    }
    let rate = |label: &str| {
        let of_label = runs.iter().filter(|run| run.label == label);
        of_label.map(Ran::rate).sum::<f64>() / 2.0
    };
    let (off, on) = (rate("off"), rate("on"));
    // There is about one event a request: the lag in seconds is the one in events by the rate.
    let lag_s =
        runs.iter().filter(|run| run.label == "on").map(|run| run.unsealed_len / run.rate());
    let lag_s = lag_s.fold(0.0, f64::max);
    let titles = ["8 sealing, 256 connections", "8 what it cost"];
    report_runs(report, titles, "sealing", &[("x off", off)], &runs);
    report.bar_at_least("sealing on, x off", on / off, 0.9);
    report.bar_at_most("lag of the sealer at the end of the load, in seconds", lag_s, 2.0);
    Ok(())
}

/// The time of `verify` against that of copying out the rows it reads.
pub async fn verifying(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("verifying ...");
    let cloned = LARGE.clone_of_kept(server).await?;
    let file = signing_key(dir)?;
    server.settle().await?;
    let since = Instant::now();
    let key = SigningKey::read(&file)?;
    seal_once(Seal { database: cloned.database.clone(), key, outside: None }).await?;
    let sealed_s = since.elapsed().as_secs_f64();
    server.settle().await?;
    let copied_s = copy(&cloned).await?;
    let since = Instant::now();
    let flags = ["--signing-key".to_owned(), file.display().to_string()];
    eprintln!("{}", service::verify(&cloned.url, &flags)?);
    let verified_s = since.elapsed().as_secs_f64();
    report.tables.push(Table {
        title: "8 a ledger of 5 million contacts, read whole",
        columns: vec!["what", "seconds", "x copying"],
        rows: vec![
            ("copying events and observations out".into(), vec![copied_s, 1.0]),
            ("sealing all of it at once".into(), vec![sealed_s, sealed_s / copied_s]),
            ("verify".into(), vec![verified_s, verified_s / copied_s]),
        ],
    });
    report.bar_at_most("verify, x the time of copying out", verified_s / copied_s, 4.0);
    Ok(())
}

async fn copy(cloned: &Cloned) -> anyhow::Result<f64> {
    let mut owner = cloned.database.owner().await?;
    let since = Instant::now();
    for table in ["event", "observation"] {
        let rows = owner.copy_out_raw(&format!("copy {table} to stdout")).await?;
        rows.try_for_each(async |_| Ok(())).await?;
    }
    Ok(since.elapsed().as_secs_f64())
}

fn signing_key(dir: &Path) -> anyhow::Result<PathBuf> {
    let file = dir.join("signing.key");
    if !file.exists() {
        key::create(&file, "ledger.bench/shop")?;
    }
    Ok(file)
}
