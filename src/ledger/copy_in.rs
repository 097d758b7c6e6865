//! Rows for Postgres' COPY, by which a whole table is written.

/// Appends a row in the text format of COPY. The values may hold anything. `None` is null.
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

/// Escapes the characters that would end a column or a row in that format, or stand for another value.
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
