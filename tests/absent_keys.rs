//! Keys that no one has are known without reading, and no one who is there is missed by that.

use crate::support::{Seen, Service, TestLedger, until};

/// What the service says when it knows all keys, and when that led it astray.
const KNOWN: &str = "all keys that contacts hold are known";
const ASTRAY: &str = "goes the careful way";

fn talkative(ledger: &TestLedger) -> Service {
    Service::start_with(&["--database-url", &ledger.url, "--log-level", "debug"])
}

#[tokio::test]
async fn a_customer_from_before_the_start_is_found() {
    let ledger = TestLedger::new().await;
    let before = Service::start(&ledger.url);
    for n in 1..=20 {
        before.identify(&Seen::new(&format!("a{n}@x.org"), &format!("555{n}"))).await;
    }
    // More than are read at once.
    let many: Vec<_> = (0..2_500).map(|n| Seen::new(&format!("many{n}@x.org"), "")).collect();
    before.identify_all(&many).await;
    before.stop();
    let after = talkative(&ledger);
    after.identify(&Seen::new("new@x.org", "1")).await;
    until("all keys are known", || after.log().contains(KNOWN));
    for n in 1..=20 {
        let by_email = after.identify(&Seen::new(&format!("A{n}@X.org"), "")).await;
        let by_number = after.identify(&Seen::new("", &format!("5 5 5 {n}"))).await;
        let newcomer = after.identify(&Seen::new(&format!("b{n}@x.org"), "")).await;
        assert_eq!((by_email.primary_contact_id, by_number.primary_contact_id), (n, n));
        assert!(newcomer.primary_contact_id > 2_520);
    }
    for n in (0..2_500).step_by(100) {
        let answer = after.identify(&Seen::new(&format!("MANY{n}@x.org"), "")).await;
        assert_eq!(answer.emails, [format!("many{n}@x.org")]);
    }
    assert!(!after.log().contains(ASTRAY), "{}", after.log());
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_customer_that_another_node_has_recorded_is_found() {
    let ledger = TestLedger::new().await;
    let (node, other) = (talkative(&ledger), Service::start(&ledger.url));
    for n in 0..5 {
        node.identify(&Seen::new(&format!("here{n}@x.org"), "")).await;
        until("all keys are known again", || node.log().matches(KNOWN).count() > n);
        let there = Seen::new(&format!("there{n}@x.org"), "");
        let recorded = other.identify(&there).await.primary_contact_id;
        assert_eq!(node.identify(&there).await.primary_contact_id, recorded);
    }
    ledger.verify().await.unwrap();
}

#[tokio::test]
async fn keys_are_known_anew_when_the_rules_change() {
    let ledger = TestLedger::new().await;
    let node = talkative(&ledger);
    node.identify(&Seen::new("Ann@x.org", "")).await;
    until("all keys are known", || node.log().contains(KNOWN));
    ledger.put_in_force(identity_ledger::identity::EXACT_RULES).await.unwrap();
    assert_eq!(node.identify(&Seen::new("ann@x.org", "")).await.primary_contact_id, 2);
    until("all keys are known again", || node.log().matches(KNOWN).count() >= 2);
    assert_eq!(node.identify(&Seen::new("Ann@x.org", "")).await.primary_contact_id, 1);
    assert_eq!(node.identify(&Seen::new("ann@x.org", "")).await.primary_contact_id, 2);
    assert_eq!(node.identify(&Seen::new("ANN@x.org", "")).await.primary_contact_id, 5);
}
