//! `POST /lookup`: the answers of `/identify` with nothing recorded.

use crate::support::{Seen, Service, TestLedger, random_observations};
use identity_ledger::identity::RulesDigest;
use serde_json::Value;
use sqlx::query;

async fn told(service: &Service, seen: &Seen) -> (u16, Value) {
    let response = service.lookup(seen).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_lookup_is_answered_like_an_identify_and_records_nothing() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = random_observations(31, 200, 60);
    service.observe(&all).await;
    let position = service.get("/contacts/1").await.headers()["ledger-position"].clone();
    let mut looked_up = Vec::new();
    for seen in &all {
        let response = service.lookup(seen).await;
        assert_eq!(response.headers()["ledger-position"], position);
        looked_up.push(response.text().await.unwrap());
    }
    // All of it was observed before: observing it again changes no answer.
    for (seen, looked_up) in all.iter().zip(looked_up) {
        let identified = service.try_identify(seen).await.unwrap().text().await.unwrap();
        assert_eq!(looked_up, identified);
    }
}

#[tokio::test]
async fn what_is_unknown_is_404_and_no_part_of_an_answer() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("Ann@x.org", "1")).await;
    let (status, problem) = told(&service, &Seen::new("who@x.org", "9")).await;
    assert_eq!((status, &problem["title"]), (404, &"Not Found".into()));
    let (status, answer) = told(&service, &Seen::new("ann@X.org", "9")).await;
    assert_eq!(status, 200);
    let expected = r#"{"contact":{"emails":["Ann@x.org"],"phoneNumbers":["1"],"primaryContactId":1,"secondaryContactIds":[]}}"#;
    assert_eq!(answer.to_string(), expected);
}

/// They stay two: only an observation makes them one.
#[tokio::test]
async fn identifiers_of_two_customers_are_answered_as_identify_would() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.observe([("a@x", "1"), ("b@x", "2"), ("c@x", "2")]).await;
    let bridge = Seen::new("c@x", "1");
    let (_, looked_up) = told(&service, &bridge).await;
    assert_eq!(service.contact(2).await.primary_contact_id, 2);
    let identified: Value = service.try_identify(&bridge).await.unwrap().json().await.unwrap();
    assert_eq!(looked_up, identified);
    assert_eq!(looked_up["contact"]["secondaryContactIds"], serde_json::json!([2, 3]));
}

/// Keys made by rules that are not those in force would find nothing, or the wrong customer.
#[tokio::test]
async fn a_lookup_by_rules_that_cannot_be_read_is_refused() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    service.identify(&Seen::new("a@x", "1")).await;
    let mut owner = ledger.owner().await;
    let unreadable = RulesDigest::recorded("none".to_owned());
    query("update head set rules_digest = $1")
        .bind(unreadable.as_str())
        .execute(&mut owner)
        .await
        .unwrap();
    let (status, problem) = told(&service, &Seen::new("a@x", "")).await;
    assert_eq!(status, 500);
    assert!(problem["detail"].as_str().unwrap().contains("newer version"), "{problem}");
}

#[tokio::test]
async fn rules_whose_keys_another_version_makes_are_not_tampering() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let seen = Seen::new("a@x", "1");
    service.identify(&seen).await;
    ledger.put_foreign_rules_in_force().await;
    let (status, problem) = told(&service, &seen).await;
    assert_eq!(status, 503, "{problem}");
    let identified: Value = service.try_identify(&seen).await.unwrap().json().await.unwrap();
    assert_eq!(problem["detail"], identified["detail"]);
}
