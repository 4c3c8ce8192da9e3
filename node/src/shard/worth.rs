//! When is what a replica holds unsealed worth a segment?

use std::time::Duration;

use granum_index::Stats;

use super::options::Options;

/// Unsealed bytes from which a replica is worth sealing for the sake of the node's budget.
const CROWDED_BYTES: u64 = 1 << 20;
/// Unsealed documents from which a replica that is written to no more is worth sealing: a graph finds them faster than a scan.
const QUIET_DOCUMENTS: u64 = 1000;
/// Sealed rows whose death is not yet sealed from which a replica is worth sealing, where they are a share of all that is
/// worth a merge: deletes alone fill no memory, and only what is sealed as dead is merged away.
const DEAD_ROWS: u64 = 4096;

/// Whether a replica of these sizes, to which nothing was applied for so long, should be sealed now.
pub(super) fn sealing(stats: &Stats, quiet: Duration, options: &Options) -> bool {
    let budget = &options.budget;
    let is_full = stats.unfrozen_bytes >= options.seal_bytes;
    let is_crowding = budget.used_bytes() > budget.limit_bytes() / 2 && stats.unfrozen_bytes >= CROWDED_BYTES;
    let is_quiet =
        options.seal_quiet.is_some_and(|enough| quiet >= enough) && stats.recent_documents >= QUIET_DOCUMENTS;
    let died = stats.unsealed_dead_rows;
    let is_worn = died >= DEAD_ROWS && died * 100 >= stats.segment_rows * options.merge.dead_percent;
    is_full || is_crowding || is_quiet || is_worn
}
