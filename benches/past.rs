//! Section 9: what auditors ask about an identity, and the feed, on a small ledger and a large one.

use crate::load;
use crate::machine::{CpuTime, Memory};
use crate::postgres::{Cloned, Server, copy_out};
use crate::ran::latencies_ms;
use crate::report::{Report, Table};
use crate::scale::{LARGE, SMALL, Size};
use crate::service::Service;
use anyhow::ensure;
use hdrhistogram::Histogram;
use sqlx::{query_as, query_scalar};
use std::path::Path;
use std::time::Instant;

/// Identities of 9 to 11 contacts from anywhere in the ledger: the primary contact, the newest one,
/// and where that was observed.
const IDENTITIES: &str = "
    with identity as (
        select linked_id as primary_id, max(id) as newest_id
        from contact
        where linked_id is not null
        group by linked_id
        having count(*) between 8 and 10
    )
    select i.primary_id, i.newest_id, o.position
    from identity as i
    join observation as o on o.id = i.newest_id
    order by hashint8(i.primary_id), i.primary_id
    limit 500";
const QUESTIONS: [&str; 3] = ["history", "why", "as_of"];
const QUESTIONS_LEN: usize = 5_000;

/// What the feed says, in whatever order is the cheapest.
const FED: &str = "(
    select e.position, e.kind, e.line, e.observation_id, o.email, o.phone_number
    from event as e
    left join observation as o on o.id = e.observation_id
)";

/// What was found on a ledger of one size.
struct Found {
    label: &'static str,
    feed: Fed,
    identities_len: usize,
    /// In the order of `QUESTIONS`.
    latencies_us: Vec<Histogram<u64>>,
}

struct Fed {
    events_len: f64,
    seconds: f64,
    copied_s: f64,
    /// Of the service, before the feed.
    memory_mb: f64,
    peak_mb: f64,
}

pub async fn past(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("past ...");
    let found =
        [measure(server, &SMALL, dir, report).await?, measure(server, &LARGE, dir, report).await?];
    report_questions(&found, report);
    report_feeds(&found, report);
    Ok(())
}

async fn measure(
    server: &Server,
    size: &Size,
    dir: &Path,
    report: &mut Report,
) -> anyhow::Result<Found> {
    let cloned = size.clone_of_kept(server).await?;
    eprintln!("  {} ...", size.label);
    server.settle().await?;
    let service = Service::start(&cloned.url, &[], dir).await?;
    let cpu = || CpuTime::now(service.process(), server.postmaster);
    let (before, since) = (cpu(), Instant::now());
    // First, so that the peak of its memory is the feed's.
    let feed = feed(&service, &cloned).await?;
    let (identities_len, latencies_us) = questions(&service, &cloned).await?;
    report.note_others(cpu().since(before).others() / since.elapsed().as_secs_f64());
    service.stop()?;
    Ok(Found { label: size.label, feed, identities_len, latencies_us })
}

/// The whole ledger as a stream, between two times of copying the same rows out.
async fn feed(service: &Service, cloned: &Cloned) -> anyhow::Result<Fed> {
    let mut owner = cloned.database.owner().await?;
    let events_len = query_scalar("select position::double precision from head");
    let events_len: f64 = events_len.fetch_one(&mut owner).await?;
    let memory_mb = Memory::of(service.process()).now_mb;
    let mut copied_s = 0.0;
    let mut copy = async || {
        let since = Instant::now();
        copy_out(&mut owner, FED).await?;
        copied_s += since.elapsed().as_secs_f64() / 2.0;
        anyhow::Ok(())
    };
    copy().await?;
    let since = Instant::now();
    let lines_len = lines_len(service).await?;
    let seconds = since.elapsed().as_secs_f64();
    let peak_mb = Memory::of(service.process()).peak_mb;
    copy().await?;
    ensure!(lines_len as f64 == events_len, "{lines_len} of {events_len} events were sent");
    Ok(Fed { events_len, seconds, copied_s, memory_mb, peak_mb })
}

