//! What commands print.

use anyhow::Context as _;
use std::fmt::{Arguments, Display};
use std::io::{self, Write as _};

/// The error if stdout cannot be written to. The work may be done all the same.
pub const CANNOT_WRITE: &str = "cannot write to stdout";

/// Prints a line on stdout. If stdout is no longer read, as by `head`, the work goes on.
macro_rules! say {
    ($($arg:tt)*) => {
        $crate::cli::say::line(format_args!($($arg)*))?
    };
}

pub(crate) use say;

/// `1 contact`, `2 contacts`.
pub fn counted(len: impl Display, one: &str) -> String {
    let len = len.to_string();
    if len == "1" { format!("1 {one}") } else { format!("{len} {one}s") }
}

/// `1 contact has`, `2 contacts have`.
pub fn counted_with(len: impl Display, one: &str, verb: [&str; 2]) -> String {
    let counted = counted(len, one);
    let [of_one, of_several] = verb;
    let verb = if counted.starts_with("1 ") { of_one } else { of_several };
    format!("{counted} {verb}")
}

/// Prints a line on stdout, for `say!`.
pub fn line(text: Arguments<'_>) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context(CANNOT_WRITE),
    }
}
