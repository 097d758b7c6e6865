//! What commands print.

use anyhow::Context as _;
use std::fmt::Arguments;
use std::io::{self, Write as _};

/// What is wrong where stdout takes nothing. The work may be done all the same.
pub const CANNOT_WRITE: &str = "cannot write to stdout";

/// Prints a line on stdout. Whoever reads no more, as `head` does, has read enough: the work goes on.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::cli::say::line(format_args!($($arg)*))?
    };
}

pub(crate) use say;

pub fn line(text: Arguments<'_>) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context(CANNOT_WRITE),
    }
}
