//! Vectors of one length packed into pages: row -> bytes, without a copy.
//!
//! Rows up to a page long never straddle two pages (a page holds `4096 / row_bytes` of them, the rest is zero); longer
//! rows begin on a page of their own. So a row that must be proven costs the fewest pages, and a scan walks whole pages.

use super::format::PAGE_BYTES;
use super::reader::PagedFile;
use super::writer::PagedWriter;
use crate::bytes::index;
use crate::error::ReadError;

/// How rows of `row_bytes` lie in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    pub row_bytes: usize,
}

impl Packing {
    /// Rows of a group, and the group's bytes: one page of short rows, or the pages of one long row.
    pub fn group(&self) -> (usize, usize) {
        if self.row_bytes <= PAGE_BYTES {
            (PAGE_BYTES / self.row_bytes.max(1), PAGE_BYTES)
        } else {
            (1, self.row_bytes.next_multiple_of(PAGE_BYTES))
        }
    }

    /// Bytes of a section of so many rows: it ends with the last of them. Saturates, as hostile files may claim anything.
    pub fn section_bytes(&self, rows: u64) -> u64 {
        let (group_rows, group_bytes) = self.group();
        let Some(last) = rows.checked_sub(1) else {
            return 0;
        };
        let group = (last / group_rows as u64).saturating_mul(group_bytes as u64);
        group.saturating_add((last % group_rows as u64 + 1) * self.row_bytes as u64)
    }

    /// Offset of a row in its section.
    pub fn offset(&self, row: u64) -> u64 {
        let (group_rows, group_bytes) = self.group();
        row / group_rows as u64 * group_bytes as u64 + row % group_rows as u64 * self.row_bytes as u64
    }

    /// Appends a row to the current section.
    pub fn write(&self, writer: &mut PagedWriter, row: &[u8]) -> std::io::Result<()> {
        assert_eq!(row.len(), self.row_bytes, "row of another length");
        if writer.room() < self.row_bytes {
            writer.fill_page()?;
        }
        writer.write(row)
    }

    /// The bytes of a row.
    #[inline]
    pub fn row<'a>(&self, file: &'a PagedFile, section: usize, row: u64) -> Result<&'a [u8], ReadError> {
        let start = self.offset(row);
        file.bytes(section, start..start + self.row_bytes as u64)
    }

    /// Bytes of the rows `from..` that lie end to end with `from`, up to `end`; and how many.
    pub fn run<'a>(
        &self,
        file: &'a PagedFile,
        section: usize,
        from: u64,
        end: u64,
    ) -> Result<(&'a [u8], usize), ReadError> {
        let (group_rows, _) = self.group();
        let rows = (group_rows as u64 - from % group_rows as u64).min(end - from);
        let start = self.offset(from);
        Ok((
            file.bytes(section, start..start + rows * self.row_bytes as u64)?,
            index(rows),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Footer, Kind};
    use super::*;

    #[test]
    fn rows_of_any_length_read_back_and_short_ones_stay_in_a_page() {
        for row_bytes in [2, 4, 768, 1536, 2048, 4096, 4100, 16384] {
            let directory = tempfile::tempdir().unwrap();
            let mut writer = PagedWriter::create(directory.path(), "f").unwrap();
            let packing = Packing { row_bytes };
            let row = |number: u64| vec![number as u8 + 1; row_bytes];
            writer.section().unwrap();
            for number in 0..40 {
                packing.write(&mut writer, &row(number)).unwrap();
            }
            writer.finish(Footer::new(Kind::Dense, 1, 40)).unwrap();
            let file = PagedFile::open(directory.path(), "f", None).unwrap();
            assert_eq!(file.section_bytes(0), packing.section_bytes(40), "{row_bytes}");
            let mut from = 0;
            while from < 40 {
                let (bytes, rows) = packing.run(&file, 0, from, 40).unwrap();
                assert_eq!(
                    bytes,
                    (from..from + rows as u64).flat_map(row).collect::<Vec<_>>(),
                    "{row_bytes}"
                );
                from += rows as u64;
            }
            for number in 0..40 {
                assert_eq!(packing.row(&file, 0, number).unwrap(), row(number));
                let (start, end) = (packing.offset(number), packing.offset(number) + row_bytes as u64 - 1);
                assert!(
                    row_bytes > 4096 || start / 4096 == end / 4096,
                    "{row_bytes} row {number}"
                );
            }
        }
    }
}
