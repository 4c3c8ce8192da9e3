//! Ids, versions and digests of a merged segment. The order of ids comes from the sources': run together, not sorted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Copying;
use crate::error::ReadError;
use crate::fine::{Footer, Kind, PagedWriter};
use crate::pace::{CopyError, Pace};
use crate::segment::{FileRef, names};

/// Writes the file; returns it with the sum of the digests.
pub(super) fn write(copying: &Copying<'_>, pace: &mut Pace<'_>) -> Result<(FileRef, u64), CopyError> {
    let mut writer = PagedWriter::create(copying.directory, &names::ids(copying.id))?;
    writer.section()?;
    for at in copying.rows {
        writer.write(&copying.source(at).version(at.row)?.to_le_bytes())?;
        pace.step(8)?;
    }
    writer.section()?;
    let mut end = 0u64;
    for at in copying.rows {
        end += copying.source(at).ids.encoded(at.row)?.len() as u64;
        writer.write(&end.to_le_bytes())?;
        pace.step(8)?;
    }
    writer.section()?;
    for at in copying.rows {
        let encoded = copying.source(at).ids.encoded(at.row)?;
        writer.write(encoded)?;
        pace.step(encoded.len())?;
    }
    writer.section()?;
    write_by_id(&mut writer, copying, pace)?;
    let mut sum = 0u64;
    writer.section()?;
    for at in copying.rows {
        let digest = copying.source(at).digest(at.row)?;
        sum = sum.wrapping_add(digest);
        writer.write(&digest.to_le_bytes())?;
        pace.step(8)?;
    }
    let file = writer.finish(Footer::new(Kind::Ids, copying.id.0, copying.rows.len() as u64))?;
    Ok((file, sum))
}

/// The rows in the order of their ids. An id that comes twice, or a row that does not come, is damage.
fn write_by_id(writer: &mut PagedWriter, copying: &Copying<'_>, pace: &mut Pace<'_>) -> Result<(), CopyError> {
    let damaged = |source: usize, problem: String| copying.sources[source].ids.file().malformed(problem);
    let mut orders = Vec::with_capacity(copying.sources.len());
    let mut heads = BinaryHeap::with_capacity(copying.sources.len());
    for (source, (segment, new_rows)) in copying.sources.iter().zip(&copying.new_rows).enumerate() {
        let order = segment.rows_from(None)?;
        let mut kept = order.filter_map(move |row| {
            let entry = |row: u32| match new_rows.new_row(row) {
                Some(new) => Ok(Some((segment.ids.encoded(row)?, new))),
                None => Ok::<_, ReadError>(None),
            };
            row.and_then(entry).transpose()
        });
        if let Some(head) = kept.next().transpose()? {
            heads.push(Reverse((head, source)));
        }
        orders.push(kept);
    }
    let (mut written, mut last): (usize, Option<&[u8]>) = (0, None);
    while let Some(Reverse(((encoded, new), source))) = heads.pop() {
        if last.is_some_and(|last| last >= encoded) {
            let problem = format!("id {encoded:02x?} is alive twice, or stands behind a greater one");
            return Err(damaged(source, problem).into());
        }
        last = Some(encoded);
        writer.write(&new.to_le_bytes())?;
        written += 1;
        pace.step(4)?;
        if let Some(head) = orders[source].next().transpose()? {
            heads.push(Reverse((head, source)));
        }
    }
    match written == copying.rows.len() {
        true => Ok(()),
        false => {
            let problem = format!("{written} of {} rows stand in the order of ids", copying.rows.len());
            Err(damaged(0, problem).into())
        }
    }
}
