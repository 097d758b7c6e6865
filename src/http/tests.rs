//! Features of the door, over real sockets on loopback. Time is paused where a test would wait:
//! it jumps to the next timer when nothing else can happen.

use super::*;
use crate::identity::{DEFAULT_RULES, Rules};
use crate::ledger::Database;
use crate::recorder::NotRecorded;
use crate::seal::{Checkpoint, VerifierKeys};
use axum::Router;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// Stands for a caller's personal data in every bad request.
const CANARY: &str = "canary";
/// More connections than a test makes.
const MANY: usize = 100;

struct Received {
    status: u16,
    head: String,
    body: String,
}

impl Received {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }

    fn problem(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], self.status);
        assert_eq!(self.header("cache-control"), Some("no-store"), "404 and 410 could be kept");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

/// The service without Postgres: nobody listens at port 1.
fn without_postgres() -> Answering {
    recording_by(Recorder::without_task())
}

fn recording_by(recorder: Recorder) -> Answering {
    answering(app(recorder))
}

fn app(recorder: Recorder) -> App {
    let nowhere = Database::at_url("postgres://x@127.0.0.1:1/x", "ledger".parse().unwrap());
    let nowhere = nowhere.unwrap();
    let (reader, auditor) = (Reader::new(&nowhere), Auditor::new(&nowhere));
    let status = Arc::new(Status::off());
    let eraser = Eraser::start(nowhere);
    App {
        recorder,
        reader,
        auditor,
        eraser,
        status,
        metrics: Arc::default(),
        shared: SharedAnswers::default(),
        access: None,
        local_names_only: false,
    }
}

/// Any path but that of /identify is answered by this router.
fn routed(router: Router) -> Answering {
    let app = Arc::new(app(Recorder::without_task()));
    let measure = Measure(app.metrics.clone());
    let head = HeadCheck { local_names_only: false };
    Answering::new(router, Straight { app, measure, head, guard: None })
}

async fn start(answering: Answering) -> SocketAddr {
    start_for(MANY, answering).await
}

async fn start_for(connections_max: usize, answering: Answering) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, connections_max, None, answering, std::future::pending()));
    address
}

/// Sends these bytes to the service without Postgres, and reads until it closes.
async fn exchange(bytes: &[u8]) -> Received {
    let mut stream = TcpStream::connect(start(without_postgres()).await).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_to_end(&mut stream).await
}

async fn read_to_end(stream: &mut TcpStream) -> Received {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Received::parse(&String::from_utf8(bytes).unwrap())
}

/// Reads the one answer that a single packet brings, and leaves the connection open.
async fn read_answer(stream: &mut TcpStream) -> Received {
    let mut bytes = [0; 1024];
    let len = stream.read(&mut bytes).await.unwrap();
    Received::parse(std::str::from_utf8(&bytes[..len]).unwrap())
}

async fn get(path: &str) -> Received {
    ask("GET", path).await
}

async fn ask(method: &str, path: &str) -> Received {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    exchange(head.as_bytes()).await
}

async fn identify(content_type: &str, body: &[u8]) -> Received {
    let len = body.len();
    let head = format!(
        "POST /identify HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{content_type}content-length: {len}\r\n\r\n"
    );
    exchange(&[head.as_bytes(), body].concat()).await
}

