//! The tables on stdout, and the same as JSON.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// In cores. Beyond it, figures say more about the others.
const OTHERS_BUSY_MAX: f64 = 0.1;

/// A row for each thing that was measured. NaN stands for what was not.
pub struct Table {
    pub title: &'static str,
    pub columns: Vec<&'static str>,
    pub rows: Vec<(String, Vec<f64>)>,
}

/// A goal of the project: shown, never enforced.
struct Bar {
    says: String,
    found: f64,
    is_met: bool,
}

#[derive(Default)]
pub struct Report {
    pub facts: Vec<String>,
    pub tables: Vec<Table>,
    bars: Vec<Bar>,
    others_busy_max: f64,
}

impl Report {
    pub fn bar_at_least(&mut self, what: &str, found: f64, bar: f64) {
        let says = format!("{what}: at least {bar}");
        self.bars.push(Bar { says, found, is_met: found >= bar });
    }

    pub fn bar_at_most(&mut self, what: &str, found: f64, bar: f64) {
        let says = format!("{what}: at most {bar}");
        self.bars.push(Bar { says, found, is_met: found <= bar });
    }

    pub fn note_others(&mut self, cores: f64) {
        self.others_busy_max = self.others_busy_max.max(cores);
    }

    /// Prints everything, and writes it to a file.
    pub fn publish(&self, file: &Path) -> anyhow::Result<()> {
        for fact in &self.facts {
            println!("{fact}");
        }
        for table in &self.tables {
            print!("{}", table.text());
        }
        let bars = || self.bars.iter().filter(|bar| !bar.found.is_nan());
        for (n, bar) in bars().enumerate() {
            if n == 0 {
                println!("\nbars");
            }
            let verdict = if bar.is_met { "met" } else { "missed" };
            println!("  {verdict:<6}  {:>7}  {}", shown(bar.found), bar.says);
        }
        if self.others_busy_max > OTHERS_BUSY_MAX {
            println!(
                "\nOther work kept up to {:.1} cores busy: measure again.",
                self.others_busy_max
            );
        }
        let bar = |bar: &Bar| json!({"bar": bar.says, "found": bar.found, "met": bar.is_met});
        let report = json!({
            "facts": self.facts,
            "othersBusyMax": self.others_busy_max,
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(),
            "bars": bars().map(bar).collect::<Vec<_>>(),
        });
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
        eprintln!("the same as JSON: {}", file.display());
        Ok(())
    }
}

impl Table {
    fn text(&self) -> String {
        let mut text = format!("\n{}\n", self.title);
        let header = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let row = |(label, values): &(String, Vec<f64>)| -> Vec<String> {
            std::iter::once(label.clone()).chain(values.iter().map(|value| shown(*value))).collect()
        };
        let rows: Vec<Vec<String>> =
            std::iter::once(header).chain(self.rows.iter().map(row)).collect();
        for row in &rows {
            for (n, cell) in row.iter().enumerate() {
                let width = rows.iter().map(|row| row[n].len()).max().unwrap_or(0);
                let _ = match n {
                    0 => write!(text, "  {cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Value {
        let row = |(label, values): &(String, Vec<f64>)| -> Value {
            let label = (self.columns[0].to_owned(), json!(label));
            let values = self.columns[1..].iter().zip(values);
            let values = values.map(|(name, value)| ((*name).to_owned(), json!(value)));
            Value::Object(std::iter::once(label).chain(values).collect())
        };
        json!({"title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

/// Three digits or so.
fn shown(value: f64) -> String {
    match value {
        _ if value.is_nan() => "-".to_owned(),
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
