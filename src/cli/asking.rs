//! Asking whoever sits at the terminal.

use crate::threads::on_a_thread;
use anyhow::ensure;
use std::io::{BufRead as _, IsTerminal as _};

/// Fails where there is nobody to ask and no leave to go on without.
pub fn check_somebody_is_here(yes: bool, to_do: &str) -> anyhow::Result<()> {
    ensure!(
        yes || std::io::stdin().is_terminal(),
        "nobody is here to ask: give --yes to {to_do} without asking"
    );
    Ok(())
}

pub async fn confirmed(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    let answer = on_a_thread(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.await?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
