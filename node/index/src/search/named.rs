//! Candidates by code: which way does a segment name them, and which of their rows are read?

use std::sync::Arc;

use granum_model::{Distance, Filter, ScoreInterval};

use super::Search;
use super::reads::Reads;
use super::together::{Codes, Left};
use crate::coarse::seek::{Aim, Named, Walked};
use crate::coarse::{Coarse, Places};
use crate::error::{ReadError, SearchError};
use crate::filter::known::Known;
use crate::fine::verify::{Claim, boundary, in_order, members};
use crate::metric::Probe;
use crate::query::{RowRef, Verify};
use crate::segment::{Segment, VectorFile};
use crate::state::Live;
use crate::top_k::{Candidate, TopK, TopScores};
use crate::view::{Part, View};

/// A walk keeps at least this many more than are wanted.
const EF_MARGIN: usize = 2;
/// Where there are no more documents than these (under a filter: no more rows of the segment pass), and the query does not
/// say how wide a walk should be, their codes are scanned: it takes as long as two or three walks, and nothing is missed but
/// by the bound (docs/decisions/0002-coarse-tier.md, 12 and 19).
const SMALL_ROWS: u64 = 5_000;
/// Where fewer rows pass, a walk over those only finds less the wider it is made: the links of links of a place, a thousand,
/// hold too few that pass.
const PASS_SHARE_MIN: f64 = 0.02;

/// What ways cost in nanoseconds, measured with codes of 4 bits and 384 dimensions (docs/benchmarks.md); only their ratios
/// matter, which hold for longer codes about as well.
mod cost {
    /// Scans `rows`, picked or all.
    pub fn scan(rows: f64) -> f64 {
        8.5 * rows
    }

    /// Walks with a beam of `width`: rows scored, times what each takes, with its share of the beam.
    pub fn walk(width: f64) -> f64 {
        (270.0 + 12.5 * width) * (16.0 + width / 45.0)
    }

    /// The same over rows that pass: most of it looks up the links of links.
    pub fn walk_passing(width: f64) -> f64 {
        4000.0 + 1550.0 * width
    }
}

/// Documents that a filter is evaluated on before rows are scored; where more are in doubt, scores come first.
const DOUBTFUL_MAX: u64 = 256;

/// Which places may be hits, as far as the filter says.
pub(super) enum Passing {
    All,
    Places(Arc<Places>),
    /// To be found out document by document.
    Doubtful(Known),
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
    /// Places of live rows that pass the filter; `None`: there is no filter.
    passing: Option<&'a Places>,
}

impl Ground<'_> {
    /// Rows that may be hits; without a filter no fewer than there are.
    fn hits(&self) -> u64 {
        let all = || self.live.live_rows().min(self.file.places());
        self.passing.map_or_else(all, Places::count)
    }

    fn is_hit(&self, place: u32) -> bool {
        match self.passing {
            Some(passing) => passing.contains(place),
            None => !self.live.dead.contains(self.file.row(u64::from(place))),
        }
    }
}

