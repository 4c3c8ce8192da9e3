//! Which files does a dense vector of a sealed segment get besides its values, and who makes them?

use std::path::Path;

use granum_model::VectorKind;

use super::codes::{self, encode};
use super::graph::{self, Links};
use super::link::{self, DEGREE, Space, Standing};
use super::origin::Origin;
use super::quantize::{Factors, Quantizer};
use super::recall::Curve;
use super::walk::NO_LINK;
use super::{Centroid, Coarse, Codes, Graph, build, cluster, rotate};
use crate::document::SegmentId;
use crate::error::BuildError;
use crate::executor::{Executor, Inline};
use crate::options::{Builder, Options};
use crate::pace::{CopyError, Pace, go_on_at};
use crate::segment::{VectorFile, names};
use crate::simd::PLACES_MAX;

/// Fewer rows get no codes: scoring them in full is as fast, and exact.
const CODES_ROWS_MIN: u64 = 256;
/// Fewer rows get no graph: a scan of their codes is as fast.
pub(crate) const GRAPH_ROWS_MIN: u64 = 1000;
/// A merged segment's graph is an extended one where a source has at least one of so many of its rows. Fewer, and the time is
/// about that of building anew (docs/decisions/0002-coarse-tier.md).
const EXTENDED_SHARE: usize = 2;
/// Seed of the order in which rows are linked and of the sample that is clustered: one for all, so that builds repeat.
const GRAPH_SEED: u64 = 0x6772_616e_756d;

/// What there is of the same vector in other segments.
pub(crate) struct Present {
    /// Segments that this one was merged from.
    pub origins: Vec<Origin>,
    /// What codes are about, the largest segment's first.
    pub centroids: Vec<Centroid>,
}

/// What a vector should have and lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub codes: bool,
    pub graph: bool,
}

impl Missing {
    /// Files.
    pub fn files(self) -> usize {
        usize::from(self.codes) + usize::from(self.graph)
    }
}

/// Whether rows of this file are worth codes.
pub(crate) fn wants_codes(vectors: &VectorFile, options: Options) -> bool {
    matches!(vectors.kind(), VectorKind::Dense { .. })
        && (CODES_ROWS_MIN..PLACES_MAX).contains(&vectors.places())
        && options.builder != Builder::Scan
}

/// Whether rows of this file are worth a graph.
pub(crate) fn wants_graph(vectors: &VectorFile, options: Options) -> bool {
    let fits = (GRAPH_ROWS_MIN..PLACES_MAX).contains(&vectors.places());
    let can_build = match options.builder {
        Builder::Scan | Builder::Codes => false,
        Builder::Granum => true,
        Builder::HnswRs => build::is_worthwhile(vectors),
    };
    wants_codes(vectors, options) && fits && can_build
}

/// The most that codes and graph of a dense vector take, but for the rest of their last pages.
pub(crate) fn bytes(vectors: &VectorFile, options: Options) -> u64 {
    let VectorKind::Dense { dimension } = vectors.kind() else {
        return 0;
    };
    let code = options.bits.row_bytes(rotate::padded(dimension as usize)) + size_of::<Factors>();
    let links = DEGREE * size_of::<u32>();
    vectors.places() * (code + links) as u64 + u64::from(dimension) * 4
}

/// What the options ask for and `vectors` lack, or have damaged.
pub(crate) fn missing(vectors: &VectorFile, options: Options) -> Missing {
    let coarse = vectors.coarse();
    let coarse = coarse
        .as_ref()
        .filter(|coarse| coarse.bits() == options.bits && coarse.is_sound());
    Missing {
        codes: wants_codes(vectors, options) && coarse.is_none(),
        graph: wants_graph(vectors, options) && coarse.is_none_or(|coarse| !coarse.has_graph()),
    }
}

/// Whether something is missing, as far as is known without reading it.
pub(crate) fn is_known_to_lack(vectors: &VectorFile, options: Options) -> bool {
    let coarse = vectors.coarse();
    let coarse = coarse
        .as_ref()
        .filter(|coarse| coarse.bits() == options.bits && !coarse.is_known_damaged());
    match coarse {
        None => wants_codes(vectors, options),
        Some(coarse) => wants_graph(vectors, options) && !coarse.has_graph(),
    }
}

