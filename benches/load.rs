//! Sends requests over keep-alive connections from one thread, at little CPU: requests are
//! written into a buffer that is used again, and of an answer only its status and length are read.

use crate::traffic::{Caller, EmailOf, PhoneOf, Seen, Traffic};
use anyhow::{Context as _, ensure};
use futures_util::future::{try_join, try_join_all};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until};
use uuid::{Builder, Uuid};

pub struct Plan {
    pub address: SocketAddr,
    pub arrivals: Arrivals,
    pub shown: Shown,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What requests show beside their body.
#[derive(Clone, Default)]
pub struct Shown {
    pub token: Option<String>,
    /// An Idempotency-Key of its own with each request.
    pub keys: Option<Keys>,
}

#[derive(Clone, Copy)]
pub enum Keys {
    /// UUIDs of version 4.
    Random,
    /// UUIDs of version 7.
    Timed,
}

impl Keys {
    fn make(self) -> Uuid {
        let random = fastrand::u128(..).to_be_bytes();
        match self {
            Self::Random => Builder::from_random_bytes(random).into_uuid(),
            Self::Timed => {
                let now_ms = UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_millis() as u64);
                let (counter, _) = random.split_first_chunk().expect("16 bytes are more than 10");
                Builder::from_unix_timestamp_millis(now_ms, counter).into_uuid()
            }
        }
    }
}

pub enum Arrivals {
    /// Each connection sends its next request when it has its answer.
    Closed,
    /// Requests are planned at random times, whether or not answers come. Latency counts from
    /// the planned time, so that a stall is seen by all whom it would have kept waiting.
    Open { per_second: f64 },
}

/// What was measured after the warm-up. Latencies are in microseconds.
pub struct Outcome {
    pub ordinary_us: Histogram<u64>,
    pub big_us: Histogram<u64>,
    pub errors: u64,
}

struct Run<'a> {
    plan: &'a Plan,
    begin: Instant,
    end: Instant,
    /// When the next request is planned, in an open loop.
    next_arrival: Cell<Instant>,
    outcome: RefCell<Outcome>,
}

struct Connection {
    stream: TcpStream,
    /// Of each request, down to the first header that is not always the same.
    head: String,
    keys: Option<Keys>,
    body: Vec<u8>,
    request: Vec<u8>,
    response: Vec<u8>,
}

/// Sends for the planned time, and calls `probe` when the measured time begins and when it ends.
pub async fn run<T>(
    plan: &Plan,
    traffic: &Traffic,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(Outcome, T, T)> {
    let mut connections = Vec::new();
    for _ in 0..traffic.callers_len {
        connections.push(Connection::open(plan.address, &plan.shown).await?);
    }
    let start = Instant::now();
    let begin = start + plan.warm_up;
    let outcome = Outcome { ordinary_us: latencies()?, big_us: latencies()?, errors: 0 };
    let run = Run {
        plan,
        begin,
        end: begin + plan.measured,
        next_arrival: Cell::new(start),
        outcome: RefCell::new(outcome),
    };
    let callers = connections.into_iter().zip(1..).map(|(connection, seed)| {
        let (run, caller) = (&run, Caller::new(traffic, seed));
        async move { run.call(connection, caller, seed).await.context("a connection broke") }
    });
    let probes = async {
        sleep_until(run.begin).await;
        let before = probe().await?;
        sleep_until(run.end).await;
        Ok((before, probe().await?))
    };
    // All connections are one task, which tokio would interrupt after a few of them.
    let (_, (before, after)) = unconstrained(try_join(try_join_all(callers), probes)).await?;
    Ok((run.outcome.into_inner(), before, after))
}

/// Asks one question after another over one connection. Each must be answered 200.
pub async fn ask<'a>(
    address: SocketAddr,
    paths: impl IntoIterator<Item = &'a String>,
) -> anyhow::Result<Histogram<u64>> {
    let mut connection = Connection::open(address, &Shown::default()).await?;
    let mut latencies_us = latencies()?;
    for path in paths {
        let asked = Instant::now();
        ensure!(connection.get(path).await?, "GET {path} was not answered 200");
        latencies_us.saturating_record(asked.elapsed().as_micros() as u64);
    }
    Ok(latencies_us)
}

