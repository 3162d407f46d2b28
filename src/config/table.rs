//! Aligned columns for `summary`. Imports only the escaping of `error`.

use std::fmt::{self, Write as _};

use super::error::escaped;

pub(super) fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

pub(super) fn words_or(words: &[String], none: &str) -> String {
    if words.is_empty() {
        none.to_owned()
    } else {
        words.join(" ")
    }
}

/// Rows with aligned columns; the last one is not padded.
pub(super) fn table(out: &mut String, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    if rows.is_empty() {
        writeln!(out, "  none")?;
    }
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, " {:width$} ", escaped(cell.chars()))?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
