//! What did a row of simulations come to? Sums for whoever reads the log of a run.

use std::fmt;
use std::time::Duration;

use crate::faults::Tally;
use crate::world::Report;

/// Sums over reports.
#[derive(Debug, Default)]
pub struct Summary {
    seeds: u64,
    writes: (u64, u64, u64),
    reads: (u64, u64, u64),
    faults: Tally,
    cuts: u64,
    restarts: (u64, u64),
    entries: u64,
    applied: u64,
    seals: u64,
    installed: u64,
    sent: u64,
    lost: u64,
    twice: u64,
    terms: u64,
    slowest_healing: Duration,
}

impl Summary {
    /// Adds them up.
    pub fn of(reports: &[Report]) -> Summary {
        let mut sum = Summary::default();
        for report in reports {
            sum.seeds += 1;
            sum.writes.0 += report.writes.0;
            sum.writes.1 += report.writes.1;
            sum.writes.2 += report.writes.2;
            sum.reads.0 += report.reads.0;
            sum.reads.1 += report.reads.1;
            sum.reads.2 += report.reads.2;
            for (kind, count) in &report.faults {
                *sum.faults.entry(*kind).or_default() += count;
            }
            sum.cuts += report.cuts;
            sum.restarts.0 += report.restarts.0;
            sum.restarts.1 += report.restarts.1;
            sum.entries += report.written.entries;
            sum.applied += report.written.applied;
            sum.seals += report.written.sealed;
            sum.installed += report.written.installed;
            sum.sent += report.carried.sent;
            sum.lost += report.carried.lost;
            sum.twice += report.carried.twice;
            sum.terms += report.terms;
            sum.slowest_healing = sum.slowest_healing.max(report.healed_in);
        }
        sum
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(f, "{} seeds, {faults} faults: {:?}", self.seeds, self.faults)?;
        writeln!(
            f,
            "{} writes, {} answered, {} of them only when asked again at the end; {} reads answered, {} of them \
             linearizable; {} reads not answered",
            self.writes.0, self.writes.1, self.writes.2, self.reads.0, self.reads.1, self.reads.2
        )?;
        writeln!(
            f,
            "{} restarts, {} after a replica's fault; {} power cuts inside a seal or an install; {} terms with a leader",
            self.restarts.0, self.restarts.1, self.cuts, self.terms
        )?;
        writeln!(
            f,
            "{} entries, applied {} times; {} seals; {} snapshots taken over",
            self.entries, self.applied, self.seals, self.installed
        )?;
        write!(
            f,
            "{} messages, {} lost, {} delivered twice; slowest healing {:.1} s of simulated time",
            self.sent,
            self.lost,
            self.twice,
            self.slowest_healing.as_secs_f64()
        )
    }
}
