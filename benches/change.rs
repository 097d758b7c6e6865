//! Section 7: rebuilding the largest ledger, and changing its rules under load.

use crate::load::{self, Arrivals, Plan, Shown};
use crate::postgres::{Cloned, Server, copy_out, execute};
use crate::ran::latencies_ms;
use crate::report::{Report, Table};
use crate::scale::LARGE;
use crate::service::{Service, Took, run};
use crate::traffic::Traffic;
use anyhow::{Context as _, ensure};
use futures_util::future::try_join;
use hdrhistogram::Histogram;
use identity_ledger::identity::{Census, EXACT_RULES, Rules};
use identity_ledger::ledger::{ObservationRow, Pages};
use identity_ledger::projection;
use serde_json::Value;
use sqlx::query_scalar;
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

const REQUESTS_PER_SECOND: f64 = 2_000.0;
/// Measured on its own, so that the pause at the end does not hide in the build before it.
const SEGMENT: Duration = Duration::from_secs(5);
const RULES_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/projections/contact/exact.toml");

pub async fn rules(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("rules ...");
    let cloned = LARGE.clone_of_kept(server).await?;
    server.settle().await?;
    let floor = floor(&cloned).await?;
    server.settle().await?;
    let rebuilt = run(&cloned, &["rebuild"]).await?;
    server.settle().await?;
    let resolved = resolve(&cloned).await?;
    server.settle().await?;
    let compared = run(&cloned, &["rules", "diff", RULES_FILE, "--json"]).await?;
    let contacts_len = cloned.contacts_len().await?;
    let bytes_each = |took: &Took| took.peak_bytes() / contacts_len;
    report.tables.push(Table {
        title: "7 rebuild and diff, 5 million contacts",
        columns: vec!["", "s", "x the floor", "peak MB", "bytes a contact"],
        rows: vec![
            ("floor of a rebuild".to_owned(), vec![floor, 1.0, f64::NAN, f64::NAN]),
            ("rebuild".to_owned(), costs(&rebuilt, floor, bytes_each(&rebuilt))),
            ("reading and resolving".to_owned(), vec![resolved, 1.0, f64::NAN, f64::NAN]),
            ("rules diff".to_owned(), costs(&compared, resolved, bytes_each(&compared))),
        ],
    });
    report.bar_at_most("rebuild, x its floor", rebuilt.seconds / floor, 1.8);
    report.bar_at_most("rebuild, bytes a contact", bytes_each(&rebuilt), 250.0);
    report.bar_at_most("rules diff, x reading and resolving", compared.seconds / resolved, 1.5);
    report.bar_at_most("rules diff, bytes a contact", bytes_each(&compared), 250.0);
    activation(server, &cloned, dir, report).await
}

fn costs(took: &Took, floor: f64, bytes_each: f64) -> Vec<f64> {
    vec![took.seconds, took.seconds / floor, took.peak_mb, bytes_each]
}

/// COPY of the events and observations out, COPY of the contact rows into an empty table, and its
/// indexes: no rebuild can do with less, except by overlapping them.
async fn floor(cloned: &Cloned) -> anyhow::Result<f64> {
    let mut owner = cloned.database.owner().await?;
    let data_dir: String = query_scalar("show data_directory").fetch_one(&mut owner).await?;
    let file = Path::new(&data_dir).join("bench_contacts");
    let path = file.display();
    const COLUMNS: &str = "id, linked_id, link_precedence, created_at, updated_at, email, phone_number, \
        email_key, phone_key, unlinked_email, unlinked_phone";
    execute(&mut owner, &format!("copy contact ({COLUMNS}) to '{path}'")).await?;
    projection::create_next(&mut owner).await?;
    let since = Instant::now();
    copy_out(&mut owner, "event").await?;
    copy_out(&mut owner, "observation").await?;
    execute(&mut owner, &format!("copy contact_next ({COLUMNS}) from '{path}'")).await?;
    projection::index_next(&mut owner).await?;
    let seconds = since.elapsed().as_secs_f64();
    execute(&mut owner, "drop table contact_next").await?;
    std::fs::remove_file(&file)?;
    Ok(seconds)
}

