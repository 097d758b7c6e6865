//! Asking whoever sits at the terminal.

use anyhow::ensure;
use std::io::{BufRead as _, IsTerminal as _};
use tokio::sync::oneshot;

/// Fails where there is nobody to ask and no leave to go on without.
pub fn check_somebody_is_here(yes: bool, to_do: &str) -> anyhow::Result<()> {
    ensure!(
        yes || std::io::stdin().is_terminal(),
        "nobody is here to ask: give --yes to {to_do} without asking"
    );
    Ok(())
}

/// Asks on a thread that nobody waits for at the end: Ctrl-C is heard meanwhile.
pub async fn confirmed(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    let (sender, answer) = oneshot::channel();
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        let _ = sender.send(read.map(|_| answer));
    });
    let answer = answer.await??;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
