//! Payload by row: JSON in zstd blocks, several rows a block.
//!
//! Sections: 0 blocks, end to end · 1 table of blocks: end of the block u64, its first row u32, zero u32 · 2 end of each
//! row's JSON within its unpacked block, u32 a row.

mod writer;

use std::ops::Range;

use crate::bytes::{field, u32_at};
use crate::document::PAYLOAD_BYTES_MAX;
use crate::error::ReadError;
use crate::fine::PagedFile;
pub(super) use writer::{PayloadWriter, write};

const BLOCKS: usize = 0;
const TABLE: usize = 1;
const ENDS: usize = 2;
/// Bytes of an entry of the table.
const ENTRY_BYTES: u64 = 16;
/// A block is closed when it holds so much: about 4 KiB packed, a page read for a row.
pub(super) const BLOCK_BYTES: usize = 16 << 10;
/// What an unpacked block may hold at most: a block not yet closed and the largest payload.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + PAYLOAD_BYTES_MAX;

/// A block as it lies on disk.
pub(super) struct Block<'a> {
    /// Its rows, at least one.
    pub rows: Range<u32>,
    pub packed: &'a [u8],
    /// End of each row's JSON in the unpacked block, u32 a row.
    pub ends: &'a [u8],
    /// At most [`BLOCK_BYTES_MAX`].
    pub unpacked_bytes: usize,
}

/// Invariant: the tables have the lengths that rows and blocks ask for.
pub(super) struct Payloads {
    file: PagedFile,
    blocks: u64,
}

impl Payloads {
    pub fn open(file: PagedFile) -> Result<Payloads, ReadError> {
        let table_bytes = file.section_bytes(TABLE);
        if !table_bytes.is_multiple_of(ENTRY_BYTES) || file.section_bytes(ENDS) != file.footer().rows * 4 {
            return Err(file.malformed("tables of another length than rows and blocks"));
        }
        Ok(Payloads {
            blocks: table_bytes / ENTRY_BYTES,
            file,
        })
    }

    pub fn file(&self) -> &PagedFile {
        &self.file
    }

    /// End of a block's bytes and its first row.
    fn entry(&self, block: u64) -> Result<(u64, u32), ReadError> {
        let entry = self.file.bytes(TABLE, block * ENTRY_BYTES..(block + 1) * ENTRY_BYTES)?;
        Ok((u64::from_le_bytes(field(entry, 0)), u32::from_le_bytes(field(entry, 8))))
    }

    /// Whether `row` is the first of its block.
    pub fn begins_block(&self, row: u32) -> Result<bool, ReadError> {
        Ok(self.entry(self.block_of(row)?)?.1 == row)
    }

    /// A block with its bounds checked.
    pub fn block(&self, block: u64) -> Result<Block<'_>, ReadError> {
        let start = if block == 0 { 0 } else { self.entry(block - 1)?.0 };
        let (end, first_row) = self.entry(block)?;
        let rows_end = match block + 1 < self.blocks {
            true => self.entry(block + 1)?.1,
            false => self.file.footer().rows as u32,
        };
        let broken = |problem: String| self.file.malformed(format!("block {block}: {problem}"));
        if first_row >= rows_end {
            return Err(broken(format!("rows {first_row}..{rows_end}")));
        }
        let unpacked_bytes = self.end_in_block(rows_end - 1)?;
        if unpacked_bytes > BLOCK_BYTES_MAX {
            return Err(broken(format!(
                "{unpacked_bytes} bytes unpacked, at most {BLOCK_BYTES_MAX}"
            )));
        }
        Ok(Block {
            rows: first_row..rows_end,
            packed: self.file.bytes(BLOCKS, start..end)?,
            ends: self
                .file
                .bytes(ENDS, u64::from(first_row) * 4..u64::from(rows_end) * 4)?,
            unpacked_bytes,
        })
    }

    /// The block that holds `row`: the last that begins at or before it.
    pub fn block_of(&self, row: u32) -> Result<u64, ReadError> {
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.1 <= row {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
            .ok_or_else(|| self.file.malformed(format!("no block has row {row}")))
    }

    fn end_in_block(&self, row: u32) -> Result<usize, ReadError> {
        let start = u64::from(row) * 4;
        Ok(u32_at(self.file.bytes(ENDS, start..start + 4)?, 0).expect("four bytes") as usize)
    }
}

/// Reads payloads, keeping the block read last: rows in order unpack each block once.
pub(crate) struct PayloadCursor<'a> {
    payloads: &'a Payloads,
    unpacker: Option<zstd::bulk::Decompressor<'static>>,
    /// Rows of the block, from its first up to the next one's.
    rows: Range<u32>,
    block: Vec<u8>,
}

impl<'a> PayloadCursor<'a> {
    pub(super) fn new(payloads: &'a Payloads) -> PayloadCursor<'a> {
        PayloadCursor {
            payloads,
            unpacker: None,
            rows: 0..0,
            block: Vec::new(),
        }
    }

    /// The payload of `row`.
    pub fn read(&mut self, row: u32) -> Result<&[u8], ReadError> {
        if !self.rows.contains(&row) {
            self.unpack(self.payloads.block_of(row)?)?;
        }
        let start = if row == self.rows.start {
            0
        } else {
            self.payloads.end_in_block(row - 1)?
        };
        let end = self.payloads.end_in_block(row)?;
        let own = self.block.get(start..end);
        own.ok_or_else(|| {
            self.payloads
                .file
                .malformed(format!("row {row}: bytes {start}..{end} of its block"))
        })
    }

    fn unpack(&mut self, number: u64) -> Result<(), ReadError> {
        let block = self.payloads.block(number)?;
        let broken = |problem: String| self.payloads.file.malformed(format!("block {number}: {problem}"));
        let unpacker = match &mut self.unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|error| broken(error.to_string()))?),
        };
        self.rows = 0..0;
        self.block = unpacker
            .decompress(block.packed, block.unpacked_bytes)
            .map_err(|error| broken(error.to_string()))?;
        if self.block.len() != block.unpacked_bytes {
            let (found, expected) = (self.block.len(), block.unpacked_bytes);
            return Err(broken(format!("{found} bytes unpacked, expected {expected}")));
        }
        self.rows = block.rows;
        Ok(())
    }
}
