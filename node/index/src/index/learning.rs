//! What answers that were asked again exactly teach: how wide walks must be for queries as they come.

use std::sync::Arc;

use super::{Index, LOCK};
use crate::query::{Params, Query};
use crate::search::check::Checked;

impl Index {
    /// Learns from an answer to `query` that was [checked](View::check): where walks find less than the recall that was wanted of
    /// them, later ones are made wider. Of answers that owe nothing to that nothing is learned: those with a width of their own,
    /// under a filter, exact or certified.
    pub fn learn(&self, query: &Query, checked: &Checked) {
        let Params {
            exact,
            ef,
            target_recall,
            certified,
            ..
        } = query.params;
        let wanted = target_recall.unwrap_or(self.options.target_recall);
        if wanted >= 1.0 || exact || certified || ef.is_some() || !query.filter.is_empty() {
            return;
        }
        let mut state = self.state.write().expect(LOCK);
        if state.schema.vector(&query.using).is_some() {
            let widenings = &mut Arc::make_mut(&mut state).widenings;
            let widening = Arc::make_mut(widenings).entry(query.using.clone()).or_default();
            widening.learn(f64::from(wanted), checked.found, checked.wanted);
        }
    }
}
