//! Which rows lead to which: a flat table of links on disk, one fixed-size list a place.
//!
//! Sections: 0 links, `degree` u32 a place, filled with [`NO_LINK`] · 1 entry places, u32 each · 2 the measured recall, pairs
//! of width (u32) and share of the hits found (f32), widths ascending; empty where it was not measured. The footer's dimension is
//! the degree, its fingerprint the checksum table's digest of the vector file. Links are read through the page checksums
//! like all else; a list of 32 links is two cache lines.

use std::path::Path;

use crate::bytes::{field, u32_at};
use crate::document::SegmentId;
use crate::error::{OpenError, ReadError};
use crate::fine::{Footer, Kind, PagedFile, PagedWriter};
use crate::pace::{CopyError, Pace};
use crate::segment::{FileRef, VectorFile, names};
use crate::simd;

use super::recall::Curve;
use super::walk::NO_LINK;

const LINKS: usize = 0;
const ENTRIES: usize = 1;
const RECALL: usize = 2;
/// Most pairs of the recall curve.
const RECALL_PAIRS_MAX: u64 = 64;
/// Longest list of links.
const DEGREE_MAX: u32 = 256;
/// Most entry places.
pub(super) const ENTRIES_MAX: usize = 512;

/// Links by place, as a builder makes them.
pub(super) struct Links {
    pub degree: usize,
    /// `degree` links a place, best first, filled with [`NO_LINK`].
    pub table: Vec<u32>,
    pub entries: Vec<u32>,
    pub recall: Curve,
}

/// Writes the graph of `vectors`.
pub(super) fn write(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    links: &Links,
    pace: &mut Pace<'_>,
) -> Result<FileRef, CopyError> {
    let mut writer = PagedWriter::create(directory, &names::graph(segment, vectors.number()))?;
    writer.section()?;
    for list in links.table.chunks_exact(links.degree) {
        for link in list {
            writer.write(&link.to_le_bytes())?;
        }
        pace.step(list.len() * 4)?;
    }
    pace.ask()?;
    writer.section()?;
    for entry in links.entries.iter().take(ENTRIES_MAX) {
        writer.write(&entry.to_le_bytes())?;
    }
    writer.section()?;
    for (width, recall) in &links.recall.points {
        writer.write(&width.to_le_bytes())?;
        writer.write(&recall.to_le_bytes())?;
    }
    let footer = Footer::new(Kind::Graph, segment.0, vectors.places());
    let finished = writer.finish(Footer {
        dimension: links.degree as u32,
        fingerprint: vectors.identity(),
        ..footer
    });
    Ok(finished?)
}

/// An open graph. Invariant: a list of `degree` links for each place of the vector file it was derived from.
pub(crate) struct Graph {
    file: PagedFile,
    degree: u64,
    entries: Vec<u32>,
    recall: Curve,
}

impl Graph {
    /// Opens the graph of `vectors`, if there is one that fits.
    pub fn open(directory: &Path, segment: SegmentId, vectors: &VectorFile) -> Result<Graph, OpenError> {
        let file = PagedFile::open(directory, &names::graph(segment, vectors.number()), None)?;
        let footer = file.footer();
        let fits = footer.kind == Kind::Graph
            && footer.segment == segment.0
            && footer.rows == vectors.places()
            && footer.fingerprint == vectors.identity();
        let degree = u64::from(footer.dimension);
        let is_whole = (1..=u64::from(DEGREE_MAX)).contains(&degree)
            && file.section_bytes(LINKS) == footer.rows * degree * 4
            && file.section_bytes(ENTRIES) <= ENTRIES_MAX as u64 * 4
            && file.section_bytes(RECALL).is_multiple_of(8)
            && file.section_bytes(RECALL) <= RECALL_PAIRS_MAX * 8;
        if !fits || !is_whole {
            return Err(file.malformed("not the graph of this segment's vectors").into());
        }
        let entries = file.section(ENTRIES)?;
        let entries: Vec<u32> = (0..entries.len() / 4).filter_map(|at| u32_at(entries, at)).collect();
        if entries.is_empty() || entries.iter().any(|entry| u64::from(*entry) >= footer.rows) {
            return Err(file.malformed("entry places out of range").into());
        }
        let recall = read_recall(file.section(RECALL)?);
        Ok(Graph {
            recall: recall.ok_or_else(|| file.malformed("a recall curve that is none"))?,
            file,
            degree,
            entries,
        })
    }

    /// The recall of walks over it.
    pub fn recall(&self) -> &Curve {
        &self.recall
    }

    /// All of it, to be written again.
    pub(super) fn to_links(&self) -> Result<Links, ReadError> {
        Ok(Links {
            degree: self.degree(),
            table: self.links()?.to_vec(),
            entries: self.entries.clone(),
            recall: self.recall.clone(),
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

    /// Checks every page, every link, that a list names no place twice, and that what fills it up stands at its end.
    pub fn check(&self) -> Result<(), ReadError> {
        self.file.check_all()?;
        let links = simd::words(self.file.section(LINKS)?);
        let is_far = |link: &&u32| **link != NO_LINK && u64::from(**link) >= self.places();
        if let Some(link) = links.iter().find(is_far) {
            let problem = format!("a link to place {link} of {}", self.places());
            return Err(self.file.malformed(problem));
        }
        let has_gap = |list: &[u32]| list.windows(2).any(|pair| pair[0] == NO_LINK && pair[1] != NO_LINK);
        match links.chunks_exact(self.degree()).position(has_gap) {
            Some(place) => Err(self.file.malformed(format!("a gap in the links of place {place}"))),
            None => self.check_twice(links),
        }
    }

    /// That no list names a place twice: each is compared with itself, moved by one, by two and so on.
    fn check_twice(&self, links: &[u32]) -> Result<(), ReadError> {
        let twice = |list: &[u32]| {
            // Counted to the end of the list: compiled to vectors, which a search for the first is not.
            let equal = |by: usize| {
                let pairs = list.iter().zip(&list[by..]);
                pairs.filter(|(left, right)| left == right && **left != NO_LINK).count()
            };
            (1..list.len()).any(|by| equal(by) > 0)
        };
        match links.chunks_exact(self.degree()).position(twice) {
            Some(place) => Err(self
                .file
                .malformed(format!("a place twice in the links of place {place}"))),
            None => Ok(()),
        }
    }

    /// Links of all places, `degree` each, filled with [`NO_LINK`].
    pub(super) fn links(&self) -> Result<&[u32], ReadError> {
        self.piece().map(simd::words)
    }

    /// Links of all places: what a search keeps in memory.
    pub(super) fn piece(&self) -> Result<&[u8], ReadError> {
        self.file.section(LINKS)
    }

    /// Links a place.
    pub(super) fn degree(&self) -> usize {
        self.degree as usize
    }
}

/// Pairs of width and recall; `None` where widths don't ascend or a recall is no share.
fn read_recall(section: &[u8]) -> Option<Curve> {
    let (pairs, _) = section.as_chunks::<8>();
    let pair = |pair: &[u8; 8]| (u32::from_le_bytes(field(pair, 0)), f32::from_le_bytes(field(pair, 4)));
    let points: Vec<(u32, f32)> = pairs.iter().map(pair).collect();
    let ascends = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let are_shares = points.iter().all(|(_, recall)| (0.0..=1.0).contains(recall));
    (ascends && are_shares).then_some(Curve { points })
}
