//! `identity-ledger`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    identity_ledger::cli::main()
}
