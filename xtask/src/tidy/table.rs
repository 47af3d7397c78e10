//! Reads a markdown table by the words of its head.

/// One row: its line, counted from 1, and its cells.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    /// The line it stands in.
    pub(crate) line: usize,
    cells: Vec<&'a str>,
}

impl<'a> Row<'a> {
    /// The text of a cell; empty where the row is shorter.
    pub(crate) fn cell(&self, column: usize) -> &'a str {
        self.cells.get(column).copied().unwrap_or_default()
    }

    /// The first name in backticks in a cell.
    pub(crate) fn name(&self, column: usize) -> Option<&'a str> {
        names(self.cell(column)).next()
    }
}

/// The rows of the first table whose head begins with the given words, one per column.
pub(crate) fn rows<'a>(text: &'a str, head: &[&str]) -> Option<Vec<Row<'a>>> {
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| !is_head(line, head));
    lines.next()?;
    let body = lines.skip(1).take_while(|(_, line)| line.starts_with('|'));
    Some(body.map(|(index, line)| Row { line: index + 1, cells: cells(line) }).collect())
}

/// The names that stand in backticks.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a line is the head of the table.
fn is_head(line: &str, head: &[&str]) -> bool {
    line.starts_with('|') && cells(line).starts_with(head)
}

/// The cells of a line.
fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::{names, rows};

    #[test]
    fn a_table_is_found_by_its_head_and_ends_with_it() {
        let text = "x\n| a | b |\n|---|---|\n| 1 | |\n| 2 | `c` |\n\n| no | |\n";
        let rows = rows(text, &["a", "b"]).unwrap();
        let read: Vec<_> = rows.iter().map(|row| (row.line, row.cell(0), row.name(1))).collect();
        assert_eq!(read, [(4, "1", None), (5, "2", Some("c"))]);
    }

    #[test]
    fn another_head_is_another_table() {
        assert!(rows("| a | b |\n|---|---|\n", &["a", "c"]).is_none());
    }

    #[test]
    fn names_stand_in_backticks() {
        assert_eq!(names("`a`, b `c::d`").collect::<Vec<_>>(), ["a", "c::d"]);
    }
}
