//! The feed: every event once and in order, in each of its forms, while others write.

use crate::support::{Seen, Service, TestLedger, random_observations};
use futures_util::future::join_all;
use reqwest::Response;
use rustix::process::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What a listener of Server-Sent Events has received.
struct Listener {
    response: Response,
    text: String,
}

#[derive(Debug)]
struct Received {
    id: i64,
    kind: String,
    entry: Value,
}

impl Listener {
    async fn start(service: &Service, path: &str, last_event_id: Option<i64>) -> Self {
        let mut headers = vec![("accept", "text/event-stream".to_owned())];
        headers.extend(last_event_id.map(|id| ("last-event-id", id.to_string())));
        let response = service.get_with(path, &headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event; none when the stream has ended.
    async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let received = parse(block);
                self.text = rest.to_owned();
                if received.is_some() {
                    return received;
                }
                continue;
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The positions up to one that is going to come.
    async fn positions_to(&mut self, last: i64) -> Vec<i64> {
        let mut positions = Vec::new();
        while positions.last() != Some(&last) {
            positions.push(self.next().await.unwrap().id);
        }
        positions
    }
}

fn parse(block: &str) -> Option<Received> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let entry: Value = serde_json::from_str(field("data: ")?).unwrap();
    let received =
        Received { id: field("id: ")?.parse().unwrap(), kind: field("event: ")?.to_owned(), entry };
    assert_eq!(received.entry["event"]["position"], received.id);
    assert_eq!(received.entry["event"]["kind"], *received.kind);
    Some(received)
}

async fn lines(service: &Service, path: &str) -> Vec<Value> {
    let response = service.get_with(path, &[("accept", "application/x-ndjson".into())]).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn positions(entries: &[Value]) -> Vec<i64> {
    entries.iter().map(|entry| entry["event"]["position"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn no_position_is_skipped_or_repeated_while_two_nodes_write() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let all = random_observations(41, 1500, 400);
    // So that there is something to go on from.
    let (first, all) = all.split_at(100);
    nodes[0].observe(first).await;
    let mut listeners = [
        Listener::start(&nodes[0], "/events", None).await,
        Listener::start(&nodes[1], "/events?after=40", None).await,
        Listener::start(&nodes[1], "/events?after=7", Some(100)).await,
    ];
    let writers = all.chunks(50).enumerate().map(async |(writer, mine)| {
        for seen in mine {
            nodes[writer % 2].identify(seen).await;
        }
    });
    let readers = (0..20).map(async |_| {
        let before = nodes[0].position().await;
        let read = lines(&nodes[0], "/events").await;
        assert!(read.len() as i64 >= before, "up to the head at least");
        assert!(positions(&read).into_iter().eq(1..=read.len() as i64), "gap-free from the first");
    });
    let write_and_end = async {
        join_all(writers).await;
        nodes[0].identify(&Seen::new("last@x", "")).await;
        nodes[0].position().await
    };
    let (last, _) = tokio::join!(write_and_end, join_all(readers));
    for (listener, first) in listeners.iter_mut().zip([1, 41, 101]) {
        let heard = listener.positions_to(last).await;
        assert!(heard.into_iter().eq(first..=last), "each once and in order");
    }
    let whole = lines(&nodes[1], "/events").await;
    assert_eq!(whole, nodes[0].pages("/events?limit=97").await);
    assert!(positions(&whole).into_iter().eq(1..=last));
}

#[tokio::test]
async fn what_is_recorded_on_any_node_is_heard_on_any_other_at_once() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let mut listener = Listener::start(&nodes[0], "/events?after=1", None).await;
    for n in 0..5 {
        let recorded = Instant::now();
        nodes[1].identify(&Seen::new(&format!("a{n}@x"), "")).await;
        assert_eq!(listener.next().await.unwrap().entry["observation"]["id"], n + 1);
        // It is looked for five times a second, and not with the heartbeat every 15 seconds.
        assert!(recorded.elapsed() < Duration::from_secs(5), "{:?}", recorded.elapsed());
    }
}

#[tokio::test]
async fn every_form_can_be_filtered_by_kind_and_by_contact() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe(random_observations(42, 300, 60)).await;
    let mut whole = lines(&service, "/events").await;
    let is_kind = |kind: &'static str| move |entry: &&Value| entry["event"]["kind"] == *kind;
    let names = |contact: i64| {
        move |entry: &&Value| {
            let data = &entry["event"]["data"];
            let is_observation = entry["event"]["kind"] == "ContactObserved";
            data["contactId"] == contact
                || (!is_observation && data["primaryId"] == contact)
                || (is_observation && data["observationId"] == contact)
        }
    };
    let demotions: Vec<_> = whole.iter().filter(is_kind("PrimaryDemoted")).cloned().collect();
    let busy = demotions.last().unwrap()["event"]["data"]["primaryId"].as_i64().unwrap();
    let of_busy: Vec<_> = whole.iter().filter(names(busy)).cloned().collect();
    let linked_to_busy: Vec<_> = of_busy.iter().filter(is_kind("ContactLinked")).cloned().collect();
    let repeat = whole.iter().find(|entry| {
        let data = &entry["event"]["data"];
        data["observationId"].is_number() && data["observationId"] != data["contactId"]
    });
    let repeat = repeat.unwrap()["observation"]["id"].as_i64().unwrap();
    let of_repeat: Vec<_> = whole.iter().filter(names(repeat)).cloned().collect();
    assert!(demotions.len() > 5 && linked_to_busy.len() > 1 && of_repeat.len() == 1);
    let email = service.contact(busy).await.emails.swap_remove(0);
    for (query, kind, contact) in [
        ("kind=PrimaryDemoted".to_owned(), Some("PrimaryDemoted"), None),
        (format!("contact={busy}"), None, Some(busy)),
        (format!("contact={busy}&kind=ContactLinked"), Some("ContactLinked"), Some(busy)),
        (format!("contact={repeat}"), None, Some(repeat)),
        ("contact=999999".to_owned(), None, Some(999999)),
    ] {
        let is_wanted = |entry: &&Value| {
            kind.is_none_or(|kind| is_kind(kind)(entry))
                && contact.is_none_or(|contact| names(contact)(entry))
        };
        let expected: Vec<_> = whole.iter().filter(is_wanted).cloned().collect();
        assert_eq!(lines(&service, &format!("/events?{query}")).await, expected);
        assert_eq!(service.pages(&format!("/events?limit=3&{query}")).await, expected);
        let mut listener = Listener::start(&service, &format!("/events?{query}"), None).await;
        for entry in expected {
            assert_eq!(listener.next().await.unwrap().entry, entry);
        }
        // A secondary of the busy one, a primary, and that one's demotion below the busy one.
        let before = whole.len();
        let [one, other] = [1, 2].map(|n| format!("{before}{n}"));
        service.observe([(&*email, &*one), ("", &other), (&email, &other)]).await;
        whole = lines(&service, "/events").await;
        let wanted = whole[before..].iter().find(is_wanted);
        if kind.is_some() || contact == Some(busy) {
            assert_eq!(listener.next().await.unwrap().entry, *wanted.unwrap());
        } else {
            // Those numbers are no contacts'.
            assert_eq!(wanted, None);
            let silence = timeout(Duration::from_millis(300), listener.next()).await;
            assert!(silence.is_err(), "nothing more was wanted");
        }
    }
}

#[tokio::test]
async fn a_page_or_a_stream_begins_within_the_ledger() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let refused = async |path: &str, accept: &str, last_event_id: &str| {
        let headers = [("accept", accept.to_owned()), ("last-event-id", last_event_id.to_owned())];
        let response = service.get_with(path, &headers).await;
        assert_eq!(response.status(), 400, "{path}");
        let problem: Value = response.json().await.unwrap();
        problem["field"].as_str().unwrap().to_owned()
    };
    assert_eq!(refused("/events?after=2", "application/json", "").await, "after");
    assert_eq!(refused("/events?after=2", "application/x-ndjson", "").await, "after");
    assert_eq!(refused("/events?after=2", "text/event-stream", "").await, "after");
    assert_eq!(refused("/events?after=1", "text/event-stream", "2").await, "last-event-id");
    assert_eq!(lines(&service, "/events?after=1").await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_page_leads_to_the_next_however_its_numbers_were_written() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x", "1")).await;
    service.identify(&Seen::new("a@x", "2")).await;
    let whole = service.pages("/events?contact=1").await;
    assert_eq!(service.pages("/events?limit=%2B1&contact=%2B1").await, whole);
    assert!(whole.len() > 1);
}

#[tokio::test]
async fn a_page_says_how_far_it_has_looked_though_it_found_nothing() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x", "1")).await;
    service.identify(&Seen::new("a@x", "2")).await;
    for (query, position) in [("kind=ContactErased", "4"), ("limit=2", "2"), ("after=3", "4")] {
        let page = service.get(&format!("/events?{query}")).await;
        assert_eq!(page.headers()["ledger-position"], position, "{query}");
    }
}

#[tokio::test]
async fn a_stop_ends_live_streams_at_once() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe(random_observations(43, 100, 400)).await;
    let mut listener = Listener::start(&service, "/events", None).await;
    assert_eq!(listener.next().await.unwrap().id, 1);
    let stopped = Instant::now();
    service.signal(Signal::TERM);
    while listener.next().await.is_some() {}
    let ended_after = stopped.elapsed();
    assert!(service.wait().success());
    // Not with the heartbeat.
    assert!(ended_after < Duration::from_secs(5), "{ended_after:?}");
}

#[tokio::test]
async fn live_listeners_are_limited_in_number() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let mut listeners = Vec::new();
    for _ in 0..100 {
        listeners.push(Listener::start(&service, "/events", None).await);
    }
    let live = [("accept", "text/event-stream".to_owned())];
    let refused = service.get_with("/events", &live).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(service.get("/events").await.status(), 200, "pages are not streams");
    service.identify(&Seen::new("a@x", "")).await;
    for listener in &mut listeners {
        assert_eq!(listener.positions_to(2).await, [1, 2]);
    }
}
