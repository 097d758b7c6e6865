//! The contract of `POST /identify`, over HTTP.

use crate::support::{Contact, Model, Seen, Service, TestLedger, random_observations};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::query_scalar;

#[tokio::test]
async fn any_known_identifier_leads_to_the_whole_identity() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);

    let first = service.identify(&Seen::new("lorraine@hillvalley.edu", "123456")).await;
    assert_eq!(first, contact(1, &["lorraine@hillvalley.edu"], &["123456"], &[]));

    let both = ["lorraine@hillvalley.edu", "mcfly@hillvalley.edu"];
    let expected = contact(1, &both, &["123456"], &[2]);
    assert_eq!(service.identify(&Seen::new("mcfly@hillvalley.edu", "123456")).await, expected);
    for look_up in [
        Seen::new("", "123456"),
        Seen::new("lorraine@hillvalley.edu", ""),
        Seen::new("mcfly@hillvalley.edu", ""),
        Seen::new("mcfly@hillvalley.edu", "123456"),
    ] {
        assert_eq!(service.identify(&look_up).await, expected);
    }
    for number in 1..=6 {
        assert_eq!(service.contact(number).await, expected);
    }
}

#[tokio::test]
async fn an_answer_is_shaped_as_promised_and_says_its_position() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let body = r#"{"phoneNumber": 12345678901234567890, "email": null, "other": [1, {}]}"#;
    let response = service.post(body).await.unwrap();
    assert_eq!(response.status(), 200);
    // RulesActivated stands at 1.
    assert_eq!(response.headers()["ledger-position"], "2");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        response.text().await.unwrap(),
        r#"{"contact":{"primaryContactId":1,"emails":[],"phoneNumbers":["12345678901234567890"],"secondaryContactIds":[]}}"#
    );
    let linked = service.post(r#"{"phoneNumber": "12345678901234567890", "email": " A@x.org "}"#);
    let linked = linked.await.unwrap();
    assert_eq!(linked.headers()["ledger-position"], "4");
    let linked: Value = linked.json().await.unwrap();
    assert_eq!(linked["contact"]["emails"], json!(["A@x.org"]));
}

#[tokio::test]
async fn fifty_identical_requests_at_once_make_one_primary() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let seen = Seen::new("doc@hillvalley.edu", "88");
    let answers = join_all((0..50).map(|_| service.identify(&seen))).await;
    let expected = contact(answers[0].primary_contact_id, &["doc@hillvalley.edu"], &["88"], &[]);
    assert!(answers.iter().all(|answer| *answer == expected));
    assert_eq!(service.contact(50).await, expected);
    assert_eq!(service.get("/contacts/51").await.status(), 404);
}

#[tokio::test]
async fn a_chain_of_primaries_bridged_all_at_once_is_one_identity() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    for n in 1..=8 {
        service.identify(&Seen::new(&format!("link{n}@x.org"), &format!("{n}"))).await;
    }
    let bridges: Vec<_> =
        (1..8).map(|n| Seen::new(&format!("link{n}@x.org"), &format!("{}", n + 1))).collect();
    join_all(bridges.iter().map(|bridge| service.identify(bridge))).await;
    let whole = service.contact(8).await;
    assert_eq!(whole.primary_contact_id, 1);
    assert_eq!(whole.secondary_contact_ids, [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(whole.emails.len(), 8);
    assert_eq!(whole.phone_numbers, ["1", "2", "3", "4", "5", "6", "7", "8"]);
}

#[tokio::test]
async fn random_requests_at_once_give_the_connected_components() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let all = random_observations(1, 400, 90);
    service.identify_all(&all).await;
    let shown = service.contacts(400).await;
    Model::of(&all).check(shown);
    ledger.verify().await.unwrap();
}

fn contact(primary: i64, emails: &[&str], numbers: &[&str], secondaries: &[i64]) -> Contact {
    Contact {
        primary_contact_id: primary,
        emails: emails.iter().map(ToString::to_string).collect(),
        phone_numbers: numbers.iter().map(ToString::to_string).collect(),
        secondary_contact_ids: secondaries.to_vec(),
    }
}

/// Each answer names all contacts, and is kept until those of its batch are sent.
#[tokio::test]
async fn answers_of_a_large_identity_do_not_pile_up() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let len = 4_000;
    let seen = |n| Seen::new(&format!("user{n}@x.org"), "030 1");
    for first in (0..len).step_by(200) {
        let seen = (first..first + 200).map(seen);
        let answers = join_all(seen.map(async |seen| service.try_identify(&seen).await)).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
    }
    let more = join_all((len..len + 300).map(async |n| service.identify(&seen(n)).await)).await;
    let longest = more.iter().map(|contact| contact.emails.len()).max();
    assert_eq!(longest, Some(len + 300), "all are recorded, and the last one names all");
    // Each is a transaction. Two may have the same time, for the server's clock is known from the batch
    // before, not asked.
    let batch_len: i64 = query_scalar(
        "select max(len)
        from (
            select count(*) as len
            from event
            where kind = 'ContactObserved' and observation_id > 4000
            group by xmin::text
        ) as batch",
    )
    .fetch_one(&mut ledger.owner().await)
    .await
    .unwrap();
    assert!(batch_len <= 50, "a batch of {batch_len} answers");

    // Two nodes that get in each other's way.
    let other = Service::start(&ledger.url);
    let contested = join_all((len + 300..len + 500).map(async |n| {
        let node = if n % 2 == 0 { &service } else { &other };
        node.identify(&seen(n)).await
    }));
    let longest = contested.await.iter().map(|contact| contact.emails.len()).max();
    assert_eq!(longest, Some(len + 500));
    ledger.verify().await.unwrap();
}
