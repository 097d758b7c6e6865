//! Questions to the user at the terminal.

use crate::threads::on_a_thread;
use anyhow::ensure;
use std::io::{BufRead as _, IsTerminal as _};

/// Asks a question on stderr. Returns whether the answer is yes. Fails if there is no one to ask, and says
/// how `to_do` is done without asking.
pub async fn confirmed(question: &str, to_do: &str) -> anyhow::Result<bool> {
    ensure!(
        std::io::stdin().is_terminal(),
        "stdin is not a terminal: pass --yes to {to_do} without confirmation"
    );
    eprint!("{question} [y/N] ");
    let answer = on_a_thread(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.await?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
