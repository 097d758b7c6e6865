//! What is wrong with a rules file.

use std::ops::Range;

/// Says in one line what is wrong and what is allowed, and where. `line` counts from 1, and is `None` if
/// the fault has no place of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct RulesError {
    pub line: Option<usize>,
    pub message: String,
}

impl RulesError {
    /// A fault at these bytes of the document.
    pub(super) fn at(document: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let line = span.map(|span| {
            let before = document.bytes().take(span.start);
            before.filter(|byte| *byte == b'\n').count() + 1
        });
        Self { line, message: message.lines().collect::<Vec<_>>().join(", ") }
    }
}
