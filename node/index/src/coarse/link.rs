//! The builder of graphs: which rows lead to which, from codes alone, in parallel, the same for any number of threads.
//!
//! A flat graph in the manner of Vamana (DiskANN, NeurIPS 2019), built in batches as in ParlayANN (PPoPP 2024): the
//! entries are linked first; then rows in random order, in batches of up to a fiftieth of what is linked already. Each
//! row of a batch walks the graph as it was before the batch, and picks its links by the rule below; then all the links
//! back are added, grouped by target. No step depends on who computed what, so the same rows and seed give the same graph.
//! Rows inserted early saw few others, so a second round links every row once more, among all.
//!
//! *The rule* (alpha-RNG): among candidates, nearest first, one is dropped if a link already taken is `alpha` times nearer
//! to it than the row itself is: the walk gets there by way of that link. What is dropped fills places left over.
//!
//! Distances are squared Euclid's between 8-bit codes ([`Space`]), whose error is far below the gaps between neighbours.
//! At the end every row is reachable from the entries: what is not is linked from the nearest row that is ([`reach`]). Where
//! a merged segment's largest source has a graph, rows are inserted into that instead ([`mod@extend`]).

mod extend;
mod reach;
mod space;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::walk::{NO_LINK, Terrain, Walker};
use crate::executor::{Executor, map};
use crate::pace::{Stopped, go_on_at};
use crate::simd::{self, key, of_key};
pub(super) use extend::{Standing, extend};
use space::Point;
pub(super) use space::Space;

/// Links of a row.
pub(super) const DEGREE: usize = 32;
/// Links that a row may collect before they are picked over again.
const SLACK: usize = 16;
const ROOM: usize = DEGREE + SLACK;
/// How much nearer a taken link must be to drop a candidate, as a ratio of squared distances. On Debian's vectors, rows scored
/// for recall 0.98: 1.0 over 1,050, 1.1 670, 1.2 830, 1.44 over 940.
const ALPHA: f32 = 1.1;
/// Candidates that a row's walk keeps: in the first round, over a graph that is not whole yet, and in the second.
const WIDTH_FIRST: usize = 64;
const WIDTH: usize = 128;
/// Entries that a walk begins at.
const STARTS: usize = 4;
/// A batch is at most one of so many of the rows already linked.
const BATCH_SHARE: usize = 50;
/// But at least so many, or as many as there are entries.
const BATCH_ROWS_MIN: usize = 64;
/// And at most so many: the links back of a batch are sorted in one go.
const BATCH_ROWS_MAX: usize = 1 << 14;
/// Rows linked by one piece of work.
const PIECE_ROWS: usize = 32;
/// Taken links that a candidate is compared with at a time.
const LOOKS: usize = 8;

/// Links of all rows, `ROOM` places each.
pub(super) struct Links {
    table: Vec<u32>,
    counts: Vec<u8>,
}

impl Links {
    fn new(rows: usize) -> Links {
        Links {
            table: vec![NO_LINK; rows * ROOM],
            counts: vec![0; rows],
        }
    }

    pub(super) fn of(&self, row: u32) -> &[u32] {
        &self.table[row as usize * ROOM..][..usize::from(self.counts[row as usize])]
    }

    fn set(&mut self, row: u32, links: &[u32]) {
        assert!(links.len() <= ROOM, "{} links, room for {ROOM}", links.len());
        let own = &mut self.table[row as usize * ROOM..][..ROOM];
        own[..links.len()].copy_from_slice(links);
        own[links.len()..].fill(NO_LINK);
        self.counts[row as usize] = links.len() as u8;
    }
}

/// A row's view of the graph while it is built.
struct Ground<'a> {
    space: &'a Space,
    links: &'a Links,
    query: &'a Point,
}

