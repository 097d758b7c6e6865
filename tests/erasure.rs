//! Forgetting a person: what is gone, what is left, and that everybody else is as before.

use crate::support::{Seen, Service, TestLedger};
use identity_ledger::audit;
use serde_json::json;

const EMAIL: &str = "canary@x.org";
const OTHER_EMAIL: &str = "kanarie@x.org";
const NUMBER: &str = "030987654321";

/// One customer of three observations, two of them contacts, between others.
async fn with_canary() -> (TestLedger, Service) {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = [("a@x.org", "1"), (EMAIL, NUMBER), ("b@x.org", "2"), (OTHER_EMAIL, NUMBER)];
    for (email, number) in all.into_iter().chain([(EMAIL, ""), ("a@x.org", "3")]) {
        service.identify(&Seen::new(email, number)).await;
    }
    (ledger, service)
}

#[tokio::test]
async fn every_number_of_a_forgotten_customer_is_gone_and_nobody_else_is() {
    let (ledger, service) = with_canary().await;
    let others = [service.contact(1).await, service.contact(3).await];
    let before = service.get_json("/ledger").await["position"].as_i64().unwrap();
    let response = service.erase(5).await;
    assert_eq!(response.status(), 200);
    let erased: serde_json::Value = response.json().await.unwrap();
    let position = before + 1;
    let expected =
        json!({"primaryContactId": 2, "contacts": 2, "observations": 3, "position": position});
    assert_eq!(erased, expected);
    for id in [2, 4, 5] {
        let below = ["", "?as_of=4", "/history", "/why?with=1", "/personal-data"];
        for path in below {
            let response = service.get(&format!("/contacts/{id}{path}")).await;
            assert_eq!(response.status(), 410, "{id}{path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
        assert_eq!(service.get(&format!("/contacts/1/why?with={id}")).await.status(), 410);
        assert_eq!(service.erase(id).await.status(), 410);
    }
    assert_eq!([service.contact(1).await, service.contact(3).await], others);
    assert_eq!(service.erase(7).await.status(), 404);
    let page = service.get_json(&format!("/events?after={before}")).await;
    let event = &page["events"][0]["event"];
    assert_eq!(event["kind"], "ContactErased");
    let data = json!({"contactId": 2, "observationIds": [2, 4, 5], "reason": "customer-request"});
    assert_eq!(event["data"], data);
    audit::verify(&ledger.database).await.unwrap();
}

#[tokio::test]
async fn the_same_email_seen_later_is_a_new_customer() {
    let (ledger, service) = with_canary().await;
    assert_eq!(service.erase(2).await.status(), 200);
    assert_eq!(service.lookup(&Seen::new(EMAIL, NUMBER)).await.status(), 404);
    let again = service.identify(&Seen::new(EMAIL, NUMBER)).await;
    assert_eq!((again.primary_contact_id, again.secondary_contact_ids.len()), (7, 0));
    assert_eq!(service.contact(7).await, again);
    assert_eq!(service.get("/contacts/2").await.status(), 410);
    assert_eq!(service.erase(7).await.status(), 200);
    assert_eq!(service.identify(&Seen::new(EMAIL, "")).await.primary_contact_id, 8);
    audit::verify(&ledger.database).await.unwrap();
}
