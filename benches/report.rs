//! The table on stdout, and the same as JSON.

use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// What stands in one place of a table.
pub enum Cell {
    Text(String),
    /// A number, and how many decimals of it are shown.
    Number(f64, usize),
    Missing,
}

pub struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

/// A bar of the project's goals: shown, never enforced.
pub struct Bar {
    pub says: String,
    pub found: Option<f64>,
    pub is_met: bool,
}

#[derive(Default)]
pub struct Report {
    pub facts: Vec<String>,
    pub tables: Vec<Table>,
    pub bars: Vec<Bar>,
}

impl Table {
    pub fn new(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self { title, columns, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column of {}", self.title);
        self.rows.push(cells);
    }

    fn print(&self, text: &mut String) {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::shown).collect()).collect();
        let width = |n: usize| {
            let widest = shown.iter().map(|row| row[n].chars().count()).max().unwrap_or(0);
            widest.max(self.columns[n].len())
        };
        let header: Vec<String> = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let _ = writeln!(text, "\n{}", self.title);
        for row in std::iter::once(&header).chain(&shown) {
            for (n, cell) in row.iter().enumerate() {
                let width = width(n);
                let _ = match n {
                    0 => write!(text, "  {cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            text.push('\n');
        }
    }

    fn json(&self) -> Value {
        let row = |row: &Vec<Cell>| {
            let named = self.columns.iter().zip(row);
            named.map(|(name, cell)| ((*name).to_owned(), cell.json())).collect::<Map<_, _>>()
        };
        json!({"title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>()})
    }
}

impl Cell {
    pub fn number(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Self::Missing, |value| Self::Number(value, decimals))
    }

    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(value, decimals) => format!("{value:.decimals$}"),
            Self::Missing => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(value, _) => json!(value),
            Self::Missing => Value::Null,
        }
    }
}

impl Report {
    pub fn bar_at_least(&mut self, says: impl Into<String>, found: Option<f64>, bar: f64) {
        let is_met = found.is_some_and(|found| found >= bar);
        self.bars.push(Bar { says: format!("{}: at least {bar}", says.into()), found, is_met });
    }

    pub fn bar_at_most(&mut self, says: impl Into<String>, found: Option<f64>, bar: f64) {
        let is_met = found.is_some_and(|found| found <= bar);
        self.bars.push(Bar { says: format!("{}: at most {bar}", says.into()), found, is_met });
    }

    /// Prints everything and writes it to a file. Bars that nothing was measured for are left out.
    pub fn publish(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = String::new();
        for fact in &self.facts {
            writeln!(text, "{fact}")?;
        }
        for table in &self.tables {
            table.print(&mut text);
        }
        let measured = || self.bars.iter().filter_map(|bar| Some((bar, bar.found?)));
        writeln!(text, "\nbars")?;
        for (bar, found) in measured() {
            let verdict = if bar.is_met { "met" } else { "missed" };
            writeln!(text, "  {verdict:<6}  {found:>8.2}  {}", bar.says)?;
        }
        print!("{text}");
        let bars = measured()
            .map(|(bar, found)| json!({"bar": bar.says, "found": found, "met": bar.is_met}));
        let json = json!({
            "facts": self.facts,
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(),
            "bars": bars.collect::<Vec<_>>(),
        });
        std::fs::write(file, serde_json::to_vec_pretty(&json)?)?;
        eprintln!("the same as JSON: {}", file.display());
        Ok(())
    }
}
