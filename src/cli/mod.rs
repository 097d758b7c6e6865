//! The command line: reads the configuration once, and calls the rooms.
//!
//! Promises: data on stdout, words for people on stderr; an error is one line that says what
//! to do next, and the exit code is not 0.
//! Never: decides anything, or holds SQL.

mod config;
mod place;
mod serve;

use clap::Parser as _;
use config::{Cli, Command};
use place::Place;
use std::process::ExitCode;
use std::time::Instant;

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.log.start();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!("cannot start threads: {error}")),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Half of the cores: the other half is for Postgres. More threads than that hand tasks to one
/// another and wait for Postgres all the same.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(cores.div_ceil(2)).enable_all().build()
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(options) => serve::serve(cli.database, options).await,
        Command::Rebuild => rebuild(Place::open(cli.database).await?).await,
        Command::Verify => verify(Place::open(cli.database).await?).await,
    }
}

async fn rebuild(place: Place) -> anyhow::Result<()> {
    let since = Instant::now();
    let rebuilt = crate::rebuild::rebuild(&place.database).await?;
    println!(
        "rebuilt {} contacts at position {} in {:.1} s",
        rebuilt.contacts_len,
        rebuilt.position,
        since.elapsed().as_secs_f64()
    );
    place.close().await
}

async fn verify(place: Place) -> anyhow::Result<()> {
    let verified = crate::audit::verify(&place.database).await?;
    println!(
        "verified: {} contacts are what the events up to position {} say",
        verified.contacts_len, verified.position
    );
    place.close().await
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
