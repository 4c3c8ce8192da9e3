//! Is a log of an earlier version still read? One segment of each version stays here for ever.

use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::crash_test::model::{block_on, entry};
use super::{Log, LogOptions};
use crate::disk::{Disk, MemoryDisk};
use crate::raft::type_config::{Entry, Vote, log_id};

/// Node 0x0D15C: group 1 voted, appended 0..8, truncated behind 5, appended 6 in term 3, committed 4, purged up to 1; group
/// 2 appended 0 and was dropped; group 0 voted.
const VERSION_1: &[u8] = include_bytes!("golden/version-1.log");

#[test]
fn a_segment_of_version_1_says_what_it_said() {
    let disk = MemoryDisk::new();
    let dir = Path::new("/log");
    disk.create_dir_all(dir).unwrap();
    disk.create(&dir.join("0000000000000001.log"))
        .unwrap()
        .append(VERSION_1)
        .unwrap();
    let options = LogOptions {
        owner: 0xD15C,
        segment_bytes: 4096,
        reserve_bytes: 0,
        ..LogOptions::default()
    };
    let log = Log::open(Arc::new(disk), dir, options).unwrap();
    assert_eq!((log.groups(), log.torn_bytes()), (vec![0, 1], 0));
    block_on(async {
        let mut one = log.group(1).unwrap();
        let mut expected: Vec<Entry> = (2..6).map(|index| entry(1, 2, index, 30)).collect();
        expected.push(entry(1, 3, 6, 30));
        assert_eq!(one.try_get_log_entries(..).await.unwrap(), expected);
        assert_eq!(one.read_vote().await.unwrap(), Some(Vote::new_committed(2, 11)));
        assert_eq!(one.read_committed().await.unwrap(), Some(log_id(2, 4)));
        assert_eq!(
            one.get_log_state().await.unwrap().last_purged_log_id,
            Some(log_id(2, 1))
        );
        let mut register = log.group(0).unwrap();
        assert_eq!(register.read_vote().await.unwrap(), Some(Vote::new(7, 12)));
    });
}