async fn lines_len(service: &Service) -> anyhow::Result<usize> {
    let url = format!("http://{}/events", service.address);
    let request = reqwest::Client::new().get(url).header("accept", "application/x-ndjson");
    let mut response = request.send().await?.error_for_status()?;
    let mut len = 0;
    while let Some(chunk) = response.chunk().await? {
        len += chunk.iter().filter(|byte| **byte == b'\n').count();
    }
    Ok(len)
}

/// Each question about each of the identities in turn, once before it is measured. How many
/// identities, and how long each question took.
async fn questions(
    service: &Service,
    cloned: &Cloned,
) -> anyhow::Result<(usize, Vec<Histogram<u64>>)> {
    let identities: Vec<(i64, i64, i64)> =
        query_as(IDENTITIES).fetch_all(&mut cloned.database.owner().await?).await?;
    ensure!(!identities.is_empty(), "no identity has 9 to 11 contacts");
    let mut latencies_us = Vec::new();
    for question in QUESTIONS {
        let path = |(primary_id, newest_id, position): &(i64, i64, i64)| match question {
            "history" => format!("/contacts/{primary_id}/history"),
            "why" => format!("/contacts/{primary_id}/why?with={newest_id}"),
            _ => format!("/contacts/{primary_id}?as_of={position}"),
        };
        let paths: Vec<_> = identities.iter().map(path).collect();
        load::ask(service.address, &paths).await?;
        let measured = paths.iter().cycle().take(QUESTIONS_LEN);
        latencies_us.push(load::ask(service.address, measured).await?);
    }
    Ok((identities.len(), latencies_us))
}

fn report_questions(found: &[Found; 2], report: &mut Report) {
    let mut rows = Vec::new();
    for (n, question) in QUESTIONS.into_iter().enumerate() {
        let latencies_ms = found.each_ref().map(|found| latencies_ms(&found.latencies_us[n]));
        let [_, small_p99_ms, ..] = latencies_ms[0];
        for (found, latencies_ms) in found.iter().zip(latencies_ms) {
            let [p50_ms, p99_ms, p999_ms, max_ms] = latencies_ms;
            let what = format!("{question}, {}", found.label);
            report.bar_at_most(&format!("{what} contacts, p99 ms"), p99_ms, 10.0);
            let identities_len = found.identities_len as f64;
            let x_small = p99_ms / small_p99_ms;
            rows.push((what, vec![identities_len, p50_ms, p99_ms, x_small, p999_ms, max_ms]));
        }
        let [_, large_p99_ms, ..] = latencies_ms[1];
        let what = format!("{question}, p99 at 5 million contacts, x at 10 thousand");
        report.bar_at_most(&what, large_p99_ms / small_p99_ms, 1.5);
    }
    report.tables.push(Table {
        title: "9 questions about identities of 9 to 11 contacts, one connection",
        columns: vec![
            "question, contacts",
            "identities",
            "p50 ms",
            "p99 ms",
            "x 10 thousand",
            "p99.9 ms",
            "max ms",
        ],
        rows,
    });
}

fn report_feeds(found: &[Found; 2], report: &mut Report) {
    let x_copying = |feed: &Fed| feed.copied_s / feed.seconds;
    let row = |found: &Found| {
        let Fed { events_len, seconds, copied_s, memory_mb, peak_mb } = found.feed;
        let rates = [events_len / seconds, events_len / copied_s, x_copying(&found.feed)];
        let row = [&[events_len, seconds][..], &rates, &[memory_mb, peak_mb]].concat();
        (found.label.to_owned(), row)
    };
    report.tables.push(Table {
        title: "9 the feed, whole, as NDJSON",
        columns: vec![
            "contacts",
            "events",
            "seconds",
            "events/s",
            "COPY rows/s",
            "x COPY",
            "RSS MB before",
            "peak MB",
        ],
        rows: found.iter().map(row).collect(),
    });
    let [_, large] = found;
    report.bar_at_least("feed of 5 million contacts, x COPY", x_copying(&large.feed), 0.33);
}
