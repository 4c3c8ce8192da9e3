//! Do the replicas of a shard hold the same documents? Pure: reports in, verdict out.
//!
//! Each replica says how many documents it held at its last seals and what their digests add up to. Seals are entries of
//! the shard's log, so of two replicas that say different things of one entry at least one is wrong: a document was lost,
//! or came back, or another was written than the log says. A majority of the shard's replicas that agree outvotes the
//! others, which are then replaced as damaged ones are; without a majority it is a dispute, for people.

use std::collections::BTreeMap;

use granum_model::{NodeId, ReplicaId};

use super::observe::Reports;
use crate::map::Shard;

/// That replicas of a shard differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Divergence {
    /// The newest entry of the log as of which they do.
    pub index: u64,
    /// Replicas that a majority contradicts; none: it is not known who is wrong.
    pub outvoted: Vec<ReplicaId>,
}

/// Whether replicas of the shard, those that answer, differ; the newest seal tells that at least two of them speak of.
pub(crate) fn divergence(shard: &Shard, reports: &Reports) -> Option<Divergence> {
    let members = shard.record.replicas.iter().copied().chain(shard.joining());
    // By entry of the log, then by what is said of it: documents and digest.
    let mut said: BTreeMap<u64, BTreeMap<(u64, u64), Vec<ReplicaId>>> = BTreeMap::new();
    for member in members {
        let report = reports.replica(NodeId(member.node), shard.id);
        let own = report.filter(|report| report.replica == member.replica);
        for seal in own.iter().flat_map(|report| &report.seals) {
            let held = (seal.documents, seal.digest);
            let agreeing = said.entry(seal.index).or_default().entry(held).or_default();
            agreeing.push(ReplicaId(member.replica));
        }
    }
    let is_comparison = |said: &&BTreeMap<_, Vec<_>>| said.values().map(Vec::len).sum::<usize>() > 1;
    let (index, said) = said.iter().rev().find(|(_, said)| is_comparison(said))?;
    if said.len() == 1 {
        return None;
    }
    let is_majority = |agreeing: &Vec<ReplicaId>| agreeing.len() > shard.record.replicas.len() / 2;
    let outvoted = match said.values().any(is_majority) {
        true => said
            .values()
            .filter(|agreeing| !is_majority(agreeing))
            .flatten()
            .copied()
            .collect(),
        false => Vec::new(),
    };
    Some(Divergence {
        index: *index,
        outvoted,
    })
}

#[cfg(test)]
mod tests {
    use granum_model::ShardId;
    use granum_proto::internal::{Member, NodeReport, ReplicaReport, SealCensus, ShardRecord};

    use super::*;
    use crate::map::range::HashRange;

    /// A shard with a replica on as many nodes, each with seals as (index, documents, digest).
    #[track_caller]
    fn check(seals: &[&[(u64, u64, u64)]], expected: Option<(u64, &[u64])>) {
        let members: Vec<Member> = (1..=seals.len() as u64)
            .map(|number| Member {
                replica: number,
                node: number,
            })
            .collect();
        let report = |(member, seals): (&Member, &&[(u64, u64, u64)])| NodeReport {
            node: member.node,
            replicas: vec![ReplicaReport {
                shard: 7,
                replica: member.replica,
                seals: seals
                    .iter()
                    .map(|&(index, documents, digest)| SealCensus {
                        index,
                        documents,
                        digest,
                    })
                    .collect(),
                ..ReplicaReport::default()
            }],
            ..NodeReport::default()
        };
        let reports = Reports::new(members.iter().zip(seals).map(report));
        let shard = Shard {
            id: ShardId(7),
            epoch: 1,
            range: HashRange { start: 0, end: 0 },
            record: ShardRecord {
                id: 7,
                replicas: members,
                ..ShardRecord::default()
            },
            revision: 0,
        };
        let expected = expected.map(|(index, outvoted)| Divergence {
            index,
            outvoted: outvoted.iter().copied().map(ReplicaId).collect(),
        });
        assert_eq!(divergence(&shard, &reports), expected);
    }

    #[test]
    fn replicas_that_agree_or_have_no_seal_in_common_do_not_differ() {
        check(&[&[], &[], &[]], None);
        check(&[&[(9, 2, 5)], &[(9, 2, 5)], &[]], None);
        check(&[&[(9, 2, 5)], &[(12, 3, 6)], &[(15, 4, 7)]], None);
    }

    #[test]
    fn the_majority_of_all_replicas_outvotes_one() {
        check(&[&[(9, 2, 5)], &[(9, 2, 6)], &[(9, 2, 5)]], Some((9, &[2])));
        check(&[&[(9, 3, 5)], &[(9, 2, 5)], &[(9, 2, 5)]], Some((9, &[1])));
    }

    #[test]
    fn without_a_majority_nobody_is_said_to_be_wrong() {
        check(&[&[(9, 2, 5)], &[(9, 2, 6)], &[]], Some((9, &[])));
        check(&[&[(9, 2, 5)], &[(9, 2, 6)], &[(9, 2, 7)]], Some((9, &[])));
        check(&[&[(9, 2, 5)], &[(9, 2, 6)]], Some((9, &[])));
    }

    #[test]
    fn the_newest_seal_that_two_speak_of_counts() {
        let healed: &[(u64, u64, u64)] = &[(9, 2, 6), (12, 3, 7)];
        check(&[&[(9, 2, 5), (12, 3, 7)], healed, &[(9, 2, 5), (15, 9, 9)]], None);
        let split: &[(u64, u64, u64)] = &[(9, 2, 5), (12, 3, 8)];
        check(&[&[(12, 3, 7)], split, &[(12, 3, 7)]], Some((12, &[2])));
    }
}
