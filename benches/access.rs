//! Section 10: what tokens and idempotency keys cost.

use crate::load::{Keys, Shown};
use crate::postgres::Server;
use crate::ran::{ROUNDS, Trial, median_ratio, of_rounds, rates_of, report_runs};
use crate::report::Report;
use crate::traffic::Traffic;
use identity_ledger::access::Token;
use std::path::Path;
use std::time::Duration;

/// What requests show: a token and a key, or neither.
const SHOWN: [(&str, Option<Keys>); 3] =
    [(NEITHER, None), ("UUIDs of version 7", Some(Keys::Timed)), ("version 4", Some(Keys::Random))];
const NEITHER: &str = "neither";

/// /identify at 256 connections without tokens and keys and with both, in turn, by kind of key.
pub async fn access(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("access ...");
    let token = Token::random();
    let file = dir.join("tokens.toml");
    let hash = token.hash().to_hex();
    let lines = format!("[[token]]\nname = \"bench\"\nrole = \"caller\"\nsha256 = \"{hash}\"\n");
    std::fs::write(&file, lines)?;
    let flags = vec!["--tokens".to_owned(), file.display().to_string()];

    let mut runs = Vec::new();
    for (label, keys) in SHOWN.repeat(ROUNDS) {
        let mut trial = Trial {
            measured: Duration::from_secs(6),
            ..Trial::closed(label, Traffic::new(256, 0, 0))
        };
        if keys.is_some() {
            let shown = Shown { token: Some(token.expose().to_owned()), keys };
            trial = Trial { flags: flags.clone(), shown, ..trial };
        }
        runs.push(trial.run(server, &server.empty().await?, dir).await?);
    }
    let neither = rates_of(&runs, NEITHER);
    let titles = ["10 tokens and idempotency keys, 256 connections", "10 what it cost"];
    report_runs(report, titles, "keys", &[("x neither", &of_rounds(&neither, SHOWN.len()))], &runs);
    for (label, _) in SHOWN.into_iter().filter(|(_, keys)| keys.is_some()) {
        let what = format!("tokens and idempotency keys ({label}), x neither");
        report.bar_at_least(&what, median_ratio(&runs, label, &neither), 0.95);
    }
    Ok(())
}
