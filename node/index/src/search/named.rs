//! Candidates by code: which way does a segment name them, and which of their rows are read?

use std::sync::Arc;

use granum_model::{Distance, ScoreInterval};
use roaring::RoaringBitmap;

use super::Search;
use super::filtered::disk_rows;
use super::reads::Reads;
use crate::coarse::Coarse;
use crate::coarse::seek::Named;
use crate::error::{ReadError, SearchError};
use crate::fine::verify::{Claim, boundary, in_order, members};
use crate::metric::Probe;
use crate::query::{RowRef, Verify};
use crate::segment::VectorFile;
use crate::state::Live;
use crate::top_k::{Candidate, TopK, TopScores};
use crate::view::{Part, View};

/// A walk keeps at least this many more than are wanted.
const EF_MARGIN: usize = 2;
/// Rows that a walk scores: so many to get there, and so many for each place that it keeps (measured at R = 32).
const WALK_ROWS: (f64, f64) = (320.0, 15.0);
/// Up to so many rows are scanned where the query does not say how wide a walk should be: a tenth of a millisecond, and nothing
/// is missed but by the bound.
const SMALL_ROWS: f64 = 20_000.0;
/// Rows scanned in the time of one scored on a walk: over all rows, and over those that pass, where each link of a link is
/// looked up in a bitmap (measured: 135 ns a row scored).
const SCAN_GAIN: f64 = 2.0;
const SCAN_GAIN_PASSING: f64 = 28.0;
/// Where fewer rows pass, only those are walked to.
const PASS_SHARE: f64 = 0.4;

/// Documents that a filter is evaluated on before rows are scored; where more are in doubt, scores come first.
const DOUBTFUL_MAX: u64 = 256;

/// Which rows may be hits, as far as the filter says.
enum Passing {
    All,
    Rows(Arc<RoaringBitmap>),
    /// To be found out document by document.
    Unknown,
}

/// How candidates are found in one segment.
enum Plan {
    /// All rows that may be hits, by their codes.
    Scan,
    /// Along the graph; hits are what may be.
    Walk { width: usize },
    /// Along the graph, over rows that pass.
    WalkPassing { width: usize },
}

/// One segment, as one query sees it.
#[derive(Clone, Copy)]
struct Ground<'a> {
    coarse: &'a Coarse,
    live: &'a Live,
    file: &'a VectorFile,
    /// Live rows that have the vector and pass the filter; `None`: there is no filter.
    passing: Option<&'a RoaringBitmap>,
}

impl Ground<'_> {
    /// Rows that may be hits; without a filter no fewer than there are.
    fn hits(&self) -> u64 {
        let all = || self.live.live_rows().min(self.file.places());
        self.passing.map_or_else(all, RoaringBitmap::len)
    }
}

