//! A table as lines of text: columns as wide as their content, the widest cut where the terminal ends.

/// Columns between two columns.
const GAP: usize = 2;
/// No column is cut below this.
const COLUMN_MIN: usize = 8;

/// Rows under headings. Control characters of the data never reach the terminal.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Column {
    heading: String,
    right: bool,
}

impl Table {
    /// Columns by their headings; one that begins with `>` is set to the right.
    pub fn new<T: AsRef<str>>(headings: impl IntoIterator<Item = T>) -> Self {
        let column = |heading: T| {
            let heading = heading.as_ref();
            Column {
                right: heading.starts_with('>'),
                heading: heading.trim_start_matches('>').to_owned(),
            }
        };
        Table {
            columns: headings.into_iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| plain(&cell.into())).collect();
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell a column");
        self.rows.push(cells);
    }

    /// Lines of at most `width` columns, as far as that can be had without cutting a column below a readable rest.
    pub fn render(&self, width: usize) -> String {
        let widths = self.widths(width);
        let headings: Vec<&str> = self.columns.iter().map(|column| column.heading.as_str()).collect();
        let mut lines = self.line(&headings, &widths);
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            lines.push_str(&self.line(&cells, &widths));
        }
        lines
    }

    fn widths(&self, width: usize) -> Vec<usize> {
        let natural = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| text_width(&row[at]));
            cells.max().unwrap_or(0).max(text_width(&column.heading))
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(natural).collect();
        let room = width.saturating_sub(GAP * widths.len().saturating_sub(1));
        // The widest gives way first, so that short columns stay whole.
        while widths.iter().sum::<usize>() > room {
            let over = widths.iter().sum::<usize>() - room;
            let widest = widths.iter().copied().max().unwrap_or(0);
            let second = widths
                .iter()
                .copied()
                .filter(|&other| other < widest)
                .max()
                .unwrap_or(0);
            let Some(at) = widths.iter().rposition(|&width| width == widest) else {
                break;
            };
            let cut = (widest - over.min(widest)).max(second.min(widest - 1)).max(COLUMN_MIN);
            if cut >= widest {
                break;
            }
            widths[at] = cut;
        }
        widths
    }

    fn line(&self, cells: &[&str], widths: &[usize]) -> String {
        let mut line = String::new();
        for (at, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let cell = cut(cell, width);
            let padding = " ".repeat(width - text_width(&cell));
            if at > 0 {
                line.push_str(&" ".repeat(GAP));
            }
            match self.columns[at].right {
                true => line.push_str(&(padding + &cell)),
                false => line.push_str(&(cell + &padding)),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// One line without control characters, so that data can't move the cursor or recolour the screen.
fn plain(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let spaced: String = spaced
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect();
    spaced.trim_end().to_owned()
}

/// `text` in at most `width` columns, with an ellipsis where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += char_width(c);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

fn text_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Columns of a character on a terminal: none for what combines, two for East Asian wide ones and most pictures.
fn char_width(c: char) -> usize {
    match c as u32 {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([">score", "id", "title"]);
        table.row([
            "0.71",
            "gnuchess",
            "plays a game of chess, either against the user or itself",
        ]);
        table.row(["-10.5", "詩", "床前明月光"]);
        table
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_right() {
        let wanted = "score  id        title\n 0.71  gnuchess  plays a game of chess, either against the user or itself\n\
                      -10.5  詩        床前明月光\n";
        assert_eq!(sample().render(80), wanted);
    }

    #[test]
    fn the_widest_column_gives_way_first() {
        let lines = sample().render(40);
        assert!(
            lines.contains("plays a game of chess…") || lines.contains("plays a game of ch"),
            "{lines}"
        );
        assert!(lines.contains("gnuchess"), "{lines}");
        for line in lines.lines() {
            assert!(text_width(line) <= 40, "{line}");
        }
    }

    #[test]
    fn a_terminal_too_narrow_ends_the_cutting_and_not_the_program() {
        assert!(sample().render(3).contains('…'));
        assert_eq!(Table::new(["a"]).render(0), "a\n");
    }

    #[test]
    fn data_cannot_steer_the_terminal() {
        let mut table = Table::new(["x"]);
        table.row(["\u{1b}[31mred\nnext\u{202e}"]);
        assert_eq!(table.render(80), "x\n [31mred next\n");
    }
}
