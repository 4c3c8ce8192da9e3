//! Writes the payload of a segment, row by row or in blocks that were packed before.

use std::path::Path;
use std::sync::Arc;

use super::{BLOCK_BYTES, Block};
use crate::document::{Document, SegmentId};
use crate::fine::{Footer, Kind, PagedWriter};
use crate::segment::{FileRef, names};

/// zstd's level of compression.
const LEVEL: i32 = 3;

pub(in crate::segment) fn write(
    directory: &Path,
    segment: SegmentId,
    documents: &[Arc<Document>],
) -> std::io::Result<FileRef> {
    let mut writer = PayloadWriter::create(directory, segment)?;
    for document in documents {
        writer.push(&document.payload)?;
    }
    writer.finish()
}

/// Blocks go to disk as they fill; what stays in memory are the tables, 4 bytes a row and 16 a block.
pub(in crate::segment) struct PayloadWriter {
    file: PagedWriter,
    segment: SegmentId,
    packer: zstd::bulk::Compressor<'static>,
    table: Vec<u8>,
    ends: Vec<u8>,
    /// The open block.
    block: Vec<u8>,
    /// Its first row.
    first_row: u32,
    rows: u32,
    packed_end: u64,
}

impl PayloadWriter {
    pub fn create(directory: &Path, segment: SegmentId) -> std::io::Result<PayloadWriter> {
        let mut file = PagedWriter::create(directory, &names::payload(segment))?;
        file.section()?;
        Ok(PayloadWriter {
            file,
            segment,
            packer: zstd::bulk::Compressor::new(LEVEL)?,
            table: Vec::new(),
            ends: Vec::new(),
            block: Vec::new(),
            first_row: 0,
            rows: 0,
            packed_end: 0,
        })
    }

    /// Bytes in the open block.
    pub fn open_bytes(&self) -> usize {
        self.block.len()
    }

    /// Appends a row.
    pub fn push(&mut self, payload: &[u8]) -> std::io::Result<()> {
        self.block.extend_from_slice(payload);
        self.ends.extend_from_slice(&(self.block.len() as u32).to_le_bytes());
        self.rows += 1;
        match self.block.len() >= BLOCK_BYTES {
            true => self.close_block(),
            false => Ok(()),
        }
    }

    /// Appends all rows of a block as they are packed.
    pub fn push_block(&mut self, block: &Block<'_>) -> std::io::Result<()> {
        self.close_block()?;
        self.ends.extend_from_slice(block.ends);
        self.rows += block.rows.len() as u32;
        self.write_packed(block.packed)
    }

    fn close_block(&mut self) -> std::io::Result<()> {
        if self.first_row == self.rows {
            return Ok(());
        }
        let packed = self.packer.compress(&self.block)?;
        self.block.clear();
        self.write_packed(&packed)
    }

    /// The rows from `first_row` on are these bytes.
    fn write_packed(&mut self, packed: &[u8]) -> std::io::Result<()> {
        self.file.write(packed)?;
        self.packed_end += packed.len() as u64;
        self.table.extend_from_slice(&self.packed_end.to_le_bytes());
        self.table.extend_from_slice(&self.first_row.to_le_bytes());
        self.table.extend_from_slice(&[0; 4]);
        self.first_row = self.rows;
        Ok(())
    }

    pub fn finish(mut self) -> std::io::Result<FileRef> {
        self.close_block()?;
        for section in [&self.table, &self.ends] {
            self.file.section()?;
            self.file.write(section)?;
        }
        let footer = Footer::new(Kind::Payload, self.segment.0, u64::from(self.rows));
        self.file.finish(footer)
    }
}
