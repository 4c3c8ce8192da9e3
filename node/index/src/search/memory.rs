//! Documents in memory: most are ruled out by their codes, the others scored exactly at once.
//!
//! There is nothing to save for later as with rows on disk: a document is scored in a fraction of a microsecond. Where codes
//! don't help, all are: while a chunk fills, under a filter (which may let any of them through), for `exact`, for vectors
//! that are not dense, and for short ones.

use super::together::scan_together;
use super::{STOP_ROWS, Search};
use crate::coarse::Places;
use crate::coarse::chunk::Chunks;
use crate::coarse::seek::Named;
use crate::error::SearchError;
use crate::metric::Probe;
use crate::query::RowRef;
use crate::recent::{CHUNK_ROWS, Recent};

/// Asks documents in memory. Queries that codes rule rows out for share a scan of those.
pub(super) fn search(searches: &mut [Search<'_>], part: u32, recent: &Recent) -> Result<(), SearchError> {
    let Some(first) = searches.first() else {
        return Ok(());
    };
    let field = first.field;
    let (mut coded, others): (Vec<_>, Vec<_>) = searches.iter_mut().partition(|search| search.rules_out());
    for search in others {
        search.score_all(part, recent, &[])?;
    }
    if coded.is_empty() {
        return Ok(());
    }
    let (numbers, codes) = recent.coded(&field.name);
    for search in &mut coded {
        search.score_all(part, recent, &numbers)?;
    }
    if codes.is_empty() {
        return Ok(());
    }
    let places = (numbers.len() * CHUNK_ROWS) as u32;
    let place_of = |row: u32| {
        let chunk = numbers.binary_search(&(row as usize / CHUNK_ROWS)).ok()?;
        Some((chunk * CHUNK_ROWS) as u32 + row % CHUNK_ROWS as u32)
    };
    let dead = recent.dead();
    let alive = (!dead.is_empty()).then(|| Places::all_but(places, dead.iter().filter_map(place_of)));
    let chunks = Chunks::new(codes, CHUNK_ROWS);
    let named = scan_together(&mut coded, |scans, stop| chunks.scan(alive.as_ref(), scans, stop))?;
    for (search, named) in coded.into_iter().zip(named) {
        search.prove_memory(part, recent, &numbers, named);
    }
    Ok(())
}

impl Search<'_> {
    /// Whether codes may rule documents out.
    fn rules_out(&self) -> bool {
        self.filter.is_none() && !self.query.params.exact && matches!(self.probe, Probe::Dense { .. })
    }

    /// Scores every document of the chunks that are not `coded`.
    fn score_all(&mut self, part: u32, recent: &Recent, coded: &[usize]) -> Result<(), SearchError> {
        let mut candidates = Vec::new();
        for (row, document) in recent.live_without(coded) {
            if row % STOP_ROWS == 0 && (self.stop)() {
                return Err(SearchError::Stopped);
            }
            let vector = document.vector(&self.field.name);
            let Some(score) = vector.and_then(|vector| self.probe.score(vector)) else {
                continue;
            };
            self.usage.rows_scored += 1;
            if !self.best.admits(score) {
                continue;
            }
            match self.filter {
                None => self.offer(score, document.id.clone(), RowRef { part, row }),
                Some(_) => candidates.push((score, row)),
            }
        }
        self.filter_memory(part, recent, candidates)
    }

    /// Scores documents that codes have named in chunks with these `numbers`.
    fn prove_memory(&mut self, part: u32, recent: &Recent, numbers: &[usize], mut named: Vec<Named>) {
        let row_of = |place: u32| {
            let number = numbers[place as usize / CHUNK_ROWS];
            (number * CHUNK_ROWS) as u32 + place % CHUNK_ROWS as u32
        };
        // Best first, so that what comes later is ruled out by what is known.
        named.sort_unstable_by(|left, right| right.interval.estimate.total_cmp(&left.interval.estimate));
        for Named { place, interval } in named {
            if !self.best.admits(interval.upper()) {
                continue;
            }
            let row = row_of(place);
            let document = recent.document(row);
            let vector = document.vector(&self.field.name);
            let Some(score) = vector.and_then(|vector| self.probe.score(vector)) else {
                continue;
            };
            if self.best.admits(score) {
                self.offer(score, document.id.clone(), RowRef { part, row });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

    use crate::{Document, Index, Options, Params, Query};

    const DIMENSION: usize = 96;
    const K: usize = 10;
    const DISTANCES: [Distance; 4] = [Distance::Cosine, Distance::Dot, Distance::Euclid, Distance::Manhattan];

    fn field(name: &str, distance: Distance) -> VectorField {
        VectorField::new(
            name,
            VectorKind::Dense {
                dimension: DIMENSION as u32,
            },
            distance,
            Fine::F32,
        )
    }

    /// Of unit length, about one of 16 centres.
    fn vector(number: u64) -> Vector {
        let draw = |at: u64| (xxhash_rust::xxh3::xxh3_64(&at.to_le_bytes()) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let component = |at: u64| draw(number % 16 * 1000 + at) + draw((number + 1) << 20 | at);
        let row: Vec<f32> = (0..DIMENSION as u64).map(component).collect();
        let length = row.iter().map(|component| component * component).sum::<f32>().sqrt();
        Vector::Dense(Dense::F32(row.iter().map(|component| component / length).collect()))
    }

    fn query(name: &str, number: u64, params: Params) -> Query {
        Query {
            using: name.into(),
            vector: vector(number),
            filter: Filter::default(),
            k: K,
            threshold: None,
            exclude: None,
            params,
        }
    }

    fn ids(index: &Index, query: Query) -> (Vec<DocId>, crate::Usage) {
        let found = index.view().search(&[query], &|| false).unwrap().remove(0);
        (found.hits.into_iter().map(|hit| hit.hit.id).collect(), found.usage)
    }

    #[test]
    fn documents_in_memory_are_found_by_code_whatever_died_and_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let fields = DISTANCES.map(|distance| field(&format!("{distance:?}"), distance));
        let schema = Schema {
            vectors: [fields.to_vec(), vec![field("some", Distance::Cosine)]].concat(),
            ..Schema::default()
        };
        let index = Index::open(folder.path(), schema.clone(), Options::default(), &[]).unwrap();
        for number in 0..1500 {
            // One vector is missing from every document of one chunk, and from some of another.
            let is_there = |name: &str| name != "some" || !(256..520).contains(&number);
            let names = schema.vectors.iter().map(|field| field.name.clone());
            let vectors = names.filter(|name| is_there(name)).map(|name| (name, vector(number)));
            let document = Document {
                id: DocId::Number(number),
                version: 1,
                payload: Arc::from(&b"{}"[..]),
                vectors: vectors.collect(),
            };
            index.insert(document, None).unwrap();
        }
        for number in (0..1500).step_by(7) {
            assert!(index.delete(&DocId::Number(number), None));
        }
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        for field in &schema.vectors {
            let (mut right, mut asked) = (0, 0);
            for number in 1500..1600 {
                let (truth, _) = ids(&index, query(&field.name, number, exact));
                let (found, usage) = ids(&index, query(&field.name, number, Params::default()));
                assert_eq!(found.len(), K, "{}", field.name);
                assert!(usage.rows_scored > 900, "{}: {usage:?}", field.name);
                right += found.iter().filter(|id| truth.contains(id)).count();
                asked += K;
            }
            let recall = right as f64 / asked as f64;
            assert!(recall >= 0.995, "{}: recall {recall}", field.name);
        }
        // A document is found by its own vector at once, and gone at once.
        for number in [1, 300, 1499] {
            let near = |index: &Index| ids(index, query("Euclid", number, Params::default())).0;
            assert_eq!(near(&index)[0], DocId::Number(number));
            index.delete(&DocId::Number(number), None);
            assert!(!near(&index).contains(&DocId::Number(number)));
        }
    }

    #[test]
    fn a_full_chunk_has_codes_and_they_are_counted_as_memory() {
        let folder = tempfile::tempdir().unwrap();
        let schema = Schema {
            vectors: vec![field("v", Distance::Cosine)],
            ..Schema::default()
        };
        let index = Index::open(folder.path(), schema, Options::default(), &[]).unwrap();
        let insert = |number| {
            let document = Document {
                id: DocId::Number(number),
                version: 1,
                payload: Arc::from(&b"{}"[..]),
                vectors: vec![("v".into(), vector(number))],
            };
            index.insert(document, None).unwrap();
            index.stats().recent_bytes
        };
        let sizes: Vec<u64> = (0..300).map(insert).collect();
        let growth = |row: usize| sizes[row] - sizes[row - 1];
        let row = growth(255) - growth(254);
        // A code of 128 padded dimensions at 4 bits, and three factors.
        assert_eq!(row, 256 * (64 + 12));
        assert_eq!(growth(256), growth(254));
        let certified = Params {
            certified: true,
            ..Params::default()
        };
        let found = index
            .view()
            .search(&[query("v", 301, certified)], &|| false)
            .unwrap()
            .remove(0);
        assert!(found.delta.is_some_and(|delta| delta > 0.0), "{:?}", found.delta);
    }
}
