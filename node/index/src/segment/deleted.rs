//! Dead rows of a segment, a file for each generation: a roaring bitmap in its portable format, section 0.

use std::path::Path;

use roaring::RoaringBitmap;

use super::{FileRef, names};
use crate::document::SegmentId;
use crate::error::ReadError;
use crate::fine::{Footer, Kind, PagedFile, PagedWriter};

pub(crate) fn write(
    directory: &Path,
    segment: SegmentId,
    generation: u64,
    rows: u32,
    dead: &RoaringBitmap,
) -> std::io::Result<FileRef> {
    let mut writer = PagedWriter::create(directory, &names::deleted(segment, generation))?;
    writer.section()?;
    writer.write(&encode(dead)?)?;
    writer.finish(Footer::new(Kind::Deleted, segment.0, u64::from(rows)))
}

pub(crate) fn read(file: &PagedFile) -> Result<RoaringBitmap, ReadError> {
    decode(file, 0)
}

/// A bitmap in roaring's portable format.
pub(crate) fn encode(bitmap: &RoaringBitmap) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes)?;
    Ok(bytes)
}

/// Reads a bitmap of rows out of a section; every row in it is below the file's number of rows.
pub(super) fn decode(file: &PagedFile, section: usize) -> Result<RoaringBitmap, ReadError> {
    decode_bytes(file, file.section(section)?)
}

/// Reads a bitmap of rows out of bytes of a file.
pub(crate) fn decode_bytes(file: &PagedFile, mut bytes: &[u8]) -> Result<RoaringBitmap, ReadError> {
    let bitmap =
        RoaringBitmap::deserialize_from(&mut bytes).map_err(|error| file.malformed(format!("bitmap: {error}")))?;
    if !bytes.is_empty() {
        return Err(file.malformed(format!("bitmap: {} bytes too many", bytes.len())));
    }
    match bitmap.max() {
        Some(row) if u64::from(row) >= file.footer().rows => {
            Err(file.malformed(format!("row {row} of {} in a bitmap", file.footer().rows)))
        }
        _ => Ok(bitmap),
    }
}
