//! Which rows lead to which: a flat table of links on disk, one fixed-size list a place.
//!
//! Sections: 0 links, `degree` u32 a place, filled with [`NO_LINK`] · 1 entry places, u32 each. The footer's dimension is
//! the degree, its fingerprint the checksum table's digest of the vector file. Links are read through the page checksums
//! like all else; a list of 32 links is two cache lines.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bytes::u32_at;
use crate::document::SegmentId;
use crate::error::{OpenError, ReadError};
use crate::fine::{Footer, Kind, PagedFile, PagedWriter};
use crate::segment::{FileRef, VectorFile, names};

const LINKS: usize = 0;
const ENTRIES: usize = 1;
/// Fills a list that is shorter than the degree.
const NO_LINK: u32 = u32::MAX;
/// Longest list of links.
const DEGREE_MAX: u32 = 256;
/// Most entry places.
pub(super) const ENTRIES_MAX: usize = 64;

/// Links by place, as a builder makes them.
pub(super) struct Links {
    pub degree: usize,
    /// A list a place, best first; cut at `degree`.
    pub lists: Vec<Vec<u32>>,
    pub entries: Vec<u32>,
}

/// Writes the graph of `vectors`, which are vector `number` of the segment.
pub(super) fn write(
    directory: &Path,
    segment: SegmentId,
    number: usize,
    vectors: &VectorFile,
    links: &Links,
) -> std::io::Result<FileRef> {
    let mut writer = PagedWriter::create(directory, &names::graph(segment, number))?;
    writer.section()?;
    for list in &links.lists {
        let filled = list
            .iter()
            .copied()
            .chain(std::iter::repeat(NO_LINK))
            .take(links.degree);
        writer.write(&filled.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())?;
    }
    writer.section()?;
    for entry in links.entries.iter().take(ENTRIES_MAX) {
        writer.write(&entry.to_le_bytes())?;
    }
    let footer = Footer::new(Kind::Graph, segment.0, vectors.places());
    writer.finish(Footer {
        dimension: links.degree as u32,
        fingerprint: vectors.identity(),
        ..footer
    })
}

/// An open graph. Invariant: a list of `degree` links for each place of the vector file it was derived from.
pub(crate) struct Graph {
    file: PagedFile,
    degree: u64,
    entries: Vec<u32>,
    is_damaged: AtomicBool,
}

impl Graph {
    /// Opens the graph of `vectors`, if there is one that fits.
    pub fn open(directory: &Path, segment: SegmentId, number: usize, vectors: &VectorFile) -> Result<Graph, OpenError> {
        let file = PagedFile::open(directory, &names::graph(segment, number), None)?;
        let footer = file.footer();
        let fits = footer.kind == Kind::Graph
            && footer.segment == segment.0
            && footer.rows == vectors.places()
            && footer.fingerprint == vectors.identity();
        let degree = u64::from(footer.dimension);
        let is_whole = (1..=u64::from(DEGREE_MAX)).contains(&degree)
            && file.section_bytes(LINKS) == footer.rows * degree * 4
            && file.section_bytes(ENTRIES) <= ENTRIES_MAX as u64 * 4;
        if !fits || !is_whole {
            return Err(file.malformed("not the graph of this segment's vectors").into());
        }
        let entries = file.section(ENTRIES)?;
        let entries: Vec<u32> = (0..entries.len() / 4).filter_map(|at| u32_at(entries, at)).collect();
        if entries.is_empty() || entries.iter().any(|entry| u64::from(*entry) >= footer.rows) {
            return Err(file.malformed("entry places out of range").into());
        }
        Ok(Graph {
            file,
            degree,
            entries,
            is_damaged: AtomicBool::new(false),
        })
    }

    /// Where a walk begins.
    pub fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// Places.
    pub fn places(&self) -> u64 {
        self.file.footer().rows
    }

    /// The places that `place` leads to.
    pub fn links(&self, place: u32) -> Result<impl Iterator<Item = u32> + '_, ReadError> {
        let start = u64::from(place) * self.degree * 4;
        let list = self.file.bytes(LINKS, start..start + self.degree * 4)?;
        let links = list.chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0));
        Ok(links.filter(|link| u64::from(*link) < self.places()))
    }

    /// Checks every page and every link.
    pub fn check(&self) -> Result<(), ReadError> {
        let section = self.file.section(LINKS)?;
        let links = section.chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0));
        match links
            .into_iter()
            .find(|link| *link != NO_LINK && u64::from(*link) >= self.places())
        {
            Some(link) => Err(self
                .file
                .malformed(format!("a link to place {link} of {}", self.places()))),
            None => Ok(()),
        }
    }

    /// Whether a page was found damaged: the graph is done without until it is built anew.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// Remembers that a page is damaged.
    pub fn give_up(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }
}
