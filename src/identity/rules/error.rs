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
        let line = span.map(|span| line_of(document, &span));
        Self { line, message: message.lines().collect::<Vec<_>>().join(", ") }
    }
}

/// The line that these bytes of a text begin on, counted from 1.
pub fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}