/// Up to a minute, in microseconds.
pub fn latencies() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

impl Run<'_> {
    async fn call(
        &self,
        mut connection: Connection,
        mut caller: Caller<'_>,
        seed: u64,
    ) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(seed);
        loop {
            let planned = match self.plan.arrivals {
                Arrivals::Closed => Instant::now(),
                Arrivals::Open { per_second } => {
                    let planned = self.next_arrival.get();
                    let gap = -(1.0 - random.f64()).ln() / per_second;
                    self.next_arrival.set(planned + Duration::from_secs_f64(gap));
                    sleep_until(planned).await;
                    planned
                }
            };
            if planned >= self.end {
                return Ok(());
            }
            let (seen, is_big) = caller.next();
            let is_ok = connection.identify(seen).await?;
            self.record(planned, is_ok, is_big);
            if is_ok {
                caller.acknowledged();
            }
        }
    }

    /// A closed loop counts the answers of the measured time, an open one its requests.
    fn record(&self, planned: Instant, is_ok: bool, is_big: bool) {
        let now = Instant::now();
        let mut outcome = self.outcome.borrow_mut();
        outcome.errors += u64::from(!is_ok);
        let counted = match self.plan.arrivals {
            Arrivals::Closed => now,
            Arrivals::Open { .. } => planned,
        };
        if is_ok && counted >= self.begin && counted < self.end {
            let histogram = if is_big { &mut outcome.big_us } else { &mut outcome.ordinary_us };
            histogram.saturating_record((now - planned).as_micros() as u64);
        }
    }
}

impl Connection {
    async fn open(address: SocketAddr, shown: &Shown) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect to the service")?;
        stream.set_nodelay(true)?;
        let mut head = "POST /identify HTTP/1.1\r\nhost: localhost\r\n\
            content-type: application/json\r\n"
            .to_owned();
        if let Some(token) = &shown.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        let keys = shown.keys;
        let (body, request, response) = Default::default();
        Ok(Self { stream, head, keys, body, request, response })
    }

    /// Whether the service answered 200.
    async fn identify(&mut self, seen: Seen) -> anyhow::Result<bool> {
        self.write_request(seen)?;
        self.exchange().await
    }

    /// Whether the service answered 200.
    async fn get(&mut self, path: &str) -> anyhow::Result<bool> {
        self.request.clear();
        write!(self.request, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        self.exchange().await
    }

    async fn exchange(&mut self) -> anyhow::Result<bool> {
        self.stream.write_all(&self.request).await?;
        self.response.clear();
        loop {
            let len = self.stream.read_buf(&mut self.response).await?;
            ensure!(len > 0, "the service closed the connection");
            if whole_len(&self.response)?.is_some_and(|whole| self.response.len() >= whole) {
                return Ok(self.response.starts_with(b"HTTP/1.1 200"));
            }
        }
    }

    fn write_request(&mut self, seen: Seen) -> std::io::Result<()> {
        let Self { head, keys, body, request, .. } = self;
        body.clear();
        match (seen.email.map(EmailOf), seen.phone.map(PhoneOf)) {
            (Some(email), Some(phone)) => {
                write!(body, r#"{{"email":"{email}","phoneNumber":"{phone}"}}"#)?;
            }
            (Some(email), None) => write!(body, r#"{{"email":"{email}"}}"#)?,
            (None, Some(phone)) => write!(body, r#"{{"phoneNumber":"{phone}"}}"#)?,
            (None, None) => unreachable!("a request has an email or a phone number"),
        }
        request.clear();
        request.extend_from_slice(head.as_bytes());
        if let Some(keys) = keys {
            write!(request, "idempotency-key: {}\r\n", keys.make())?;
        }
        write!(request, "content-length: {}\r\n\r\n", body.len())?;
        request.extend_from_slice(body);
        Ok(())
    }
}

/// How long an answer is with its head, once its head is there.
fn whole_len(response: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head_len) = response.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    const NAME: &[u8] = b"content-length: ";
    let value = response[..head_len]
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
        .context("an answer without content-length")?;
    let digits = value[NAME.len()..].trim_ascii();
    Ok(Some(head_len + 4 + std::str::from_utf8(digits)?.parse::<usize>()?))
}
