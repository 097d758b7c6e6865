//! The service as its users start it: the binary, in a process of its own.

use super::Seen;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running service. Dropping it kills it.
pub struct Service {
    child: Child,
    pub address: String,
    log: Arc<Mutex<String>>,
    pub client: Client,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contact {
    pub primary_contact_id: i64,
    pub emails: Vec<String>,
    pub phone_numbers: Vec<String>,
    pub secondary_contact_ids: Vec<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    contact: Contact,
}

pub const BINARY: &str = env!("CARGO_BIN_EXE_identity-ledger");

/// The program that checks exports and proofs and shares no code with this one.
pub const CHECK_EXPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/check_export.py");

/// The variables that configure the binary.
pub const VARIABLES: [&str; 13] = [
    "DATABASE_URL",
    "DATA_DIR",
    "LEDGER",
    "LISTEN",
    "PORT",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "SIGNING_KEY",
    "CHECKPOINT_DIR",
    "TOKENS",
    "TLS_CERT",
    "TLS_KEY",
    "IDEMPOTENCY_HOURS",
];

/// Serves on a free port.
pub const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

/// The binary with nothing of the test's own environment that could configure it.
pub fn command(args: &[&str]) -> Command {
    command_of(Path::new(BINARY), args)
}

/// As `command`, with a copy of the binary.
pub fn command_of(binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary);
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// Runs a command that must succeed, and returns its stdout.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must refuse in one line, and returns that.
#[track_caller]
pub fn refuses(command: &mut Command) -> String {
    let output = output_in_time(command);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {told}");
    assert!(told.starts_with("error: ") && told.lines().count() == 1, "{told}");
    assert!(output.stdout.is_empty());
    told
}

/// What a command says that ends by itself. A service that started after all would not.
#[track_caller]
fn output_in_time(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() >= WAIT_MAX {
            child.kill().unwrap();
            panic!("{command:?} does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(PAUSE);
    }
    child.wait_with_output().unwrap()
}

/// Runs a command that clap must refuse, and returns its stderr.
#[track_caller]
pub fn misuse(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
    stderr
}

/// What a command has said on stderr, except that the private Postgres takes a while to start or to stop,
/// as on a busy machine.
pub fn told(output: &Output) -> String {
    let stderr = str::from_utf8(&output.stderr).unwrap();
    let takes_long = |line: &&str| line.trim_end().ends_with(": this can take a while");
    stderr.split_inclusive('\n').filter(|line| !takes_long(line)).collect()
}

/// The hashes of a proof, one behind the other.
pub fn hashes(proof: &Value) -> Vec<u8> {
    let hash = |hash: &Value| BASE64_STANDARD.decode(hash.as_str().unwrap()).unwrap();
    proof["hashes"].as_array().unwrap().iter().flat_map(hash).collect()
}

/// For what takes moments: no machine is so busy that it takes longer.
const WAIT_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// Waits for what must come to pass within seconds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WAIT_MAX, "waited in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// As `until`, for what has to be asked for. A question that is not answered is not waited for either.
pub async fn until_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(WAIT_MAX, waiting).await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}

/// What a process that was told to end has said, once it has ended.
#[track_caller]
pub fn ended(mut child: Child) -> Output {
    until("it ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

/// Where a service listens, once its log says so.
fn address(log: &str) -> Option<String> {
    let rest = log.split("listening on ").nth(1)?;
    let rest = rest.split("://").nth(1).unwrap();
    let end = rest.find(|c: char| c == '"' || c.is_whitespace());
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

/// The contact of an answer, which must be 200.
async fn answered(response: Response) -> Contact {
    assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
    response.json::<Answer>().await.unwrap().contact
}

impl Service {
    /// Starts a service on a database and waits until it listens.
    pub fn start(url: &str) -> Self {
        Self::start_with(&["--database-url", url])
    }

    pub fn start_with(args: &[&str]) -> Self {
        Self::spawn(command(SERVE).args(args))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let whole_log = log.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *whole_log.lock().unwrap() += &(line + "\n");
            }
        });
        let client = Client::builder().timeout(WAIT_MAX).build().unwrap();
        let mut service = Self { child, address: String::new(), log, client };
        until("the service listens", || {
            let has_ended = reader.is_finished();
            let log = service.log();
            let address = address(&log);
            assert!(address.is_some() || !has_ended, "the service ended: {log}");
            service.address = address.unwrap_or_default();
            !service.address.is_empty()
        });
        service
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub async fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::Result<Response> {
        let request = self.client.post(self.url("/identify"));
        request.header("content-type", "application/json").body(body).send().await
    }

    /// Observes with an Idempotency-Key.
    pub async fn try_identify_once(&self, seen: &Seen, key: &str) -> reqwest::Result<Response> {
        let request = self.client.post(self.url("/identify"));
        request.header("idempotency-key", key).json(seen).send().await
    }

    pub async fn lookup(&self, seen: &Seen) -> Response {
        self.client.post(self.url("/lookup")).json(seen).send().await.unwrap()
    }

    /// Asks to erase the customer of a number.
    pub async fn erase(&self, id: i64) -> Response {
        let request = self.client.post(self.url(&format!("/contacts/{id}/erase")));
        request.json(&json!({"reason": "customer-request"})).send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn get_with(&self, path: &str, headers: &[(&'static str, String)]) -> Response {
        let mut request = self.client.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.send().await.unwrap()
    }

    /// A request with a token; with none where that is empty.
    pub fn request(&self, method: &str, path: &str, token: &str) -> RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), self.url(path));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    pub async fn get_json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    /// All events, from this page on to the last one.
    pub async fn pages(&self, path: &str) -> Vec<Value> {
        let mut next = Some(path.to_owned());
        let mut entries = Vec::new();
        while let Some(path) = next {
            let mut page = self.get_json(&path).await;
            entries.append(page["events"].as_array_mut().unwrap());
            next = page["next"].as_str().map(str::to_owned);
        }
        entries
    }

    /// Of the last event, once there is an observation.
    pub async fn position(&self) -> i64 {
        let response = self.get("/contacts/1").await;
        response.headers()["ledger-position"].to_str().unwrap().parse().unwrap()
    }

    /// The answer to an observation, which must be 200.
    pub async fn identify(&self, seen: &Seen) -> Contact {
        answered(self.try_identify(seen).await.unwrap()).await
    }

    /// Observes them one after another.
    pub async fn observe(&self, all: impl IntoIterator<Item = impl Into<Seen>>) {
        for seen in all {
            self.identify(&seen.into()).await;
        }
    }

    /// Observes the first, which gets the next number, and then the others, a few at a time.
    pub async fn identify_all(&self, all: &[Seen]) {
        let (first, others) = all.split_first().unwrap();
        self.identify(first).await;
        join_all(others.chunks(all.len().div_ceil(16)).map(async |mine| {
            for seen in mine {
                self.identify(seen).await;
            }
        }))
        .await;
    }

    pub async fn try_identify(&self, seen: &Seen) -> reqwest::Result<Response> {
        self.client.post(self.url("/identify")).json(seen).send().await
    }

    pub async fn contact(&self, id: i64) -> Contact {
        answered(self.get(&format!("/contacts/{id}")).await).await
    }

    /// The identity as it was; none where the number was not given by then.
    pub async fn contact_as_of(&self, id: i64, as_of: &str) -> Option<Contact> {
        let response = self.get(&format!("/contacts/{id}?as_of={as_of}")).await;
        if response.status() == StatusCode::NOT_FOUND {
            return None;
        }
        Some(answered(response).await)
    }

    /// Waits until it answers so whether it is ready: an answer may have been true a moment ago.
    pub async fn until_ready(&self, status: u16) {
        until_async("it sees whether it is ready", async || {
            self.get("/health/ready").await.status() == status
        })
        .await;
    }

    /// Waits until all that is in the ledger is under a checkpoint; returns its size and root.
    pub async fn sealed(&self) -> (i64, String) {
        let mut ledger = Value::Null;
        until_async("all is sealed", async || {
            ledger = self.get_json("/ledger").await;
            ledger["lag"] == 0 && !ledger["checkpoint"].is_null()
        })
        .await;
        let note = self.get("/ledger/checkpoint").await.text().await.unwrap();
        let mut lines = note.lines().skip(1);
        let size = lines.next().unwrap().parse().unwrap();
        assert_eq!(ledger["checkpoint"]["size"], size);
        (size, lines.next().unwrap().to_owned())
    }

    /// The identities of the first observations, asked a few at a time.
    pub async fn contacts(&self, len: i64) -> Vec<Contact> {
        let ask = |number| self.contact(number);
        futures_util::stream::iter((1..=len).map(ask)).buffered(8).collect().await
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it as an operator would.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits until it ends, as it was told to.
    pub fn wait(mut self) -> ExitStatus {
        until("the service ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the log of the service:\n{}", self.log());
        }
        // A stopped process (SIGSTOP) is killed all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
