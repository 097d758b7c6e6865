//! Nothing acknowledged is lost, whatever is killed and whenever.

use crate::support::{
    Contact, Seen, Service, command, postmaster, random_observations, scratch_dir, succeeds, until,
    until_async,
};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::sync::Mutex;

/// What was acknowledged.
type Acknowledged = Mutex<Vec<(Seen, Contact)>>;

/// Sends observations until the service is gone, again and again.
async fn hammer(service: &Service, all: &[Seen], acknowledged: &Acknowledged) {
    join_all(all.chunks(all.len() / 16).map(async |mine| {
        for seen in mine.iter().cycle() {
            match service.try_identify(seen).await {
                Ok(response) if response.status() == 200 => {
                    let answer: serde_json::Value = response.json().await.unwrap();
                    let contact = serde_json::from_value(answer["contact"].clone()).unwrap();
                    acknowledged.lock().unwrap().push((seen.clone(), contact));
                }
                // Postgres is away: the service says so and goes on.
                Ok(response) => assert_eq!(response.status(), 503),
                Err(_) => break,
            }
        }
    }))
    .await;
}

async fn until_under_load(acknowledged: &Acknowledged) {
    until_async("it is under load", async || acknowledged.lock().unwrap().len() > 500).await;
}

async fn check_all_there(service: &Service, acknowledged: &[(Seen, Contact)]) {
    for (seen, answer) in acknowledged {
        let now = service.contact(answer.primary_contact_id).await;
        let shown = [&now.emails[..], &now.phone_numbers[..]].concat();
        for value in [&seen.email, &seen.phone_number].into_iter().flatten() {
            assert!(shown.contains(value), "an acknowledged value is lost");
        }
        let ids = |contact: &Contact| {
            [&[contact.primary_contact_id], &contact.secondary_contact_ids[..]].concat()
        };
        assert!(ids(answer).iter().all(|id| ids(&now).contains(id)));
    }
}

async fn until_another_postmaster(data_dir: &Path, killed: Pid) {
    until_async("Postgres is started again", async || {
        postmaster(data_dir).is_some_and(|pid| pid != killed)
    })
    .await;
}

fn verify(data_dir: &Path) {
    succeeds(&mut command(&["verify", "--data-dir", data_dir.to_str().unwrap()]));
}

#[tokio::test]
async fn a_service_killed_under_load_has_lost_nothing_it_acknowledged() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let start = || Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    let all = random_observations(10, 20_000, 5_000);

    let service = start();
    let acknowledged = Acknowledged::default();
    let kill = async {
        until_under_load(&acknowledged).await;
        service.signal(Signal::KILL);
    };
    tokio::join!(hammer(&service, &all, &acknowledged), kill);
    service.kill();

    let service = start();
    check_all_there(&service, &acknowledged.into_inner().unwrap()).await;
    verify(&data_dir);
    assert!(service.stop().success());
    assert_eq!(postmaster(&data_dir), None, "the last one stops Postgres");
}

#[tokio::test]
async fn a_postgres_killed_under_load_has_lost_nothing_acknowledged() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    let all = random_observations(11, 20_000, 5_000);
    let acknowledged = Acknowledged::default();
    let kill = async {
        until_under_load(&acknowledged).await;
        let killed = postmaster(&data_dir).unwrap();
        kill_process(killed, Signal::KILL).unwrap();
        // The service has met that, and is starting another one.
        until_another_postmaster(&data_dir, killed).await;
        service.signal(Signal::KILL);
    };
    tokio::join!(hammer(&service, &all, &acknowledged), kill);
    service.kill();

    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    check_all_there(&service, &acknowledged.into_inner().unwrap()).await;
    verify(&data_dir);
    assert!(service.stop().success());
}

#[tokio::test]
async fn a_postgres_that_has_died_is_started_again() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    let seen = Seen::new("before@x.org", "");
    let before = service.identify(&seen).await;
    let killed = postmaster(&data_dir).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    // Before that the server that was killed may answer.
    until_another_postmaster(&data_dir, killed).await;
    service.until_ready(200).await;
    assert_eq!(service.identify(&seen).await, before);
    verify(&data_dir);
    assert!(service.stop().success());
    assert_eq!(postmaster(&data_dir), None, "the last one stops Postgres");
}

/// A start in vain takes the file away that tells of the server that has died.
#[tokio::test]
async fn a_postgres_that_cannot_be_started_is_started_when_it_can() {
    let dir = scratch_dir();
    let data_dir = dir.path().join("data");
    let service = Service::start_with(&["--data-dir", data_dir.to_str().unwrap()]);
    let seen = Seen::new("before@x.org", "");
    let before = service.identify(&seen).await;
    let settings = data_dir.join("postgres/postgresql.auto.conf");
    let right = std::fs::read_to_string(&settings).unwrap();
    // No machine has this address, and a server finds that out when it has written its file.
    std::fs::write(&settings, format!("{right}listen_addresses = '192.0.2.1'\n")).unwrap();
    kill_process(postmaster(&data_dir).unwrap(), Signal::KILL).unwrap();
    until("it is started in vain", || service.log().contains("cannot start Postgres"));
    std::fs::write(&settings, right).unwrap();
    service.until_ready(200).await;
    assert_eq!(service.identify(&seen).await, before);
    assert!(service.stop().success());
    assert_eq!(postmaster(&data_dir), None, "the last one stops Postgres");
}