impl Search<'_> {
    /// What names candidates among `file`'s vectors; `None`: nothing sound does, or the query asks for exact scores of all.
    pub(super) fn coarse(&self, file: &VectorFile) -> Option<Arc<Coarse>> {
        let is_wanted = !self.query.params.exact && matches!(self.probe, Probe::Dense { .. });
        let coarse = file.coarse();
        coarse.as_ref().filter(|coarse| is_wanted && coarse.is_sound()).cloned()
    }

    /// Names candidates of a segment along its graph, among the places that pass; or says which codes are to be scanned.
    pub(super) fn name(
        &mut self,
        part: u32,
        coarse: Arc<Coarse>,
        live: &Live,
        file: &VectorFile,
        passing: Option<Arc<Places>>,
    ) -> Left {
        let ground = Ground {
            coarse: &coarse,
            live,
            file,
            passing: passing.as_deref(),
        };
        let plan = self.plan(&ground);
        if let Some(named) = self.walk(plan, &ground) {
            self.certificate.walked();
            self.claim(part, named);
            return Left::Nothing;
        }
        let has_dead = passing.is_none() && !live.dead.is_empty();
        let among = passing.or_else(|| has_dead.then(|| self.alive(live, file)));
        Left::Codes(Codes { coarse, among })
    }

    /// Which places of live rows pass the filter, if that is known or can be told from few documents.
    pub(super) fn passing(&mut self, live: &Live, file: &VectorFile) -> Result<Passing, SearchError> {
        let Some(compiled) = &self.filter else {
            return Ok(Passing::All);
        };
        let (segment, filter) = (&live.segment, &self.query.filter);
        if let Some(places) = segment.filters.places(filter, file, &live.dead) {
            return Ok(Passing::Places(places));
        }
        let known = compiled.known(segment, self.stop)?;
        if known.doubtful.len() > DOUBTFUL_MAX {
            return Ok(Passing::Doubtful(known));
        }
        let rows = self.evaluate(live, known)?;
        let remembered = segment.filters.places(filter, file, &live.dead);
        let places = remembered.unwrap_or_else(|| Arc::new(Places::of(file, &(&*rows - &*live.dead))));
        Ok(Passing::Places(places))
    }

    /// The cheapest way. Each is made as wide as finds no less than the query's width does without a filter.
    fn plan(&self, ground: &Ground<'_>) -> Plan {
        let coarse = ground.coarse;
        let measured = || Some(self.widening.of(coarse.width(self.target_recall, self.wanted())?));
        if self.certificate.is_wanted() {
            return Plan::Scan;
        }
        let Some(width) = self.query.params.ef.map(|ef| ef as usize).or_else(measured) else {
            return Plan::Scan;
        };
        // Small is what all parts have together: a scan of each would cost more than the walks.
        let candidates = ground.passing.map_or(self.documents, Places::count);
        let is_small = self.query.params.ef.is_none() && candidates <= SMALL_ROWS;
        if is_small || !coarse.has_graph() {
            return Plan::Scan;
        }
        let width = width.max(self.wanted() + EF_MARGIN) as f64;
        let rows = ground.hits() as f64;
        let share = (rows / ground.file.places().max(1) as f64).clamp(1e-9, 1.0);
        // Of a beam so wide, as many may be hits as of `width` where all may.
        let (wide, among) = (width / share, passing_width(width, share));
        let walk = cost::walk(wide);
        let walk_passing = match ground.passing {
            Some(_) if share >= PASS_SHARE_MIN => cost::walk_passing(among),
            _ => f64::INFINITY,
        };
        if cost::scan(rows) <= walk.min(walk_passing) {
            Plan::Scan
        } else if walk_passing < walk {
            let width = among.ceil() as usize;
            Plan::WalkPassing { width }
        } else {
            let width = wide.ceil() as usize;
            Plan::Walk { width }
        }
    }

    /// Candidates along the graph; `None`: the plan is a scan, or the walk met too few hits.
    fn walk(&mut self, plan: Plan, ground: &Ground<'_>) -> Option<Vec<Named>> {
        let Ground {
            coarse,
            live,
            file,
            passing,
        } = *ground;
        let Probe::Dense { query, .. } = &self.probe else {
            unreachable!("codes are of dense vectors");
        };
        let (k, mut named) = (self.wanted(), Vec::new());
        let is_hit = |place: u32| ground.is_hit(place);
        let everywhere = live.dead.is_empty() && passing.is_none();
        let expect = |place| file.expect(u64::from(place));
        let (width, passing) = match plan {
            Plan::Walk { width } => (width, None),
            Plan::WalkPassing { width } => (width, passing),
            Plan::Scan => return None,
        };
        let aim = Aim {
            width,
            k,
            floor: self.floor(),
            passing,
        };
        let Walked { scored, met } = match everywhere {
            true => coarse.walk(query, aim, |_| true, expect, &mut named),
            false => coarse.walk(query, aim, is_hit, expect, &mut named),
        }?;
        self.usage.rows_scored += scored;
        let is_enough = met as u64 >= ground.hits().min(k as u64);
        is_enough.then_some(named)
    }

    /// Places of all live rows: remembered as those that pass the filter that asks for nothing.
    fn alive(&self, live: &Live, file: &VectorFile) -> Arc<Places> {
        let (filters, everything) = (&live.segment.filters, Filter::default());
        let remembered = || filters.places(&everything, file, &live.dead);
        remembered().unwrap_or_else(|| {
            let rows = Known::all(live.segment.rows).certain;
            filters.put(&everything, Arc::new(rows));
            remembered()
                .unwrap_or_else(|| Arc::new(Places::of(file, &(Known::all(live.segment.rows).certain - &*live.dead))))
        })
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
        let has_no_bounds = self.field.distance == Distance::Manhattan;
        let must_read = self.query.exclude.is_some() || has_no_bounds || self.certificate.is_wanted();
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
        let found = scores.into_found();
        let of_segment = |item: &RowRef| {
            let (live, file) = part(item);
            (&*live.segment, file.row(u64::from(item.row)))
        };
        Segment::expect_ids(found.iter().map(|(_, item)| of_segment(item)));
        for (score, item) in found {
            let (segment, row) = of_segment(&item);
            let id = segment.id(row)?;
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
        let of_segment = |item: &RowRef| {
            let (live, file) = part(item);
            (&*live.segment, file.row(u64::from(item.row)))
        };
        let items = named.iter().map(|claim| &claim.item);
        Segment::expect_ids(items.filter(|item| item.part != u32::MAX).map(of_segment));
        let mut found = Vec::with_capacity(named.len());
        for Claim { item, interval, .. } in named {
            let candidate = if item.part == u32::MAX {
                known[item.row as usize].clone()
            } else {
                let (segment, row) = of_segment(&item);
                Candidate {
                    score: interval.estimate,
                    id: segment.id(row)?,
                    row: RowRef { part: item.part, row },
                }
            };
            found.push((candidate, interval));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }
}

/// How wide a walk over the passing share is to be, to find what one of `width` finds over all: it steps over gaps. Fitted to
/// recall at widths of 16 to 64 and shares of 2 to 20 %.
fn passing_width(width: f64, share: f64) -> f64 {
    (0.5 * width / share.sqrt()).max(width) + 8.0
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