impl Search<'_> {
    /// Names candidates of a segment by codes. False: it has no sound ones, the query asks for exact scores of all rows, or
    /// the filter's rows are not known.
    pub(super) fn name(&mut self, part: u32, live: &Live, file: &VectorFile) -> Result<bool, SearchError> {
        let coarse = file.coarse();
        let Some(coarse) = coarse
            .as_ref()
            .filter(|coarse| !self.query.params.exact && coarse.is_sound())
        else {
            return Ok(false);
        };
        let probe = self.probe.clone();
        let Probe::Dense { query, .. } = &probe else {
            return Ok(false);
        };
        let passing = match self.passing(live, file)? {
            Passing::All => None,
            Passing::Rows(rows) => Some(rows),
            Passing::Unknown => return Ok(false),
        };
        let passing = passing.as_deref();
        let ground = Ground {
            coarse,
            live,
            file,
            passing,
        };
        let mut named = Vec::new();
        self.run(self.plan(&ground), &ground, query, &mut named)?;
        let claim = |Named { place, interval }| Claim::estimated(RowRef { part, row: place }, interval);
        self.named.extend(named.into_iter().map(claim));
        Ok(true)
    }

    /// Which live rows that have the vector pass the filter, if that is known or can be told from few documents.
    fn passing(&mut self, live: &Live, file: &VectorFile) -> Result<Passing, SearchError> {
        let Some(compiled) = &self.filter else {
            return Ok(Passing::All);
        };
        let segment = &live.segment;
        let rows = match segment.filters.get(&self.query.filter) {
            Some(rows) => rows,
            None if compiled.known(segment, self.stop)?.doubtful.len() > DOUBTFUL_MAX => return Ok(Passing::Unknown),
            None => disk_rows(segment, &self.query.filter, compiled, &mut self.usage, self.stop)?,
        };
        if live.dead.is_empty() && file.present().is_none() {
            return Ok(Passing::Rows(rows));
        }
        let mut alive = &*rows - &*live.dead;
        if let Some(present) = file.present() {
            alive &= present;
        }
        Ok(Passing::Rows(Arc::new(alive)))
    }

    fn wanted(&self) -> usize {
        self.query.k + usize::from(self.query.exclude.is_some())
    }

    fn plan(&self, ground: &Ground<'_>) -> Plan {
        let coarse = ground.coarse;
        let places = ground.file.places().max(1) as f64;
        let measured = || coarse.width(self.target_recall, self.wanted());
        let Some(width) = self.query.params.ef.map(|ef| ef as usize).or_else(measured) else {
            return Plan::Scan;
        };
        let width = width.max(self.wanted() + EF_MARGIN);
        let rows = ground.hits() as f64;
        let share = (rows / places).clamp(1e-9, 1.0);
        let walk_rows = |width: f64| WALK_ROWS.0 + WALK_ROWS.1 * width;
        let widened = width as f64 / share;
        let is_narrow = ground.passing.is_some() && share < PASS_SHARE;
        let worth = if is_narrow {
            SCAN_GAIN_PASSING * walk_rows(width as f64)
        } else {
            SCAN_GAIN * walk_rows(widened)
        };
        let is_small = self.query.params.ef.is_none() && rows <= SMALL_ROWS;
        if is_small || !coarse.has_graph() || rows <= worth {
            return Plan::Scan;
        }
        if is_narrow {
            Plan::WalkPassing { width }
        } else {
            Plan::Walk {
                width: widened.ceil() as usize,
            }
        }
    }

    fn run(
        &mut self,
        plan: Plan,
        ground: &Ground<'_>,
        query: &[f32],
        named: &mut Vec<Named>,
    ) -> Result<(), SearchError> {
        let Ground {
            coarse,
            live,
            file,
            passing,
        } = *ground;
        let is_hit = |place: u32| {
            let row = file.row(u64::from(place));
            !live.dead.contains(row) && passing.is_none_or(|rows| rows.contains(row))
        };
        let everywhere = live.dead.is_empty() && passing.is_none();
        let expect = |place| file.expect(u64::from(place));
        let (k, everyone) = (self.wanted(), None::<fn(u32) -> bool>);
        let walked = match plan {
            Plan::Walk { width } if everywhere => coarse.walk(query, (width, k), everyone, |_| true, expect, named),
            Plan::Walk { width } => coarse.walk(query, (width, k), everyone, is_hit, expect, named),
            Plan::WalkPassing { width } => coarse.walk(query, (width, k), Some(is_hit), is_hit, expect, named),
            Plan::Scan => None,
        };
        self.usage.rows_scored += walked.unwrap_or(0);
        if walked.is_some() && named.len() as u64 >= ground.hits().min(self.wanted() as u64) {
            return Ok(());
        }
        named.clear();
        let mut all = (0..file.places() as u32).filter(|place| is_hit(*place));
        let mut some = passing
            .into_iter()
            .flatten()
            .filter_map(|row| file.place(row))
            .map(|place| place as u32);
        let mut every = 0..file.places() as u32;
        let places: &mut dyn Iterator<Item = u32> = match passing {
            Some(_) => &mut some,
            None if everywhere => &mut every,
            None => &mut all,
        };
        let scored = coarse.scan(query, places, self.wanted(), self.best.worst(), self.stop, named);
        self.usage.rows_scored += scored.ok_or(SearchError::Stopped)?;
        Ok(())
    }

    /// The k best of all parts, best first, each with the interval of its score, having read what the query wants proved.
    pub(super) fn proved(&mut self, view: &View) -> Result<Vec<(Candidate, ScoreInterval)>, SearchError> {
        let best = std::mem::replace(&mut self.best, TopK::new(0, None));
        let named = std::mem::take(&mut self.named);
        if named.is_empty() {
            return Ok(exact(best));
        }
        let name = &self.field.name;
        let parts: Vec<Option<(&Live, &VectorFile)>> = view
            .parts()
            .map(|(_, part)| match part {
                Part::Memory(_) => None,
                Part::Disk(live) => live.segment.vector(name).map(|file| (live, file)),
            })
            .collect();
        let part = |item: &RowRef| parts[item.part as usize].expect("only segments with the vector name candidates");
        // An excluded document may be among the k: only known scores leave it out in time. Manhattan has no bounds.
        let must_read = self.query.exclude.is_some() || self.field.distance == Distance::Manhattan;
        let verify = if must_read {
            Verify::All
        } else {
            self.query.params.verify
        };
        match verify {
            Verify::All => self.prove_all(named, best, part),
            Verify::Bound => self.prove_members(named, best, part, true),
            Verify::None => self.prove_members(named, best, part, false),
        }
    }

    /// Exact scores, exact order.
    fn prove_all<'v>(
        &mut self,
        mut named: Vec<Claim<RowRef>>,
        mut best: TopK,
        part: impl Fn(&RowRef) -> (&'v Live, &'v VectorFile),
    ) -> Result<Vec<(Candidate, ScoreInterval)>, SearchError> {
        let query = self.query;
        let k = query.k + usize::from(query.exclude.is_some());
        let mut reads = Reads::new(&self.probe, &mut self.usage);
        // One more than wanted: the k best estimates are too high more often than too low (0.1 rows too few a query, not 0.4).
        let boundary = boundary(&named, k + 1, best.worst());
        reads.ask(named.iter().filter(|claim| claim.reaches(boundary)), |item| {
            part(item).1
        });
        // Ids are read of those that are left when all is proved: one more than wanted where one is excluded.
        let mut scores = TopScores::new(k, best.worst());
        in_order(
            &mut named,
            best.worst(),
            |item| reads.score(part(item).1, item),
            |item, score| -> Result<f32, ReadError> {
                scores.push(score, *item);
                Ok(scores.worst())
            },
        )?;
        reads.finish();
        for (score, item) in scores.into_found() {
            let (live, file) = part(&item);
            let row = file.row(u64::from(item.row));
            let id = live.segment.id(row)?;
            if query.exclude.as_ref() != Some(&id) {
                let row = RowRef { part: item.part, row };
                best.push(Candidate { score, id, row });
            }
        }
        Ok(exact(best))
    }

    /// Which are the k best, with scores as exact as that took; without `proofs`, by estimates alone.
    fn prove_members<'v>(
        &mut self,
        mut named: Vec<Claim<RowRef>>,
        best: TopK,
        part: impl Fn(&RowRef) -> (&'v Live, &'v VectorFile),
        proofs: bool,
    ) -> Result<Vec<(Candidate, ScoreInterval)>, SearchError> {
        let floor = self.query.threshold.unwrap_or(f32::NEG_INFINITY);
        let known = best.into_ranked();
        // Documents with known scores challenge too; their items are beyond all parts.
        let beyond = |(at, candidate): (u32, &Candidate)| {
            let item = RowRef {
                part: u32::MAX,
                row: at,
            };
            Claim::proved(item, candidate.score)
        };
        named.extend((0u32..).zip(&known).map(beyond));
        if proofs {
            let mut reads = Reads::new(&self.probe, &mut self.usage);
            let boundary = boundary(&named, self.query.k, floor);
            reads.ask(named.iter().filter(|claim| claim.crosses(boundary)), |item| {
                part(item).1
            });
            members(&mut named, self.query.k, floor, |item| reads.score(part(item).1, item))?;
            reads.finish();
        } else {
            named.retain(|claim| claim.interval.estimate >= floor);
            named.sort_by(|left, right| right.interval.estimate.total_cmp(&left.interval.estimate));
            named.truncate(self.query.k);
        }
        let mut found = Vec::with_capacity(named.len());
        for Claim { item, interval, .. } in named {
            let candidate = if item.part == u32::MAX {
                known[item.row as usize].clone()
            } else {
                let (live, file) = part(&item);
                let row = file.row(u64::from(item.row));
                Candidate {
                    score: interval.estimate,
                    id: live.segment.id(row)?,
                    row: RowRef { part: item.part, row },
                }
            };
            found.push((candidate, interval));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }
}

/// Candidates whose scores are known.
fn exact(best: TopK) -> Vec<(Candidate, ScoreInterval)> {
    let ranked = best.into_ranked().into_iter();
    ranked
        .map(|candidate| {
            let interval = ScoreInterval::exact(candidate.score);
            (candidate, interval)
        })
        .collect()
}
