//! How fresh must an answer be? What the request says, else the collection's default, else linearizable. Of a session
//! token each shard gets only its own part; tokens older than a split or merge resolve through the shard's parents.

use std::collections::HashMap;

use granum_proto::v1::read_level::{Kind, Linearizable};
use granum_proto::v1::{ReadLevel, SessionToken};

use crate::map::{Collection, Shard};

/// The level of a request.
pub(crate) fn wanted(asked: Option<&ReadLevel>, collection: &Collection) -> ReadLevel {
    let default = collection.record.default_read.as_ref();
    let said = |level: &&ReadLevel| level.kind.is_some();
    let level = asked.filter(said).or(default.filter(said)).cloned();
    level.unwrap_or(ReadLevel {
        kind: Some(Kind::Linearizable(Linearizable {})),
    })
}

/// The level as one shard is asked for it.
pub(crate) fn for_shard(level: &ReadLevel, shard: &Shard) -> ReadLevel {
    let Some(Kind::Session(SessionToken { sequences })) = &level.kind else {
        return level.clone();
    };
    let lineage = std::iter::once(&shard.record.id).chain(&shard.record.parents);
    let seen = lineage.filter_map(|id| sequences.get(id)).max();
    let sequences: HashMap<u64, u64> = seen.map(|&sequence| (shard.record.id, sequence)).into_iter().collect();
    ReadLevel {
        kind: Some(Kind::Session(SessionToken { sequences })),
    }
}

#[cfg(test)]
mod tests {
    use granum_model::ShardId;
    use granum_proto::internal::ShardRecord;

    use super::*;
    use crate::map::range::HashRange;

    #[test]
    fn a_token_from_before_a_split_holds_for_the_children() {
        let child = Shard {
            id: ShardId(9),
            epoch: 2,
            range: HashRange { start: 0, end: 7 },
            record: ShardRecord {
                id: 9,
                parents: vec![4],
                ..ShardRecord::default()
            },
            revision: 1,
        };
        let token = |sequences: &[(u64, u64)]| ReadLevel {
            kind: Some(Kind::Session(SessionToken {
                sequences: sequences.iter().copied().collect(),
            })),
        };
        assert_eq!(for_shard(&token(&[(4, 70), (5, 99)]), &child), token(&[(9, 70)]));
        assert_eq!(for_shard(&token(&[(4, 70), (9, 80)]), &child), token(&[(9, 80)]));
        assert_eq!(for_shard(&token(&[(5, 99)]), &child), token(&[]));
    }
}
