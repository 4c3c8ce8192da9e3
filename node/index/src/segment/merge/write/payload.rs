//! Payload of a merged segment: blocks of which every row goes on are copied packed as they are.

use super::Copying;
use crate::pace::{CopyError, Pace};
use crate::segment::FileRef;
use crate::segment::merge::order::SourceRow;
use crate::segment::payload::{BLOCK_BYTES, Block, PayloadCursor, PayloadWriter};

/// Blocks that hold less are unpacked and joined with their neighbours, so that merge after merge leaves no crumbs.
const WHOLE_BYTES_MIN: usize = BLOCK_BYTES / 4;

pub(super) fn write(copying: &Copying<'_>, pace: &mut Pace<'_>) -> Result<FileRef, CopyError> {
    let mut writer = PayloadWriter::create(copying.directory, copying.id)?;
    let mut cursors: Vec<PayloadCursor<'_>> = copying.sources.iter().map(|source| source.payloads()).collect();
    let mut rest = copying.rows;
    while let Some(at) = rest.first() {
        let is_boundary = !(1..WHOLE_BYTES_MIN).contains(&writer.open_bytes());
        let whole = if is_boundary { whole_block(copying, rest)? } else { None };
        match whole {
            Some(block) => {
                writer.push_block(&block)?;
                rest = &rest[block.rows.len()..];
                pace.step(block.packed.len())?;
            }
            None => {
                let payload = cursors[at.source as usize].read(at.row)?;
                writer.push(payload)?;
                pace.step(payload.len())?;
                rest = &rest[1..];
            }
        }
    }
    Ok(writer.finish()?)
}

/// The block that begins with the first of `rows`, if all its rows come next and it is large enough to be left alone.
fn whole_block<'a>(copying: &'a Copying<'_>, rows: &[SourceRow]) -> Result<Option<Block<'a>>, CopyError> {
    let first = rows[0];
    let payloads = &copying.source(&first).payloads;
    if !payloads.begins_block(first.row)? {
        return Ok(None);
    }
    let block = payloads.block(payloads.block_of(first.row)?)?;
    let is_next = rows.len() >= block.rows.len()
        && (block.rows.clone().zip(rows)).all(|(row, next)| (next.source, next.row) == (first.source, row));
    Ok((is_next && block.unpacked_bytes >= WHOLE_BYTES_MIN).then_some(block))
}
