//! What answers that were asked again exactly teach: how wide walks must be for queries as they come.

use std::sync::Arc;

use super::{Index, LOCK};
use crate::coarse::permille;
use crate::query::{Params, Query, Verify};
use crate::search::check::Checked;

impl Index {
    /// Learns from an answer to `query` that was [checked](crate::View::check): where walks find less than the recall that was wanted
    /// of them, later ones for this recall are made wider. `walked` is what [`Found`](crate::Found) says: what was not walked
    /// teaches only that narrower walks would do. Nothing is learned of answers that owe nothing to a wanted recall: those
    /// with a width of their own, under a filter, exact, certified, or by estimates alone.
    pub fn learn(&self, query: &Query, walked: bool, checked: &Checked) {
        let Params {
            exact,
            ef,
            target_recall,
            verify,
            certified,
        } = query.params;
        let wanted = target_recall.unwrap_or(self.options.target_recall);
        let is_of_walks = !exact && !certified && ef.is_none() && verify != Verify::None && query.filter.is_empty();
        let lacks = (checked.found as f64) < f64::from(wanted) * checked.wanted as f64;
        if wanted >= 1.0 || !is_of_walks || (lacks && !walked) {
            return;
        }
        let mut state = self.state.write().expect(LOCK);
        if state.schema.vector(&query.using).is_some() {
            let widenings = Arc::make_mut(&mut Arc::make_mut(&mut state).widenings);
            let of_vector = widenings.entry(query.using.clone()).or_default();
            let widening = of_vector.entry(permille(wanted)).or_default();
            widening.learn(f64::from(wanted), checked.found, checked.wanted);
        }
    }
}
