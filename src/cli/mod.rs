//! The command line: reads the configuration once, and calls the rooms.
//!
//! Promises: data on stdout, words for people on stderr; an error is one line that says what
//! to do next, and the exit code is not 0.
//! Never: decides anything, or holds SQL.

mod asking;
mod backup;
mod config;
mod erase;
mod export;
mod history;
mod impact;
mod place;
mod reload;
mod rules;
mod say;
mod serve;
mod signals;
mod token;
mod verify;
mod why;

use crate::ledger;
use crate::seal::{LogName, key};
use crate::threads::without_panic;
use config::{Cli, Command, DatabaseConfig, KeyCommand, LogConfig, TokenCommand};
use place::Place;
use rustix::process::{Resource, Rlimit, setrlimit};
use say::{counted, say};
use signals::Signal;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let Cli { database, log, command } = Cli::read();
    leave_no_core();
    log.start();
    let done = runtime(&command)
        .map_err(|error| anyhow::anyhow!("cannot start threads: {error}"))
        // When the runtime ends, it waits for a Postgres that is being started, and stops it.
        .and_then(|runtime| runtime.block_on(without_panic(run(command, database))));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of stdout has read enough, as `head` does.
        Err(error) if is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&log, &error),
    }
}

/// Keeps a crash from writing the memory to a file: customers, tokens and keys are in it. What this process
/// starts inherits that.
fn leave_no_core() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Lowering a limit is always allowed.
    let _ = setrlimit(Resource::Core, none);
}

/// As many threads as half of the cores: the other half is for Postgres. With more threads, tasks move
/// between them and wait for Postgres all the same.
///
/// What `block_on` runs has a thread beside these: the work of a command, or the recorder of a service,
/// which thus never waits behind the handlers that it wakes. On two cores that would be one thread too
/// many: there the service has one thread only, which turns to the recorder after at most sixty other
/// tasks.
fn runtime(command: &Command) -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.div_ceil(2);
    let mut builder = match command {
        Command::Serve(_) if threads == 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(threads).enable_all().build()
}

async fn run(command: Command, database: DatabaseConfig) -> anyhow::Result<()> {
    let signal = signals::listen()?;
    match command {
        Command::Serve(config) => serve::serve(database, config, signal).await,
        Command::History(config) => unless(signal, history::history(database, config)).await,
        Command::Why(config) => unless(signal, why::why(database, config)).await,
        Command::Erase(config) => unless(signal, erase::erase(database, config)).await,
        Command::Rebuild => unless(signal, rebuild(database)).await,
        Command::Rules(command) => unless(signal, rules::run(database, command)).await,
        Command::Verify(config) => unless(signal, verify::verify(database, config)).await,
        Command::Export(config) => unless(signal, export::export(database, config)).await,
        Command::Backup(config) => unless(signal, backup::back_up(database, config)).await,
        Command::Restore(config) => unless(signal, backup::restore(database, config)).await,
        Command::Key(KeyCommand::New { file, name }) => new_key(&database, &file, name),
        Command::Token(TokenCommand::New(config)) => token::new(&config),
    }
}

/// Does work that may end at any point. Without this, the signal would end the process and leave a
/// private Postgres behind.
async fn unless(
    signal: Signal,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let signal = signals::or_hangup(signal)?;
    tokio::select! {
        biased;
        name = signal => anyhow::bail!("interrupted by {name}; run it again"),
        done = work => done,
    }
}

async fn rebuild(database: DatabaseConfig) -> anyhow::Result<()> {
    let place = Place::open(database).await?;
    place.give_way();
    let since = Instant::now();
    let rebuilt = crate::rebuild::rebuild(&place.database).await?;
    say!(
        "rebuilt {} at position {} in {:.1} s",
        counted(rebuilt.contacts_len, "contact"),
        rebuilt.position,
        since.elapsed().as_secs_f64()
    );
    place.close().await
}

fn new_key(database: &DatabaseConfig, file: &Path, name: Option<LogName>) -> anyhow::Result<()> {
    let name = name.unwrap_or_else(|| LogName::of(&database.ledger));
    say!("{}", key::create(file, &name)?);
    Ok(())
}

/// Whether stdout is no longer read. Errors of connections are of other types.
fn is_closed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn failed(log: &LogConfig, error: &anyhow::Error) -> ExitCode {
    log.last_words(&in_one_line(error));
    ExitCode::FAILURE
}

/// An error with its causes, none of them twice. Of a failed statement it has only what quotes no value.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let statement = ledger::failed_statement(cause);
        let is_statement = statement.is_some();
        let text = statement.unwrap_or_else(|| cause.to_string()).replace('\n', " ");
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line += &format!(": {text}");
        }
        // The next cause is what Postgres says of it, which may quote values.
        if is_statement {
            break;
        }
    }
    line
}
