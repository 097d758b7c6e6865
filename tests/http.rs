//! What auditors and operators are answered.

use crate::support::{Service, TestLedger};
use serde_json::{Value, json};

async fn with_history() -> (TestLedger, Service) {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x.org", "1"), ("b@x.org", "2"), ("a@x.org", ""), ("a@x.org", "2")]).await;
    (ledger, service)
}

#[tokio::test]
async fn the_number_of_any_observation_leads_to_its_identity() {
    let (_ledger, service) = with_history().await;
    let whole = service.contact(1).await;
    assert_eq!(whole.secondary_contact_ids, [2]);
    for number in 2..=4 {
        assert_eq!(service.contact(number).await, whole);
    }
    let response = service.get("/contacts/1").await;
    assert_eq!(response.headers()["ledger-position"], "6");
    for number in ["5", "9223372036854775807"] {
        let response = service.get(&format!("/contacts/{number}")).await;
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn the_events_come_in_order_page_by_page_with_identifiers_beside_them() {
    let (_ledger, service) = with_history().await;
    let events = service.pages("/events?limit=2").await;
    let positions: Vec<_> = events.iter().map(|entry| entry["event"]["position"].clone()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
    assert_eq!(events[0]["event"]["kind"], "RulesActivated");
    assert_eq!(events[0]["observation"], Value::Null);
    assert_eq!(events[2]["observation"], json!({"id": 2, "email": "b@x.org", "phoneNumber": "2"}));
    assert_eq!(events[5]["event"]["kind"], "PrimaryDemoted");
    assert_eq!(events[5]["event"]["data"]["holderIds"], json!([1, 2]));
    assert_eq!(events[5]["observation"]["id"], 4);
    let whole = service.get_json("/events").await;
    assert_eq!(whole["events"].as_array().unwrap(), &events);
    let beyond = service.get_json("/events?after=6").await;
    assert_eq!(beyond, json!({"events": [], "next": null}));
}

#[tokio::test]
async fn metrics_say_how_the_recorder_does() {
    let (_ledger, service) = with_history().await;
    let metrics = service.get("/metrics").await.text().await.unwrap();
    for line in [
        "identity_ledger_position 6",
        "identity_ledger_largest_identity_contacts 2",
        "identity_ledger_queue_requests 0",
        "identity_ledger_batch_requests_sum 4.0",
        "identity_ledger_batch_requests_count 4",
        r#"identity_ledger_http_requests_total{route="/identify",method="POST",status="200"} 4"#,
        r#"identity_ledger_http_request_duration_seconds_count{route="/identify"} 4"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}