/// Makes what is missing, out of what is present where that goes. Slow: for a worker.
pub(crate) fn derive(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    options: Options,
    missing: Missing,
    present: &Present,
    executor: &dyn Executor,
) -> Result<(), BuildError> {
    let VectorKind::Dense { dimension } = vectors.kind() else {
        return Ok(());
    };
    if missing.codes {
        write_codes(directory, segment, vectors, options, present, executor)?;
    }
    // A sound graph stays when only the codes were missing.
    let has_graph = || Graph::open(directory, segment, vectors).is_ok_and(|graph| graph.check().is_ok());
    if missing.graph && !has_graph() {
        let links = match options.builder {
            Builder::HnswRs => build::link(vectors, executor)?,
            _ => linked(vectors, dimension as usize, options, &present.origins, executor)?,
        };
        write_graph(directory, segment, vectors, &links, executor)?;
    }
    measure(directory, segment, vectors, executor)
}

/// Makes the codes of a new file, where they are worth it, and no graph.
pub(crate) fn encode_only(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    options: Options,
    centroids: Vec<Centroid>,
) -> Result<(), BuildError> {
    let present = Present {
        origins: Vec::new(),
        centroids,
    };
    match wants_codes(vectors, options) {
        true => write_codes(directory, segment, vectors, options, &present, &Inline),
        false => Ok(()),
    }
}

fn write_codes(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    options: Options,
    present: &Present,
    executor: &dyn Executor,
) -> Result<(), BuildError> {
    let VectorKind::Dense { dimension } = vectors.kind() else {
        return Ok(());
    };
    let seed = seed(vectors.name(), options);
    let plain = Quantizer::new(dimension as usize, options.bits, vectors.distance(), seed);
    let centroid = Centroid::of(vectors, &plain, &present.centroids)?;
    let quantizer = plain.about(centroid);
    let encoded = encode(vectors, &quantizer, &present.origins, executor)?;
    let pace = |bytes| executor.pace(bytes);
    let written = codes::write(directory, segment, vectors, &quantizer, &encoded, &mut Pace::new(&pace));
    written.map_err(CopyError::building(names::codes(segment, vectors.number())))?;
    Ok(())
}

/// Measures the recall of walks, where there is a graph that lacks it, and writes it to the graph's file.
fn measure(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    executor: &dyn Executor,
) -> Result<(), BuildError> {
    Codes::open(directory, segment, vectors)?;
    let Some(coarse) = Coarse::open(directory, segment, vectors) else {
        return Ok(());
    };
    let Some(graph) = coarse.graph().filter(|graph| graph.recall().points.is_empty()) else {
        return Ok(());
    };
    if let Some(recall) = Curve::measure(&coarse, vectors, executor)? {
        let links = Links {
            recall,
            ..graph.to_links()?
        };
        write_graph(directory, segment, vectors, &links, executor)?;
    }
    Ok(())
}

fn write_graph(
    directory: &Path,
    segment: SegmentId,
    vectors: &VectorFile,
    links: &Links,
    executor: &dyn Executor,
) -> Result<(), BuildError> {
    let pace = |bytes| executor.pace(bytes);
    let written = graph::write(directory, segment, vectors, links, &mut Pace::new(&pace));
    written.map_err(CopyError::building(names::graph(segment, vectors.number())))?;
    Ok(())
}

/// The rotation of a vector field: the same in all segments, so that codes can be copied.
pub(super) fn seed(name: &str, options: Options) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), options.seed)
}

/// Links by our own builder.
fn linked(
    vectors: &VectorFile,
    dimension: usize,
    options: Options,
    origins: &[Origin],
    executor: &dyn Executor,
) -> Result<Links, BuildError> {
    let space = Space::new(vectors, dimension, seed(vectors.name(), options), executor)?;
    let rows = space.rows() as usize;
    let row = |row: usize| space.decoded(row as u32);
    let entries = cluster::medoids(rows, cluster::entries(rows), GRAPH_SEED, &row, executor)?;
    let linked = match standing(origins, rows) {
        Some(standing) => link::extend(&space, &standing, &entries, GRAPH_SEED, executor)?,
        None => link::link(&space, &entries, GRAPH_SEED, executor)?,
    };
    let mut table = Vec::with_capacity(rows * DEGREE);
    for row in 0..rows as u32 {
        go_on_at(row as usize, executor)?;
        table.extend_from_slice(linked.of(row));
        table.resize((row as usize + 1) * DEGREE, NO_LINK);
    }
    Ok(Links {
        degree: DEGREE,
        table,
        entries,
        recall: Curve::default(),
    })
}

/// The graph to be extended: that of the source that has enough of the rows, if it is sound.
fn standing(origins: &[Origin], rows: usize) -> Option<Standing<'_>> {
    let largest = origins.iter().max_by_key(|origin| origin.pairs().count())?;
    if largest.pairs().count() * EXTENDED_SHARE < rows {
        return None;
    }
    let graph = largest.sound_graph().filter(|graph| graph.degree() == DEGREE)?;
    Some(Standing {
        links: graph.links().ok()?,
        degree: graph.degree(),
        entries: graph.entries(),
        origin: largest,
    })
}
