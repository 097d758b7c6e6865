//! Questions to the user at the terminal.

use crate::threads::on_a_thread;
use anyhow::ensure;
use std::io::{BufRead as _, IsTerminal as _};

/// Fails if the user can neither be asked nor wants to go on without being asked.
pub fn check_can_ask(yes: bool, to_do: &str) -> anyhow::Result<()> {
    ensure!(
        yes || std::io::stdin().is_terminal(),
        "stdin is not a terminal: pass --yes to {to_do} without confirmation"
    );
    Ok(())
}

/// Asks a question on stderr. Returns whether the answer is yes.
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
