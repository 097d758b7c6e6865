//! Section 10: what tokens and idempotency keys cost.

use crate::load::Shown;
use crate::postgres::Server;
use crate::ran::{Ran, Trial, report_runs};
use crate::report::Report;
use crate::traffic::Traffic;
use identity_ledger::access::Token;
use std::path::Path;
use std::time::Duration;

const NEITHER: &str = "neither";
const BOTH: &str = "tokens and keys";

/// /identify at 256 connections without tokens and keys and with both, in turn.
pub async fn access(server: &Server, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("access ...");
    let token = Token::random();
    let file = dir.join("tokens.toml");
    let hash = token.hash().to_hex();
    let lines = format!("[[token]]\nname = \"bench\"\nrole = \"caller\"\nsha256 = \"{hash}\"\n");
    std::fs::write(&file, lines)?;
    let flags = vec!["--tokens".to_owned(), file.display().to_string()];
    let shown = Shown { token: Some(token.expose().to_owned()), has_keys: true };

    let mut runs = Vec::new();
    for label in [NEITHER, BOTH, NEITHER, BOTH, NEITHER, BOTH] {
        let mut trial = Trial {
            measured: Duration::from_secs(6),
            ..Trial::closed(label, Traffic::new(256, 0, 0))
        };
        if label == BOTH {
            trial = Trial { flags: flags.clone(), shown: shown.clone(), ..trial };
        }
        runs.push(trial.run(server, &server.empty().await?, dir).await?);
    }
    let rate = |label: &str| {
        let of_label = runs.iter().filter(|run| run.label == label);
        of_label.map(Ran::rate).sum::<f64>() / 3.0
    };
    let (neither, both) = (rate(NEITHER), rate(BOTH));
    let titles = ["10 tokens and idempotency keys, 256 connections", "10 what it cost"];
    report_runs(report, titles, "with", &[("x neither", neither)], &runs);
    report.bar_at_least("tokens and idempotency keys, x neither", both / neither, 0.95);
    Ok(())
}