#[tokio::test]
async fn bad_input_gets_a_problem_that_says_what_to_change_and_repeats_nothing() {
    let json = "content-type: application/json\r\n";
    let digits_33 = r#"{"phoneNumber": 123456789012345678901234567890123}"#;
    let email_255 = format!(r#"{{"email": "canary@{}"}}"#, "x".repeat(248));
    let deep_object = r#"{"a":"#.repeat(3_000);
    let deep_array = "[".repeat(16_000);
    let too_long = format!(r#"{{"email": "canary@x", "a": "{}"}}"#, "a".repeat(20_000));
    let much_too_long = "[".repeat(5_000_000);
    #[rustfmt::skip]
    let table: &[(&str, &[u8], u16, &str)] = &[
        (json, br#"{}"#, 400, "at least one of"),
        (json, br#"{"email": null, "phoneNumber": null, "canary": 1}"#, 400, "at least one of"),
        (json, br#"{"email": " ", "phoneNumber": ""}"#, 400, "at least one of"),
        (json, b"", 400, "There is no body."),
        (json, b" ", 400, "not JSON: see line 1, column 1"),
        (json, b"canary@x.org", 400, "not JSON: see line 1, column 1"),
        (json, b"{\"email\": \"canary@x\",\n}", 400, "not JSON: see line 2, column 1"),
        (json, br#"{"email": "canary@x"} canary"#, 400, "not JSON: see line 1, column 23"),
        (json, br#"{"email": "canary@x"}{}"#, 400, "not JSON"),
        (json, br#"{"phoneNumber": 01}"#, 400, "not JSON"),
        (json, br#"{"phoneNumber": +1}"#, 400, "not JSON"),
        (json, br#"{"phoneNumber": NaN}"#, 400, "not JSON"),
        (json, b"{\"email\": \"canary@x\n\"}", 400, "not JSON"),
        (json, b"{\"email\": \"canary@x\0\"}", 400, "not JSON"),
        (json, br#""canary@x""#, 400, "not a JSON object"),
        (json, br#"["canary@x"]"#, 400, "not a JSON object"),
        (json, b"null", 400, "not a JSON object"),
        (json, b"17", 400, "not a JSON object"),
        (json, b"{\"email\": \"canary\xff@x\"}", 400, "not UTF-8"),
        (json, b"{\"a\": \"\xc3\", \"email\": \"canary@x\"}", 400, "not UTF-8"),
        (json, br#"{"email": "canary@x", "email": "canary@x"}"#, 400, "twice"),
        (json, br#"{"email": null, "email": "canary@x"}"#, 400, "twice"),
        (json, br#"{"email": "canary@x", "\u0065mail": null}"#, 400, "twice"),
        (json, br#"{"email": "canary@x", "canary": 1, "canary": 2}"#, 400, "twice"),
        (json, br#"{"phoneNumber": 1, "phoneNumber": 1}"#, 400, "twice"),
        (json, br#"{"email": true}"#, 400, "email: expected a string or null"),
        (json, br#"{"email": 17}"#, 400, "email: expected a string or null"),
        (json, br#"{"email": ["canary@x"]}"#, 400, "email: expected a string or null"),
        (json, br#"{"email": {"canary": "canary@x"}}"#, 400, "email: expected a string or null"),
        (json, br#"{"phoneNumber": false}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, br#"{"phoneNumber": ["canary"]}"#, 400, "phoneNumber: expected a string, a whole"),
        (json, br#"{"phoneNumber": {}}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, br#"{"phoneNumber": -1}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, br#"{"phoneNumber": -0}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, br#"{"phoneNumber": 1.0}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, br#"{"phoneNumber": 1e3}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, br#"{"phoneNumber": 1E3}"#, 400, "phoneNumber: expected a string, a whole number"),
        (json, digits_33.as_bytes(), 400, "phoneNumber: expected at most 32 characters"),
        (json, br#"{"email": "\ud800canary@x"}"#, 400, "email: expected no half of a surrogate"),
        (json, br#"{"phoneNumber": "1\udc00"}"#, 400, "phoneNumber: expected no half"),
        (json, br#"{"email": "canary\u0000@x"}"#, 400, "email: expected no control characters"),
        (json, br#"{"phoneNumber": "1\n"}"#, 400, "phoneNumber: expected no control characters"),
        (json, br#"{"email": "canary"}"#, 400, "email: expected a local part"),
        (json, email_255.as_bytes(), 400, "email: expected at most 254 characters"),
        (json, br#"{"phoneNumber": "canary 1"}"#, 400, "phoneNumber: expected digits"),
        (json, br#"{"phoneNumber": "+-"}"#, 400, "phoneNumber: expected digits"),
        (json, br#"{"email": "a@x", "phoneNumber": "canary"}"#, 400, "phoneNumber: expected digits"),
        (json, deep_array.as_bytes(), 400, "not a JSON object"),
        (json, deep_object.as_bytes(), 400, "not JSON"),
        (json, too_long.as_bytes(), 413, "at most 16 KiB"),
        (json, much_too_long.as_bytes(), 413, "at most 16 KiB"),
        ("", br#"{"email": "canary@x"}"#, 415, "content-type: application/json"),
        ("content-type: canary\r\n", b"{}", 415, "content-type: application/json"),
        ("content-type: text/json\r\n", b"{}", 415, "content-type: application/json"),
        ("content-type: application/jsonl\r\n", b"{}", 415, "content-type: application/json"),
        ("content-type: application/x-www-form-urlencoded\r\n", b"a=canary", 415, "content-type"),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", b"\x1f\x8b", 415, "content-encoding"),
    ];
    for (content_type, body, status, says) in table {
        let received = identify(content_type, body).await;
        let sent = String::from_utf8_lossy(&body[..body.len().min(100)]);
        assert_eq!(received.status, *status, "{sent}: {}", received.body);
        let detail = received.problem()["detail"].to_string();
        assert!(detail.contains(says), "{sent}: {detail}");
        assert!(!received.body.contains(CANARY), "{sent}: {detail}");
    }
}

#[tokio::test]
async fn a_field_that_is_refused_is_named_beside_what_is_expected() {
    let json = "content-type: application/json\r\n";
    let problem = identify(json, br#"{"email": "canary"}"#).await.problem();
    assert_eq!(problem["field"], "email");
    assert!(problem["expected"].as_str().unwrap().contains("such as name@example.com"));
}

#[tokio::test]
async fn every_content_type_that_means_json_is_let_in() {
    let body = br#"{"email": "a@x"}"#;
    for good in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json ;charset=\"utf-8\"; x=y",
        "application/vnd.api+json",
        "application/problem+json;charset=iso-8859-1",
        "application/json\r\ncontent-encoding: identity",
    ] {
        let received = identify(&format!("content-type: {good}\r\n"), body).await;
        assert_eq!(received.status, 503, "{good}: {}", received.body);
    }
}

#[tokio::test]
async fn an_observation_that_is_not_recorded_says_whether_it_may_be_all_the_same() {
    let json = "content-type: application/json\r\n";
    let received = identify(json, br#"{"email": "canary@x"}"#).await;
    assert_eq!(received.status, 503);
    assert_eq!(received.header("retry-after"), Some("1"));
    assert_eq!(received.problem()["recorded"], "no");

    let told = |not_recorded: NotRecorded| {
        let problem = serde_json::to_value(problem::Problem::from(not_recorded)).unwrap();
        (problem["status"].as_u64().unwrap(), problem["recorded"].as_str().unwrap().to_owned())
    };
    assert_eq!(told(NotRecorded::QueueFull), (503, "no".into()));
    assert_eq!(told(NotRecorded::Unreachable), (503, "no".into()));
    assert_eq!(told(NotRecorded::OtherRules), (503, "no".into()));
    assert_eq!(told(NotRecorded::TimedOut), (503, "no".into()));
    assert_eq!(told(NotRecorded::DiskFull), (503, "no".into()));
    assert_eq!(told(NotRecorded::OtherVersion), (503, "no".into()));
    assert_eq!(told(NotRecorded::WentBack), (503, "no".into()));
    assert_eq!(told(NotRecorded::KeyReused), (422, "no".into()));
    assert_eq!(told(NotRecorded::OutcomeUnknown), (503, "unknown".into()));
    assert_eq!(told(NotRecorded::Refused), (500, "no".into()));
}

#[tokio::test]
async fn a_head_that_may_be_read_in_two_ways_is_refused_whatever_it_asks() {
    for (headers, status, says) in [
        ("", 400, "host once"),
        ("host: x\r\nhost: x\r\n", 400, "host once"),
        ("host: x\r\ntransfer-encoding: gzip, chunked\r\n", 501, "no transfer-encoding but"),
        ("host: x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n", 501, "chunked"),
    ] {
        for line in ["POST /identify", "GET /health/live", "GET /nowhere"] {
            let head = format!("{line} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
            let body = if status == 501 { "0\r\n\r\n" } else { "" };
            let received = exchange((head + body).as_bytes()).await;
            assert_eq!(received.status, status, "{line} {headers}");
            let detail = received.problem()["detail"].to_string();
            assert!(detail.contains(says), "{line} {headers}: {detail}");
        }
    }
    for good in ["1.1\r\nhost: \r\ntransfer-encoding: Chunked", "1.0\r\nhost: x", "1.0"] {
        let body = if good.contains("Chunked") { "0\r\n\r\n" } else { "" };
        let head = format!("GET /health/live HTTP/{good}\r\nconnection: close\r\n\r\n{body}");
        assert_eq!(exchange(head.as_bytes()).await.status, 200, "{good}");
    }
}

/// The page of evil.example, after its name was made to lead here.
#[tokio::test]
async fn where_the_address_alone_keeps_strangers_out_no_other_name_is_answered() {
    let app = App { local_names_only: true, ..app(Recorder::without_task()) };
    let address = start(answering(app)).await;
    let ask = async |line: &str, hosts: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{line}\r\n{hosts}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    };
    for (line, host) in [
        ("POST /identify HTTP/1.1", "host: evil.example:10000\r\n"),
        ("GET /health/live HTTP/1.1", "host: Evil.Example\r\n"),
        ("GET /nowhere HTTP/1.1", "host: localhost.evil.example\r\n"),
        ("GET /health/live HTTP/1.1", "host: \r\n"),
        ("GET /health/live HTTP/1.0", "host: evil.example\r\n"),
        ("GET /health/live HTTP/1.0", "host: localhost\r\nhost: evil.example\r\n"),
        ("GET http://evil.example/health/live HTTP/1.1", "host: localhost\r\n"),
        ("GET http://localhost/health/live HTTP/1.1", "host: evil.example\r\n"),
    ] {
        let received = ask(line, host).await;
        assert_eq!(received.status, 421, "{line} {host}");
        let problem = received.problem();
        assert_eq!(problem["title"], "Misdirected Request");
        assert!(problem["detail"].as_str().unwrap().contains("127.0.0.1 or localhost"));
        assert!(!received.body.contains("evil"), "it repeats nothing that was sent");
    }
    for (line, host) in [
        ("GET /health/live HTTP/1.1", "host: 127.0.0.1:10000\r\n"),
        ("GET /health/live HTTP/1.1", "host: [::1]\r\n"),
        ("GET /health/live HTTP/1.1", "host: LOCALHOST.:10000\r\n"),
        ("GET /health/live HTTP/1.0", ""),
        ("GET http://[::1]:10000/health/live HTTP/1.1", "host: [::1]:10000\r\n"),
        ("GET http://user@shop.localhost:1/health/live HTTP/1.1", "host: shop.localhost:1\r\n"),
    ] {
        assert_eq!(ask(line, host).await.status, 200, "{line} {host}");
    }
}

/// A body without a length would end with the connection, be it whole or broken off.
#[tokio::test(start_paused = true)]
async fn lines_are_sent_by_a_version_that_tells_their_end_from_a_break() {
    let ask = async |version: &str, accept: &str| {
        let head = format!(
            "GET /events HTTP/{version}\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n\r\n"
        );
        exchange(head.as_bytes()).await
    };
    let refused = ask("1.0", "application/x-ndjson").await;
    assert_eq!(refused.status, 505);
    let problem = refused.problem();
    assert!(problem["detail"].as_str().unwrap().contains("HTTP/1.1"), "{problem}");
    for (version, accept) in [
        ("1.1", "application/x-ndjson"),
        ("1.0", "application/json"),
        // It has no end to be told from.
        ("1.0", "text/event-stream"),
    ] {
        assert_eq!(
            ask(version, accept).await.status,
            503,
            "{version} {accept}: there is no Postgres"
        );
    }
}

/// Hyper answers by itself then.
#[tokio::test]
async fn a_head_that_cannot_be_read_gets_a_status_alone() {
    for head in [
        "canary\r\n",
        "GET / HTTP/1.1\r\nhost\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n",
    ] {
        let received = exchange(format!("{head}\r\n").as_bytes()).await;
        assert_eq!((received.status, &*received.body), (400, ""), "{head}");
        assert_eq!(received.header("connection"), Some("close"), "{head}");
    }
}

/// The client sees the answer though it is still sending.
#[tokio::test]
async fn a_head_that_is_too_long_is_refused_after_16_kib() {
    let head = |len| format!("GET /health/live HTTP/1.1\r\nhost: x\r\nx: {}\r\n", "x".repeat(len));
    let fits = head(15 * 1024) + "connection: close\r\n\r\n";
    assert_eq!(exchange(fits.as_bytes()).await.status, 200);
    let received = exchange((head(1 << 20) + "\r\n").as_bytes()).await;
    assert_eq!((received.status, &*received.body), (431, ""));
}

#[tokio::test]
async fn problems_have_the_titles_of_their_statuses() {
    let titles = |status: u16| {
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        serde_json::to_value(problem::Problem::new(status, "")).unwrap()["title"].clone()
    };
    assert_eq!(
        [400, 413, 422].map(titles),
        ["Bad Request", "Content Too Large", "Unprocessable Content"]
    );
}

#[tokio::test]
async fn paths_and_queries_that_cannot_be_read_get_a_problem() {
    for (path, status, says) in [
        ("/", 404, "/docs"),
        ("/canary", 404, "/docs"),
        ("/identify/", 404, "/docs"),
        ("/docs/canary", 404, "/docs"),
        ("/docs/%ff", 404, "/docs"),
        ("/contacts/1", 503, "out of reach"),
        ("/events?after=3", 503, "out of reach"),
        ("/events?after=3&canary=canary", 400, "none but these: after, limit, kind, contact."),
        ("/contacts/1?asOf=17", 400, "none but these: as_of."),
        ("/contacts/1/history?as_of=17", 400, "none but these: after, limit."),
        ("/contacts/1/why?with=2&asof=17", 400, "none but these: with, as_of."),
        ("/contacts/1/why?with=2&with=3", 400, "each parameter once"),
        ("/contacts/1/personal-data?as_of=17", 400, "no parameters"),
        ("/access?from=1", 400, "none but these: after, limit."),
        ("/ledger?as_of=17", 400, "no parameters"),
        ("/contacts/0", 400, "id: expected a whole number from 1"),
        ("/contacts/-1", 400, "id: expected a whole number from 1"),
        ("/contacts/canary", 400, "id: expected a whole number from 1"),
        ("/contacts/%ff", 400, "id: expected a whole number from 1"),
        ("/contacts/9223372036854775808", 400, "id: expected a whole number from 1"),
        ("/events?limit=0", 400, "limit: expected a whole number from 1 to 1000"),
        ("/events?limit=1001", 400, "limit: expected a whole number from 1 to 1000"),
        ("/events?limit=", 400, "limit: expected a whole number from 1 to 1000"),
        ("/events?after=-1", 400, "after: expected a whole number from 0"),
        ("/events?after=canary", 400, "after: expected a whole number from 0"),
        ("/ledger", 503, "out of reach"),
        ("/ledger/checkpoint", 503, "out of reach"),
        ("/ledger/key", 404, "--signing-key"),
        ("/ledger/checkpoint?canary=1", 503, "out of reach"),
        ("/ledger/key?canary=1", 404, "--signing-key"),
        ("/ledger/proof/inclusion?position=canary", 503, "out of reach"),
        ("/ledger/proof/inclusion?size=1&size=2", 400, "each parameter once"),
        ("/ledger/proof/consistency?from=1&from=2", 400, "each parameter once"),
        ("/ledger/proof/inclusion?canary=1", 400, "none but these: position, size."),
        ("/ledger/proof/consistency?canary=1", 400, "none but these: from, to."),
        ("/events?after=1&after=2", 400, "each parameter once"),
        ("/events?kind=canary", 400, "kind: expected one of RulesActivated, ContactObserved"),
        ("/events?contact=0", 400, "contact: expected a whole number from 1"),
    ] {
        let received = get(path).await;
        assert_eq!(received.status, status, "{path}");
        assert!(received.problem()["detail"].as_str().unwrap().contains(says), "{path}");
        assert!(!received.body.contains(CANARY), "{path}");
    }
}

#[tokio::test]
async fn a_stream_has_no_limit() {
    for accept in ["application/x-ndjson", "text/event-stream"] {
        let head = format!(
            "GET /events?limit=5 HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n\r\n"
        );
        let received = exchange(head.as_bytes()).await;
        assert_eq!(received.status, 400, "{accept}");
        let problem = received.problem();
        assert_eq!(problem["field"], "limit");
        assert!(problem["expected"].as_str().unwrap().contains("pages"));
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let received = get("/identify").await;
    assert_eq!((received.status, received.header("allow")), (405, Some("post")));
    assert!(received.problem()["detail"].as_str().unwrap().contains("allow"));
    let received = ask("DELETE", "/events").await;
    assert_eq!((received.status, received.header("allow")), (405, Some("get,head")));
    let received = ask("OPTIONS", "/events").await;
    assert_eq!((received.status, received.header("allow")), (204, Some("get,head")));
    let whole_server = ask("OPTIONS", "*").await;
    assert_eq!((whole_server.status, &*whole_server.body), (204, ""));
    assert_eq!(ask("OPTIONS", "/canary").await.status, 404);
}

#[tokio::test]
async fn a_head_request_gets_the_head_alone() {
    for (path, status) in [("/health/live", 200), ("/identify", 405), ("/x", 404)] {
        let received = ask("HEAD", path).await;
        assert_eq!((received.status, &*received.body), (status, ""), "{path}");
    }
}

#[tokio::test]
async fn metrics_count_by_route_and_keep_no_path_or_method_of_a_caller() {
    let address = start(without_postgres()).await;
    let mut last = String::new();
    for line in ["GET /contacts/77", "GET /canary", "CANARY /events", "GET /metrics"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let received = read_to_end(&mut stream).await;
        last = format!("{}\n{}", received.head, received.body);
    }
    for line in [
        "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8",
        r#"identity_ledger_http_requests_total{route="/contacts/{id}",method="GET",status="503"} 1"#,
        r#"identity_ledger_http_requests_total{route="none",method="GET",status="404"} 1"#,
        r#"identity_ledger_http_requests_total{route="/events",method="other",status="405"} 1"#,
        r#"identity_ledger_http_request_duration_seconds_bucket{le="30.0",route="/events"} 1"#,
        r#"identity_ledger_batch_requests_bucket{le="1024.0"} 0"#,
        "identity_ledger_queue_requests 0",
        "identity_ledger_position 0",
        "identity_ledger_largest_identity_contacts 0",
        "# EOF",
    ] {
        assert!(last.contains(line), "{line} is not in\n{last}");
    }
    assert!(!last.to_lowercase().contains(CANARY) && !last.contains("/77"), "{last}");
}

#[tokio::test]
async fn metrics_show_what_waits_while_the_recorder_takes_nothing() {
    let (recorder, _queue) = Recorder::stalled();
    let address = start(recording_by(recorder)).await;
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let head = "POST /identify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let request = format!("{head}content-length: 16\r\n\r\n{{\"email\": \"a@x\"}}");
    waiting.write_all(request.as_bytes()).await.unwrap();
    let scrape = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(scrape).await.unwrap();
        if read_to_end(&mut stream).await.body.contains("identity_ledger_queue_requests 1\n") {
            return;
        }
    }
    panic!("what waits is not shown");
}

#[tokio::test]
async fn the_docs_page_loads_nothing_from_elsewhere() {
    assert_eq!(get("/docs").await.header("location"), Some("/docs/"));
    let page = get("/docs/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self';"));
    assert!(!page.body.contains("://"), "{}", page.body);
    assert!(page.body.contains("<title>identity-ledger API</title>"), "{}", page.body);
    let script = get("/docs/swagger-initializer.js").await.body;
    assert!(script.contains(r#""url": "/openapi.json""#), "{script}");
    assert!(script.contains(r#""validatorUrl": "none""#), "{script}");
    assert!(script.contains(r#""layout": "BaseLayout""#), "{script}");
}

/// Clients are generated from this document, so each change to it is seen in a diff.
#[tokio::test]
async fn the_served_openapi_document_is_the_one_in_the_snapshot() {
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi.snapshot.json");
    let served = get("/openapi.json").await.body + "\n";
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        std::fs::write(snapshot, &served).unwrap();
    }
    let refresh = "UPDATE_SNAPSHOT=1 cargo test --lib openapi";
    assert!(std::fs::read_to_string(snapshot).unwrap() == served, "run `{refresh}`, see the diff");
}

async fn document() -> serde_json::Value {
    serde_json::from_str(&get("/openapi.json").await.body).unwrap()
}

fn operations(document: &serde_json::Value) -> impl Iterator<Item = (&String, &serde_json::Value)> {
    let items = document["paths"].as_object().unwrap().iter();
    items.flat_map(|(path, item)| item.as_object().unwrap().values().map(move |it| (path, it)))
}

/// The page at /docs would send the example along, and a generated client could send "null" as a header.
#[tokio::test]
async fn a_parameter_that_may_be_left_out_has_no_example_and_is_never_null() {
    for (path, operation) in operations(&document().await) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = format!("{path}: {}", parameter["name"]);
            assert!(parameter["schema"]["type"].is_string(), "{name}");
            assert!(parameter["required"] == true || parameter["example"].is_null(), "{name}");
        }
    }
}

#[tokio::test]
async fn the_document_says_of_each_route_which_role_a_token_lacks() {
    for (path, operation) in operations(&document().await) {
        let requirements = operation["security"].as_array().unwrap().iter();
        let roles: Vec<_> = requirements.filter_map(|it| it["token"][0].as_str()).collect();
        let refused = &operation["responses"]["403"]["content"]["application/problem+json"];
        let refused = &refused["examples"]["1"]["value"]["detail"];
        match roles.len() {
            // No token is needed, or any will do.
            0 | 3 => assert!(refused.is_null(), "{path}: {refused}"),
            _ => assert_eq!(
                *refused,
                format!("Send a token with the role {}.", roles.join(" or ")),
                "{path}"
            ),
        }
    }
}

#[tokio::test]
async fn the_examples_of_the_document_fit_each_other() {
    let document = document().await;
    let example = |path: &str, content_type: &str| {
        let answer = &document["paths"][path]["get"]["responses"]["200"];
        answer["content"][content_type]["example"].clone()
    };
    let text = |path: &str| example(path, "text/plain").as_str().unwrap().to_owned();
    let keys = VerifierKeys::parse(&text("/ledger/key")).unwrap();
    let checkpoint = Checkpoint::read(&text("/ledger/checkpoint"), &keys).unwrap();
    let ledger = example("/ledger", "application/json");
    assert_eq!(ledger["checkpoint"]["size"], checkpoint.head.size);

    let default = Rules::parse(DEFAULT_RULES).unwrap();
    assert_eq!(ledger["rules"]["digest"], default.digest().as_str());
    let history = example("/contacts/{id}/history", "application/json");
    assert_eq!(history["events"][0]["rules"], ledger["rules"]);
    let why = example("/contacts/{id}/why", "application/json");
    assert_eq!(why["rules"], ledger["rules"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_waited_for_10_seconds() {
    let mut stream = TcpStream::connect(start(without_postgres()).await).await.unwrap();
    let head = "POST /identify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    stream.write_all(format!("{head}content-length: 90\r\n\r\n{{").as_bytes()).await.unwrap();
    let started = Instant::now();
    let received = read_to_end(&mut stream).await;
    assert_eq!((received.status, started.elapsed().as_secs()), (408, 10));
    assert_eq!(received.header("connection"), Some("close"));
    assert!(received.problem()["detail"].as_str().unwrap().contains("within 10 seconds"));
}

/// Requests that are answered before anybody has read their body: what the head says but for its length.
const ANSWERED_BY_THE_HEAD: [(&str, &str, u16); 5] = [
    ("POST /nowhere", "", 404),
    ("PUT /identify", "", 405),
    ("POST /identify", "", 415),
    ("POST /identify", "content-type: application/json\r\nidempotency-key: \r\n", 400),
    ("POST /contacts/canary/erase", "content-type: application/json\r\n", 400),
];

#[tokio::test(start_paused = true)]
async fn a_connection_is_good_after_a_body_that_nobody_wanted() {
    let address = start(without_postgres()).await;
    for (request, headers, status) in ANSWERED_BY_THE_HEAD {
        let chunked = ("transfer-encoding: chunked", "2\r\n{}\r\n0\r\n\r\n");
        for (length, body) in [("content-length: 2", "{}"), chunked] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("{request} HTTP/1.1\r\nhost: x\r\n{headers}{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            sleep(Duration::from_millis(500)).await;
            stream.write_all(body.as_bytes()).await.unwrap();
            let received = read_answer(&mut stream).await;
            assert_eq!((received.status, received.header("connection")), (status, None));
            stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert_eq!(read_answer(&mut stream).await.status, 200, "{request}");
        }
    }
}

#[tokio::test]
async fn whoever_sends_much_that_nobody_wants_sees_the_answer_and_that_it_is_the_last() {
    let address = start(without_postgres()).await;
    let body = "[".repeat(5_000_000);
    for (request, headers, status) in ANSWERED_BY_THE_HEAD {
        let sized = format!("content-length: {}\r\n\r\n{body}", body.len());
        let chunked = format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}", body.len());
        let chunked = chunked + "\r\n0\r\n\r\n";
        let upgrading = format!("connection: upgrade\r\nupgrade: canary\r\n{sized}");
        for rest in [sized, chunked, upgrading] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("{request} HTTP/1.1\r\nhost: x\r\n{headers}");
            stream.write_all((head + &rest).as_bytes()).await.unwrap();
            let received = read_to_end(&mut stream).await;
            assert_eq!((received.status, received.header("connection")), (status, Some("close")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_wants_is_waited_for_a_second_and_its_end_10_more() {
    let address = start_for(1, without_postgres()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    let started = Instant::now();
    let received = read_to_end(&mut stream).await;
    assert_eq!((received.status, received.header("connection")), (404, Some("close")));
    assert_eq!(started.elapsed().as_secs(), 1);
    let mut next = TcpStream::connect(address).await.unwrap();
    next.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut next).await.status, 200);
    assert_eq!(started.elapsed().as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_be_told_to_send_a_body_is_not_told_to_send_what_nobody_wants() {
    let mut stream = TcpStream::connect(start(without_postgres()).await).await.unwrap();
    let head = "POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let started = Instant::now();
    let received = read_to_end(&mut stream).await;
    assert_eq!((received.status, received.header("connection")), (404, Some("close")));
    assert_eq!(started.elapsed().as_secs(), 0);
}

#[tokio::test]
async fn whoever_sends_a_body_that_is_none_is_told_that_the_connection_closes() {
    let head = "POST /identify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let broken = format!("{head}transfer-encoding: chunked\r\n\r\ncanary\r\n");
    let received = exchange(broken.as_bytes()).await;
    assert_eq!((received.status, received.header("connection")), (400, Some("close")));
    assert_eq!(received.problem()["detail"], "The body broke off. Send it whole.");
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_waited_for_10_seconds() {
    let address = start(without_postgres()).await;
    for sent in ["", "GET /health/live HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let started = Instant::now();
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 0);
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_waited_for_no_longer() {
    let mut stream = TcpStream::connect(start(without_postgres()).await).await.unwrap();
    let started = Instant::now();
    for _ in 0..4 {
        stream.write_all(b"GET").await.unwrap();
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(stream.read(&mut [0; 100]).await.unwrap_or(0), 0);
    assert_eq!(started.elapsed().as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_75_seconds_between_requests() {
    let live = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = TcpStream::connect(start(without_postgres()).await).await.unwrap();
    for _ in 0..3 {
        stream.write_all(live).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 200);
        sleep(Duration::from_secs(60)).await;
    }
    stream.write_all(&live[..20]).await.unwrap();
    let started = Instant::now();
    assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 0);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_too_long_is_closed() {
    let mut stream = TcpStream::connect(start(without_postgres()).await).await.unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut stream).await.status, 200);
    let started = Instant::now();
    assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 0);
    assert_eq!(started.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn whoever_connects_when_there_is_no_more_room_waits_for_one_who_leaves() {
    let live = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let address = start_for(2, without_postgres()).await;
    let started = Instant::now();
    let mut answered_after = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(live).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 200);
        answered_after.push(started.elapsed().as_secs());
        streams.push(stream);
    }
    assert_eq!(answered_after, [0, 0, 75]);
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_are_answered_before_the_service_stops() {
    let router = Router::new().route("/", axum::routing::get(answer_after_30_s));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let service =
        tokio::spawn(serve(listener, MANY, None, routed(router), async { stopped.await.unwrap() }));

    let mut resting = TcpStream::connect(address).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    stop.send(()).unwrap();
    assert_eq!(resting.read(&mut [0; 100]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(read_to_end(&mut stream).await.body, "late");
    service.await.unwrap();
}

async fn answer_after_30_s() -> &'static str {
    sleep(Duration::from_secs(30)).await;
    "late"
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_does_not_keep_the_service_from_stopping() {
    let router = Router::new().route("/", axum::routing::get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let started = Instant::now();
    serve(listener, MANY, None, routed(router), sleep(Duration::from_secs(1))).await;
    assert_eq!(started.elapsed().as_secs(), 51);
}

/// A byte every 100 seconds, for ever.
async fn tick() -> axum::body::Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<&str, std::io::Error>>(1);
    tokio::spawn(async move {
        while sender.send(Ok("!")).await.is_ok() {
            sleep(Duration::from_secs(100)).await;
        }
    });
    axum::body::Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

#[tokio::test(start_paused = true)]
async fn a_stream_lives_for_as_long_as_its_client_takes_it() {
    let router = Router::new().route("/", axum::routing::get(tick));
    let mut stream = TcpStream::connect(start(routed(router)).await).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let mut bytes = Vec::new();
    while bytes.iter().filter(|byte| **byte == b'!').count() < 10 {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    assert_eq!(started.elapsed().as_secs(), 900);
}

/// A stream that ends.
async fn short() -> axum::body::Body {
    let chunks = ["!"; 3].map(Ok::<_, std::io::Error>);
    axum::body::Body::from_stream(futures_util::stream::iter(chunks))
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_after_a_stream_as_after_any_answer() {
    let router = Router::new().route("/", axum::routing::get(short));
    let mut stream = TcpStream::connect(start(routed(router)).await).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.ends_with(b"0\r\n\r\n"), "it is whole");
    assert_eq!(started.elapsed().as_secs(), 75);
}

#[tokio::test]
async fn whoever_sends_much_that_nobody_wants_sees_a_stream_to_its_end() {
    let router = Router::new().route("/", axum::routing::get(short));
    let mut stream = TcpStream::connect(start(routed(router)).await).await.unwrap();
    let body = "[".repeat(5_000_000);
    let expecting = "host: x\r\nexpect: 100-continue";
    let head = format!("GET / HTTP/1.1\r\n{expecting}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    let received = read_to_end(&mut stream).await;
    assert_eq!((received.status, received.header("connection")), (200, Some("close")));
    assert!(received.body.ends_with("0\r\n\r\n"), "it is whole");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_nothing_is_broken_off_after_75_seconds() {
    let endless = async || {
        let megabyte = || Ok::<_, std::io::Error>(vec![b'!'; 1 << 20]);
        axum::body::Body::from_stream(futures_util::stream::repeat_with(megabyte))
    };
    let router = Router::new().route("/", axum::routing::get(endless));
    let mut stream = TcpStream::connect(start(routed(router)).await).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(76)).await;
    let mut bytes = Vec::new();
    // Some of it was on its way, and what was not is told by a reset.
    let len_max = 64 << 20;
    let _ = (&mut stream).take(len_max).read_to_end(&mut bytes).await;
    assert!((bytes.len() as u64) < len_max, "it goes on");
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "the client can tell that it is not whole");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_broken_off_when_the_service_stops() {
    let router = Router::new().route("/", axum::routing::get(tick));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let started = Instant::now();
    serve(listener, MANY, None, routed(router), sleep(Duration::from_secs(80))).await;
    assert_eq!(started.elapsed().as_secs(), 80);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "the client can tell that it is not whole");
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_and_counted_all_the_same() {
    let metrics = Arc::<Metrics>::default();
    let router = Router::new()
        .route("/panic", axum::routing::get(async || -> () { panic!("as the test wants it") }))
        .layer(from_fn_with_state(Measure(metrics.clone()), around::<Measure>));
    let mut stream = TcpStream::connect(start(routed(router)).await).await.unwrap();
    stream.write_all(b"GET /panic HTTP/1.0\r\n\r\n").await.unwrap();
    let received = read_to_end(&mut stream).await;
    assert_eq!(received.status, 500);
    assert!(received.problem()["detail"].as_str().unwrap().contains("identity-ledger verify"));
    let counted = r#"http_requests_total{route="/panic",method="GET",status="500"} 1"#;
    assert!(metrics.text(0).contains(counted), "{}", metrics.text(0));
}