impl Terrain for Ground<'_> {
    fn places(&self) -> u32 {
        self.space.rows()
    }

    fn links(&self, place: u32) -> &[u32] {
        self.links.of(place)
    }

    fn rank(&self, places: &[u32], worst: f32, keys: &mut Vec<u64>) {
        const TILE: usize = 64;
        let mut scores = [0.0; TILE];
        for places in places.chunks(TILE) {
            let scores = &mut scores[..places.len()];
            self.space.rough_scores(self.query, places, scores);
            simd::select(scores, places, worst, keys);
        }
    }

    fn expect_links(&self, place: u32) {
        simd::prefetch_words(self.links.of(place));
    }

    fn expect_ranks(&self, places: &[u32]) {
        self.space.expect_rough(places);
    }
}

/// Links all rows; `entries` are distinct rows that walks begin at.
pub(super) fn link(space: &Space, entries: &[u32], seed: u64, executor: &dyn Executor) -> Result<Links, Stopped> {
    let rows = space.rows() as usize;
    let mut links = Links::new(rows);
    let order = shuffled(rows, entries, seed);
    let first = entries.len();
    let picked = map(executor, first, |at| {
        let others = entries.iter().copied().filter(|other| *other != entries[at]);
        pick(space, entries[at], others.collect(), DEGREE)
    });
    for (entry, picked) in entries.iter().zip(picked?) {
        links.set(*entry, &picked);
    }
    insert_all(
        space,
        &mut links,
        (entries, WIDTH_FIRST),
        &order[first..],
        first,
        executor,
    )?;
    insert_all(space, &mut links, (entries, WIDTH), &order, rows, executor)?;
    trim(space, &mut links, executor)?;
    reach::connect(space, &mut links, entries, executor)?;
    Ok(links)
}

/// Links `rows` in batches into a graph of `done` rows; their walks begin at entries and keep so many candidates.
fn insert_all(
    space: &Space,
    links: &mut Links,
    (entries, width): (&[u32], usize),
    mut rows: &[u32],
    mut done: usize,
    executor: &dyn Executor,
) -> Result<(), Stopped> {
    while !rows.is_empty() {
        let least = entries.len().clamp(1, BATCH_ROWS_MIN);
        let (batch, rest) = rows.split_at((done / BATCH_SHARE).clamp(least, BATCH_ROWS_MAX).min(rows.len()));
        insert(space, links, (entries, width), batch, executor)?;
        done += batch.len();
        rows = rest;
    }
    Ok(())
}

/// Entries first, then all other rows in an order that depends on the seed only.
fn shuffled(rows: usize, entries: &[u32], seed: u64) -> Vec<u32> {
    let mut is_entry = vec![false; rows];
    for entry in entries {
        is_entry[*entry as usize] = true;
    }
    let mut others: Vec<(u64, u32)> = (0..rows as u32)
        .filter(|row| !is_entry[*row as usize])
        .map(|row| (xxh3_64_with_seed(&row.to_le_bytes(), seed), row))
        .collect();
    others.sort_unstable();
    entries
        .iter()
        .copied()
        .chain(others.into_iter().map(|(_, row)| row))
        .collect()
}

/// Links a batch of rows into the graph as it stands, and the graph back to them.
fn insert(
    space: &Space,
    links: &mut Links,
    (entries, width): (&[u32], usize),
    batch: &[u32],
    executor: &dyn Executor,
) -> Result<(), Stopped> {
    let pieces = map(executor, batch.len().div_ceil(PIECE_ROWS), |piece| {
        let rows = &batch[piece * PIECE_ROWS..((piece + 1) * PIECE_ROWS).min(batch.len())];
        let mut walker = Walker::default();
        let one = |row: &u32| {
            let query = space.point(*row);
            let ground = Ground {
                space,
                links,
                query: &query,
            };
            walker.walk(&ground, entries, STARTS, width);
            let found = walker.best().map(|(_, place)| place);
            let mut candidates: Vec<u32> = found
                .chain(links.of(*row).iter().copied())
                .filter(|place| place != row)
                .collect();
            candidates.sort_unstable();
            candidates.dedup();
            pick(space, *row, candidates, DEGREE)
        };
        rows.iter().map(one).collect::<Vec<_>>()
    });
    let picked: Vec<Vec<u32>> = pieces?.into_iter().flatten().collect();
    let mut back: Vec<(u32, u32)> = Vec::new();
    for (row, picked) in batch.iter().zip(&picked) {
        links.set(*row, picked);
        back.extend(picked.iter().map(|target| (*target, *row)));
    }
    link_back(space, links, back, executor)
}

