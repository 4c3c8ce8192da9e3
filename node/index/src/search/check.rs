//! How many of the k best did an answer find? The same query is asked again, exactly, of the view that it was answered from.
//!
//! A hit counts by its score, not by its id: where scores are equal around the k-th, either document is right. Scores that
//! were estimates in the answer are made exact before they are compared.

use granum_model::ScoreInterval;

use super::search;
use crate::error::{ReadError, SearchError};
use crate::metric::Probe;
use crate::query::{Params, Query, RowHit, Usage};
use crate::view::View;

/// What an exact search made of an answer. Invariant: `found <= wanted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Documents that are among the k best: k, or fewer where fewer there are.
    pub wanted: usize,
    /// Of them, those that the answer has.
    pub found: usize,
    /// What the check cost.
    pub usage: Usage,
}

impl Checked {
    /// The recall of the answer, 0..=1; `None`: there was nothing to find.
    pub fn recall(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.found as f64 / self.wanted as f64)
    }
}

/// Checks the hits that `view` gave for `query`.
pub(crate) fn check(
    view: &View,
    query: &Query,
    hits: &[RowHit],
    stop: &dyn Fn() -> bool,
) -> Result<Checked, SearchError> {
    let exact = Query {
        params: Params {
            exact: true,
            ..query.params
        },
        ..query.clone()
    };
    let truth = search(view, std::slice::from_ref(&exact), stop)?.remove(0);
    let mut checked = Checked {
        wanted: truth.hits.len(),
        found: 0,
        usage: truth.usage,
    };
    if let Some(worst) = truth.hits.last() {
        for hit in hits {
            if exact_score(view, query, hit)?.is_some_and(|score| score >= worst.hit.score) {
                checked.found += 1;
            }
        }
    }
    // Under a threshold, an answer that reads no rows may have more hits than there are.
    checked.found = checked.found.min(checked.wanted);
    Ok(checked)
}

fn exact_score(view: &View, query: &Query, hit: &RowHit) -> Result<Option<f32>, SearchError> {
    if hit.interval == ScoreInterval::exact(hit.hit.score) {
        return Ok(Some(hit.hit.score));
    }
    let damaged = || ReadError::malformed("view", format!("{:?} has lost the vector it was found by", hit.row));
    let field = view.schema().vector(&query.using).ok_or_else(damaged)?;
    let row = view.vector(hit.row, &query.using)?.ok_or_else(damaged)?;
    Ok(Probe::new(field, &query.vector)?.score(&row))
}
