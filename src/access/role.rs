//! What a token is for.

use clap::ValueEnum;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Posts observations, and asks which customer an identifier belongs to.
    Caller,
    /// Reads everything except the record of reads, and changes nothing.
    Auditor,
    /// May do everything.
    Operator,
}

impl Role {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
