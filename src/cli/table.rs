//! Tables for people: every column as wide as its widest cell, every cell harmless to a terminal.

use super::out::{Tone, say_toned, shown};

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

use Align::{Left, Right};

/// Rows under a heading.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// A heading that ends in `>` is that of a column of numbers.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        let columns = headings.iter().map(|heading| {
            heading
                .strip_suffix('>')
                .map_or((*heading, Left), |numbers| (numbers, Right))
        });
        Self {
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.toned_row(cells.map(|cell| (Tone::Plain, cell)));
    }

    pub(super) fn toned_row<const N: usize>(&mut self, cells: [(Tone, String); N]) {
        let cells = cells.map(|(tone, text)| (tone, shown(&text).into_owned()));
        self.rows.push(cells.to_vec());
    }

    pub(super) fn say(&self) {
        for line in self.lines() {
            let pieces: Vec<(Tone, &str)> = line
                .iter()
                .map(|(tone, text)| (*tone, text.as_str()))
                .collect();
            say_toned(&pieces);
        }
    }

    fn lines(&self) -> Vec<Vec<(Tone, String)>> {
        let headings = self
            .columns
            .iter()
            .map(|(heading, _)| (Tone::Quiet, (*heading).to_owned()))
            .collect();
        let all: Vec<&Vec<(Tone, String)>> = std::iter::once(&headings).chain(&self.rows).collect();
        let width = |column: usize| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells
                .map(|(_, text)| text.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        all.iter().map(|row| self.line(row, &widths)).collect()
    }

    /// The blanks stand in pieces of their own, so that no tone colours them.
    fn line(&self, row: &[(Tone, String)], widths: &[usize]) -> Vec<(Tone, String)> {
        let mut line = Vec::new();
        let last = self.columns.len().saturating_sub(1);
        for (position, (tone, text)) in row.iter().enumerate() {
            let width = widths.get(position).copied().unwrap_or_default();
            let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
            let align = self.columns.get(position).map_or(Left, |(_, align)| *align);
            if align == Right {
                line.push((Tone::Plain, blanks.clone()));
            }
            line.push((*tone, text.clone()));
            if position < last {
                let gap = if align == Left { blanks } else { String::new() };
                line.push((Tone::Plain, gap + "  "));
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "COUNT>", "WHY"]);
        table.row(["a long name".to_owned(), "7".to_owned(), "x".to_owned()]);
        table.row(["b\u{1b}".to_owned(), "1234567".to_owned(), "y".to_owned()]);
        let lines: Vec<String> = table
            .lines()
            .into_iter()
            .map(|line| line.into_iter().map(|(_, text)| text).collect())
            .collect();
        assert_eq!(
            lines,
            [
                "NAME           COUNT  WHY",
                "a long name        7  x",
                "b\\u001b      1234567  y",
            ]
        );
    }
}
