//! The README's curl session is answered as it says.

use crate::support::{Service, TestLedger};

#[tokio::test]
async fn the_first_session_of_the_readme_is_true() {
    let ledger = TestLedger::new().await;
    let service = Service::start(&ledger.url);
    let readme = include_str!("../README.md");
    let session = readme.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let mut exchanges = 0;
    for exchange in session.trim().split("\n\n") {
        let (command, answer) = exchange.split_once('\n').unwrap();
        let request = command.strip_prefix("$ curl -s localhost:10000").unwrap();
        let (path, options) = request.split_once(' ').unwrap_or((request, ""));
        let response = match options.split_once(" -d '") {
            Some((header, body)) => {
                assert_eq!((path, header), ("/identify", "-H 'content-type: application/json'"));
                service.post(body.strip_suffix('\'').unwrap().to_owned()).await.unwrap()
            }
            None => service.get(path).await,
        };
        assert_eq!(response.text().await.unwrap(), answer, "{command}");
        exchanges += 1;
    }
    assert_eq!(exchanges, 4);
}
