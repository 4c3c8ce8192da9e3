//! Writes a column's file (docs/formats/segment.md draws it). The same values give the same bytes.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use granum_model::PayloadField;
use roaring::RoaringBitmap;

use super::gather::{Gathering, Values};
use super::numbers::entries_a_block;
use super::open::{Layout, dimension, layout};
use crate::fine::{Footer, Kind, PagedWriter};
use crate::segment::{Segment, deleted, names};

pub(super) fn write(directory: &Path, segment: &Segment, field: &PayloadField, gathering: Gathering) -> io::Result<()> {
    let mut writer = PagedWriter::create(directory, &names::column(segment.id, field))?;
    let Values {
        marks,
        terms,
        numbers,
        points,
    } = gathering.values();
    write_bitmaps(&mut writer, marks)?;
    match layout(field.kind) {
        Layout::Terms => write_terms(&mut writer, terms)?,
        Layout::Numbers => write_numbers(&mut writer, numbers)?,
        Layout::Points => write_points(&mut writer, points)?,
    }
    let footer = Footer::new(Kind::Column, segment.id.0, u64::from(segment.rows));
    writer.finish(Footer {
        dimension: dimension(field.kind),
        fingerprint: segment.payload_identity(),
        name: field.key.clone(),
        ..footer
    })?;
    Ok(())
}

/// Two sections: ends, u64 each, and the bitmaps end to end.
fn write_bitmaps(writer: &mut PagedWriter, bitmaps: impl IntoIterator<Item = RoaringBitmap>) -> io::Result<()> {
    let (mut ends, mut content) = (Vec::new(), Vec::new());
    for bitmap in bitmaps {
        append(&mut content, bitmap)?;
        ends.extend_from_slice(&(content.len() as u64).to_le_bytes());
    }
    for section in [ends, content] {
        writer.section()?;
        writer.write(&section)?;
    }
    Ok(())
}

fn append(content: &mut Vec<u8>, mut bitmap: RoaringBitmap) -> io::Result<()> {
    bitmap.optimize();
    content.extend_from_slice(&deleted::encode(&bitmap)?);
    Ok(())
}

fn write_terms(writer: &mut PagedWriter, terms: HashMap<Vec<u8>, RoaringBitmap>) -> io::Result<()> {
    let mut terms: Vec<(Vec<u8>, RoaringBitmap)> = terms.into_iter().collect();
    terms.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    let (mut table, mut bytes, mut postings) = (Vec::new(), Vec::new(), Vec::new());
    for (term, rows) in terms {
        bytes.extend_from_slice(&term);
        append(&mut postings, rows)?;
        table.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        table.extend_from_slice(&(postings.len() as u64).to_le_bytes());
    }
    for section in [table, bytes, postings] {
        writer.section()?;
        writer.write(&section)?;
    }
    Ok(())
}

fn write_numbers(writer: &mut PagedWriter, mut numbers: Vec<(u64, u32)>) -> io::Result<()> {
    numbers.sort_unstable();
    numbers.dedup();
    writer.section()?;
    for (key, _) in &numbers {
        writer.write(&key.to_le_bytes())?;
    }
    writer.section()?;
    for (_, row) in &numbers {
        writer.write(&row.to_le_bytes())?;
    }
    let blocks = numbers.chunks(entries_a_block(numbers.len() as u64) as usize);
    write_bitmaps(writer, blocks.map(|block| block.iter().map(|(_, row)| *row).collect()))
}

fn write_points(writer: &mut PagedWriter, mut points: Vec<(f64, f64, u32)>) -> io::Result<()> {
    points.sort_unstable_by(|left, right| {
        let by_place = left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1));
        by_place.then(left.2.cmp(&right.2))
    });
    writer.section()?;
    for (lat, lon, _) in &points {
        writer.write(&lat.to_le_bytes())?;
        writer.write(&lon.to_le_bytes())?;
    }
    writer.section()?;
    for (_, _, row) in &points {
        writer.write(&row.to_le_bytes())?;
    }
    Ok(())
}