/// Reads all observations, page by page, and resolves them in memory by one rule set.
async fn resolve(cloned: &Cloned) -> anyhow::Result<f64> {
    let since = Instant::now();
    let rules = Rules::parse(EXACT_RULES).map_err(anyhow::Error::msg)?;
    let mut pages = Pages::<ObservationRow>::between(&cloned.database, 0, i64::MAX);
    let mut census = Census::default();
    while let Some(page) = pages.next().await? {
        for seen in page {
            let identifiers = seen.identifiers.context("nothing was erased here")?;
            census.observe(seen.id, &rules.keys(&identifiers), seen.observed_at);
        }
    }
    ensure!(census.links.contacts_len() > 0, "there are observations");
    Ok(since.elapsed().as_secs_f64())
}

/// Puts other rules in force while requests come at a steady rate.
async fn activation(
    server: &Server,
    cloned: &Cloned,
    dir: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    server.settle().await?;
    let service = Service::start(&cloned.url, &[], dir).await?;
    service.until_keys_are_known().await?;
    let traffic = Traffic::new(256, LARGE.customers_len(), 0);
    let mut segments = Vec::new();
    for _ in 0..3 {
        segments.push(segment(&service, &traffic).await?);
    }
    // The first one warms up.
    let (before, _) = merged(&segments[1..])?;
    segments.clear();
    let args = ["rules", "activate", RULES_FILE, "--yes", "--json", "--reason", "make bench"];
    let ended = Cell::new(None);
    let load = async {
        while ended.get().is_none() {
            segments.push(segment(&service, &traffic).await?);
        }
        Ok(())
    };
    let activate = async {
        let took = run(cloned, &args).await;
        ended.set(Some(Instant::now()));
        took
    };
    let ((), took) = try_join(load, activate).await?;
    let ended = ended.get().context("it has ended")?;
    let activated: Value = serde_json::from_str(&took.output).context("what activate prints")?;
    let number = |name: &str| activated[name].as_f64().context("a number that activate prints");
    let (events, pause_ms) = (number("events")?, number("pauseMs")?);
    let pause_begun = ended - Duration::from_secs_f64(pause_ms / 1000.0 + 1.0);
    let (building, pausing): (Vec<_>, Vec<_>) =
        segments.into_iter().partition(|segment| segment.ended < pause_begun);
    let (during, errors) = merged(&building)?;
    let (around_pause, pause_errors) = merged(&pausing)?;
    service.stop()?;
    // The laws of a rule change, on a large ledger: every decision is made again, and compared.
    eprintln!("{}", run(cloned, &["verify"]).await?.output.trim());
    let allowed_ms = 500.0 + 0.025 * events;
    let row = |label: &str, histogram: &Histogram<u64>, errors: u64| {
        let latencies = latencies_ms(histogram).into_iter();
        (label.to_owned(), latencies.chain([errors as f64]).collect())
    };
    report.tables.push(Table {
        title: "7 activation beside 2,000 requests a second",
        columns: vec!["", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "errors"],
        rows: vec![
            row("before", &before, 0),
            row("while it builds", &during, errors),
            row("around the pause", &around_pause, pause_errors),
        ],
    });
    report.tables.push(Table {
        title: "7 what it did",
        columns: vec!["", "s", "events", "pause ms", "us an event", "peak MB"],
        rows: vec![(
            "activate".to_owned(),
            vec![took.seconds, events, pause_ms, 1000.0 * pause_ms / events, took.peak_mb],
        )],
    });
    let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64;
    report.bar_at_most("p99 while it builds, x before", p99(&during) / p99(&before), 4.0);
    report.bar_at_most("the pause, x 500 ms + 25 us an event", pause_ms / allowed_ms, 1.0);
    report.bar_at_most("requests that failed", (errors + pause_errors) as f64, 0.0);
    Ok(())
}

struct Segment {
    outcome: load::Outcome,
    ended: Instant,
}

async fn segment(service: &Service, traffic: &Traffic) -> anyhow::Result<Segment> {
    let plan = Plan {
        shown: Shown::default(),
        address: service.address,
        arrivals: Arrivals::Open { per_second: REQUESTS_PER_SECOND },
        warm_up: Duration::ZERO,
        measured: SEGMENT,
    };
    let (outcome, (), ()) = load::run(&plan, traffic, async || Ok(())).await?;
    Ok(Segment { outcome, ended: Instant::now() })
}

fn merged(segments: &[Segment]) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut all = load::latencies()?;
    for segment in segments {
        all.add(&segment.outcome.ordinary_us)?;
    }
    Ok((all, segments.iter().map(|segment| segment.outcome.errors).sum()))
}