/// Adds links (target, source); a target whose room is full picks over all it has.
fn link_back(
    space: &Space,
    links: &mut Links,
    mut back: Vec<(u32, u32)>,
    executor: &dyn Executor,
) -> Result<(), Stopped> {
    back.sort_unstable();
    let targets: Vec<&[(u32, u32)]> = back.chunk_by(|left, right| left.0 == right.0).collect();
    let pieces = map(executor, targets.len().div_ceil(PIECE_ROWS), |piece| {
        let own = &targets[piece * PIECE_ROWS..((piece + 1) * PIECE_ROWS).min(targets.len())];
        let one = |sources: &&[(u32, u32)]| {
            let target = sources[0].0;
            let standing = links.of(target);
            let mut all = standing.to_vec();
            all.extend(
                sources
                    .iter()
                    .map(|(_, source)| *source)
                    .filter(|source| !standing.contains(source)),
            );
            if all.len() > ROOM {
                all = pick(space, target, all, DEGREE);
            }
            (target, all)
        };
        own.iter().map(one).collect::<Vec<_>>()
    });
    for (target, all) in pieces?.into_iter().flatten() {
        links.set(target, &all);
    }
    Ok(())
}

/// Brings every row's links down to the degree.
fn trim(space: &Space, links: &mut Links, executor: &dyn Executor) -> Result<(), Stopped> {
    let rows = space.rows() as usize;
    let pieces = map(executor, rows.div_ceil(PIECE_ROWS), |piece| {
        let own = piece * PIECE_ROWS..((piece + 1) * PIECE_ROWS).min(rows);
        own.map(|row| pick(space, row as u32, links.of(row as u32).to_vec(), DEGREE))
            .collect::<Vec<_>>()
    });
    for (row, picked) in (0u32..).zip(pieces?.into_iter().flatten()) {
        go_on_at(row as usize, executor)?;
        links.set(row, &picked);
    }
    Ok(())
}

/// Picks up to `most` links of `row` by the rule; candidates are distinct and not `row`. Nearest first.
fn pick(space: &Space, row: u32, candidates: Vec<u32>, most: usize) -> Vec<u32> {
    let own = space.point(row);
    space.expect(&candidates);
    let mut scores = vec![0.0; candidates.len()];
    space.scores(&own, &candidates, &mut scores);
    let mut nearest: Vec<u64> = scores
        .iter()
        .zip(&candidates)
        .map(|(score, candidate)| key(*score, *candidate))
        .collect();
    nearest.sort_unstable();
    let mut taken: Vec<u32> = Vec::with_capacity(most);
    let mut dropped = Vec::new();
    let mut between = [0.0; LOOKS];
    let mut point = Point::default();
    for key in nearest {
        let (score, candidate) = of_key(key);
        if taken.len() == most {
            break;
        }
        let distance = space.distance(&own, score);
        space.take(candidate, &mut point);
        let is_dropped = taken.chunks(LOOKS).any(|taken| {
            let between = &mut between[..taken.len()];
            space.scores(&point, taken, between);
            between
                .iter()
                .any(|score| ALPHA * space.distance(&point, *score) <= distance)
        });
        if is_dropped {
            dropped.push(candidate);
        } else {
            taken.push(candidate);
        }
    }
    let left = most - taken.len();
    taken.extend(dropped.into_iter().take(left));
    taken
}
