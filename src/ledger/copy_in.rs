//! Many rows at once, for whoever writes a whole table.

/// Appends a row in Postgres' text format for COPY, be its values what they may: `None` is null.
pub fn write_copied_row(text: &mut String, columns: &[Option<String>]) {
    for (n, column) in columns.iter().enumerate() {
        if n > 0 {
            text.push('\t');
        }
        match column {
            Some(value) => push_escaped(text, value),
            None => text.push_str(r"\N"),
        }
    }
    text.push('\n');
}

/// What has a meaning of its own in that format would end a column or a row, or be another value.
fn push_escaped(text: &mut String, value: &str) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        return text.push_str(value);
    }
    for character in value.chars() {
        match character {
            '\\' => text.push_str(r"\\"),
            '\t' => text.push_str(r"\t"),
            '\n' => text.push_str(r"\n"),
            '\r' => text.push_str(r"\r"),
            plain => text.push(plain),
        }
    }
}
