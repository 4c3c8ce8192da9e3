//! Queries asked together: what they need of the same rows is done once for all of them.

use std::sync::Arc;

use super::Search;
use crate::coarse::seek::{Named, Scan};
use crate::coarse::{Coarse, Places};
use crate::error::SearchError;
use crate::fine::verify::Claim;
use crate::metric::Probe;
use crate::query::RowRef;

/// What a segment has still to be asked for a query.
pub(super) enum Left {
    Nothing,
    /// The codes of some rows.
    Codes(Codes),
    /// The score of every row.
    Rows,
}

/// Codes to be scanned.
pub(super) struct Codes {
    pub coarse: Arc<Coarse>,
    /// `None`: of all places.
    pub among: Option<Arc<Places>>,
}

impl Codes {
    fn is_same(&self, other: &Codes) -> bool {
        let address = |codes: &Codes| (Arc::as_ptr(&codes.coarse), codes.among.as_ref().map(Arc::as_ptr));
        address(self) == address(other)
    }
}

/// Scans codes of a segment, each once for all queries that ask for the same.
pub(super) fn scan_codes(part: u32, mut asked: Vec<(&mut Search<'_>, Codes)>) -> Result<(), SearchError> {
    while let Some((search, codes)) = asked.pop() {
        let (together, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, own)| own.is_same(&codes));
        asked = others;
        let mut searches: Vec<&mut Search<'_>> = together.into_iter().map(|(search, _)| search).collect();
        searches.push(search);
        let Codes { coarse, among } = codes;
        let named = scan_together(&mut searches, |scans, stop| coarse.scan(among.as_deref(), scans, stop))?;
        for (search, named) in searches.into_iter().zip(named) {
            search.claim(part, named);
        }
    }
    Ok(())
}

/// What one `scan` names for each of `searches`.
pub(super) fn scan_together(
    searches: &mut [&mut Search<'_>],
    scan: impl Fn(&mut [Scan<'_>], &dyn Fn() -> bool) -> Option<u64>,
) -> Result<Vec<Vec<Named>>, SearchError> {
    let Some(first) = searches.first() else {
        return Ok(Vec::new());
    };
    let stop = first.stop;
    let mut scans: Vec<Scan<'_>> = searches.iter().map(|search| search.scan_of_codes()).collect();
    let scored = scan(&mut scans, stop).ok_or(SearchError::Stopped)?;
    let named = scans.into_iter().map(Scan::into_named).collect();
    for search in searches {
        search.certificate.scanned();
        search.usage.rows_scored += scored;
    }
    Ok(named)
}

impl Search<'_> {
    /// Takes candidates of a part.
    pub(super) fn claim(&mut self, part: u32, named: Vec<Named>) {
        for Named { place, interval } in named {
            self.lower.push(interval.lower());
            self.named.push(Claim::estimated(RowRef { part, row: place }, interval));
        }
    }

    /// What certainly scores less is not wanted.
    pub(super) fn floor(&self) -> f32 {
        self.best.worst().max(self.lower.worst())
    }

    /// The scan of codes that this query asks for.
    fn scan_of_codes(&self) -> Scan<'_> {
        let Probe::Dense { query, .. } = &self.probe else {
            unreachable!("codes are of dense vectors");
        };
        Scan::new(query, self.wanted(), self.certificate.deviations(), self.floor())
    }
}
