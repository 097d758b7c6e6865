//! Many nodes against one database answer as one.

use crate::support::{Model, Seen, Service, TestLedger, hold_head, random_observations};
use futures_util::future::join_all;
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[tokio::test]
async fn two_nodes_never_make_two_primaries_of_one_customer() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let all = random_observations(2, 1200, 250);
    let callers = all.chunks(50).enumerate().map(async |(caller, mine)| {
        for seen in mine {
            let answer = nodes[caller % 2].identify(seen).await;
            let values = [&answer.emails[..], &answer.phone_numbers[..]].concat();
            for value in [&seen.email, &seen.phone_number].into_iter().flatten() {
                assert!(values.contains(value), "an answer shows what was just recorded");
            }
        }
    });
    join_all(callers).await;
    let shown = [nodes[0].contacts(1200).await, nodes[1].contacts(1200).await].concat();
    Model::of(&all).check(shown);
    ledger.verify().await.unwrap();
}

/// An answer of one node is known to the other at once: nothing is cached past its time.
#[tokio::test]
async fn what_one_node_answered_the_other_knows() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let mut known = 0;
    for n in 0..40 {
        let seen = Seen::new(&format!("turn{n}@x.org"), "77");
        let answer = nodes[n % 2].identify(&seen).await;
        assert_eq!(answer.primary_contact_id, 1);
        assert_eq!(answer.emails.len(), known + 1);
        known = answer.emails.len();
    }
}

#[tokio::test]
async fn a_node_that_hangs_does_not_hold_the_line() {
    let ledger = TestLedger::new().await;
    let nodes = [Service::start(&ledger.url), Service::start(&ledger.url)];
    let all = random_observations(3, 2000, 400);
    let (hanging, going_on) = (&nodes[0], &nodes[1]);
    let is_over = AtomicBool::new(false);
    let load = join_all(all.chunks(100).map(async |mine| {
        for seen in mine.iter().cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
            if hanging.try_identify(seen).await.is_err() {
                break;
            }
        }
    }));
    let observe = async {
        going_on.identify(&Seen::new("before@x.org", "")).await;
        for n in 0..3 {
            hanging.signal(Signal::STOP);
            let since = Instant::now();
            going_on.identify(&Seen::new(&format!("during{n}@x.org"), "")).await;
            assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
            hanging.signal(Signal::CONT);
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, observe);
    ledger.verify().await.unwrap();
}

/// The lock of a node that stops between taking it and appending is taken from it.
#[tokio::test]
async fn a_lock_that_is_held_by_a_hanging_node_is_taken_from_it() {
    let ledger = TestLedger::new().await;
    let node = Service::start(&ledger.url);
    let mut hanging = ledger.database.recorder().await.unwrap();
    let since = Instant::now();
    hold_head(&mut hanging).await;
    node.identify(&Seen::new("a@x.org", "")).await;
    assert!(since.elapsed() > Duration::from_secs(1), "the lock was held");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}
