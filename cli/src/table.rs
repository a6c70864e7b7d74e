//! Tables and lines that fit the terminal: columns two blanks apart, no borders.
//!
//! A table that is too wide first lets its last column wrap, if that holds prose, then leaves out
//! columns in an order that its caller gives, and says which. What the caller does not offer
//! stays, whatever the width.
//!
//! ```text
//! NODE  STATUS  KEYS  SHARE
//! n1    DOWN    663   33.1 %
//! (left out: LOG, LAST SEEN, ADDRESS; a wider terminal or --json has them)
//! ```
//!
//! # Caveats
//!
//! Without a terminal there is no width, and the table is whole.

use comfy_table::{ContentArrangement, Table as Grid, presets};

/// The narrowest column of prose that is still readable.
const PROSE_WIDTH_MIN: usize = 24;

/// A table to be.
pub(crate) struct Table<'a> {
    /// The names of the columns; when all are empty they are not shown.
    pub(crate) header: &'a [&'a str],
    /// A cell a column.
    pub(crate) rows: Vec<Vec<String>>,
    /// Columns that may be left out, if there are such, the first one first.
    pub(crate) dispensable: &'a [&'a str],
    /// Whether the last column is prose, which may wrap.
    pub(crate) prose: bool,
}

impl Table<'_> {
    /// The lines of the table in at most `width` columns, if it can be made so narrow.
    #[must_use]
    pub(crate) fn draw(&self, width: Option<usize>) -> String {
        let mut kept: Vec<usize> = (0..self.header.len()).collect();
        let Some(width) = width else { return self.grid(&kept, None) };
        let mut left_out = Vec::new();
        for name in self.dispensable {
            if self.width_min(&kept) <= width {
                break;
            }
            let before = kept.len();
            kept.retain(|&column| self.header[column] != *name);
            left_out.extend((kept.len() < before).then_some(*name));
        }
        let mut text = self.grid(&kept, Some(width));
        if !left_out.is_empty() {
            let names = left_out.join(", ");
            text += &format!("\n(left out: {names}; a wider terminal or --json has them)");
        }
        text
    }

    /// How narrow the columns `kept` can be together.
    fn width_min(&self, kept: &[usize]) -> usize {
        let column = |&at: &usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            let widest = cells.chain([self.header[at].len()]).max().unwrap_or(0);
            let wraps = self.prose && at + 1 == self.header.len();
            if wraps { widest.min(PROSE_WIDTH_MIN) } else { widest }
        };
        let gaps = 2 * kept.len().saturating_sub(1);
        kept.iter().map(column).sum::<usize>() + gaps
    }

    fn grid(&self, kept: &[usize], width: Option<usize>) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        match width {
            Some(width) if self.prose => {
                grid.set_content_arrangement(ContentArrangement::Dynamic);
                // The gap after the last column is cut off in the end.
                grid.set_width(u16::try_from(width + 2).unwrap_or(u16::MAX));
            }
            _ => {
                grid.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        if self.header.iter().any(|name| !name.is_empty()) {
            grid.set_header(kept.iter().map(|&at| self.header[at]));
        }
        grid.add_rows(self.rows.iter().map(|row| kept.iter().map(|&at| row[at].clone())));
        let last = kept.len().saturating_sub(1);
        for (at, column) in grid.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if !(self.prose && at == last) {
                column.set_constraint(comfy_table::ColumnConstraint::ContentWidth);
            }
        }
        grid.trim_fmt()
    }
}

/// Parts of a sentence, `gap` apart; what does not fit begins a new line.
#[must_use]
pub(crate) fn fill(parts: &[String], gap: &str, width: Option<usize>) -> String {
    let mut text = String::new();
    let mut used = 0;
    for part in parts {
        let length = part.chars().count();
        if used > 0 && width.is_some_and(|width| used + gap.len() + length > width) {
            text.push('\n');
            used = 0;
        } else if used > 0 {
            text.push_str(gap);
            used += gap.len();
        }
        text.push_str(part);
        used += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Table<'static> {
        let row = |id: &str| [id, "127.0.0.1:5001", "UP", "7"].map(str::to_owned).to_vec();
        Table {
            header: &["NODE", "ADDRESS", "STATUS", "KEYS"],
            rows: vec![row("n1"), row("n2")],
            dispensable: &["ADDRESS"],
            prose: false,
        }
    }

    #[test]
    fn what_is_left_out_is_named() {
        let whole = "NODE  ADDRESS         STATUS  KEYS\n\
                     n1    127.0.0.1:5001  UP      7\n\
                     n2    127.0.0.1:5001  UP      7";
        assert_eq!(nodes().draw(None), whole);
        assert_eq!(nodes().draw(Some(34)), whole);
        let narrow = "NODE  STATUS  KEYS\nn1    UP      7\nn2    UP      7\n\
                      (left out: ADDRESS; a wider terminal or --json has them)";
        assert_eq!(nodes().draw(Some(33)), narrow);
        assert_eq!(nodes().draw(Some(5)), narrow, "what is not dispensable stays");
    }

    #[test]
    fn parts_stay_whole() {
        let parts = ["nodes 3", "copies 20", "epoch 8"].map(str::to_owned);
        assert_eq!(fill(&parts, "   ", None), "nodes 3   copies 20   epoch 8");
        assert_eq!(fill(&parts, "   ", Some(19)), "nodes 3   copies 20\nepoch 8");
        assert_eq!(fill(&parts, "   ", Some(3)), "nodes 3\ncopies 20\nepoch 8");
    }

    #[test]
    fn prose_wraps_inside_its_column() {
        let what = "milliseconds a replica has for an answer";
        let row = ["timeout", "2000", what].map(str::to_owned).to_vec();
        let table = Table {
            header: &["NAME", "VALUE", "WHAT"],
            rows: vec![row],
            dispensable: &[],
            prose: true,
        };
        assert_eq!(
            table.draw(Some(46)),
            "NAME     VALUE  WHAT\n\
             timeout  2000   milliseconds a replica has for\n\
             \x20               an answer"
        );
    }
}
