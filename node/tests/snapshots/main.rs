//! Does a replica that the log no longer reaches get what it lacks, and only that? Real nodes on real sockets and files; a
//! relay before one of them counts bytes and cuts its connections.

mod cluster;
mod relay;
#[path = "../shared/mod.rs"]
mod shared;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cluster::{Cluster, LEARNER};
use granum_node::raft::transfer::CHUNK_BYTES;
use shared::wait;

/// Small entries that outnumber those that are kept behind a seal.
const MANY: u64 = 80;
/// What the relay lets through before it stops: some chunks, and less than the large file.
const STOP_AFTER_BYTES: u64 = CHUNK_BYTES * 7 / 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_holds_old_segments_receives_only_the_new_ones() {
    let mut cluster = Cluster::start(3).await;
    cluster.write_large(0..200).await;
    cluster.seal_everywhere().await;
    let old_bytes = cluster.sealed_bytes(cluster.leader().await);
    let behind = (cluster.leader().await + 1) % 3;
    cluster.kill(behind).await;
    cluster.write_large(200..260).await;
    cluster.write_small(0..MANY).await;
    cluster.seal_everywhere().await;
    cluster.purged().await;
    let leader = cluster.leader().await;
    let new_bytes = cluster.sealed_bytes(leader) - old_bytes;
    assert!(
        old_bytes > CHUNK_BYTES * 4 && new_bytes > CHUNK_BYTES,
        "{old_bytes} {new_bytes}"
    );

    cluster.restart(behind).await;
    cluster.caught_up(behind).await;
    cluster.transfer_over(behind).await;
    let received = cluster.transferred(behind);
    assert_eq!((received.installed, received.resumed_bytes), (1, 0), "{received:?}");
    // The manifest, with its table of requests, comes on top.
    let surplus = received.received_bytes.checked_sub(new_bytes).unwrap();
    assert!(
        surplus < CHUNK_BYTES / 2,
        "{surplus} bytes of old segments, or of the manifest"
    );
    assert!(received.held_bytes >= old_bytes, "{received:?}, {old_bytes} were there");
    assert_eq!(cluster.documents(behind).await, cluster.documents(leader).await);
}

/// A learner, of whose first snapshot the relay let a part through.
async fn cut_in_the_middle() -> Cluster {
    let cluster = Cluster::start(4).await;
    cluster.write_large(0..200).await;
    cluster.write_small(0..MANY).await;
    cluster.seal_everywhere().await;
    cluster.purged().await;
    cluster.relay.stop_after(STOP_AFTER_BYTES);
    cluster.add_learner().await;
    wait("chunks to be written", async || {
        let received = cluster.transferred(LEARNER);
        (received.received_bytes >= CHUNK_BYTES * 2).then_some(())
    })
    .await;
    cluster.relay.cut();
    assert_eq!(cluster.transferred(LEARNER).installed, 0);
    cluster
}

/// The file of which a part is there.
fn partial(incoming: &Path) -> PathBuf {
    let files = std::fs::read_dir(incoming).unwrap().map(|entry| entry.unwrap().path());
    let mut partial = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with('.') && !name.ends_with(".crc32c")
    });
    partial.next().expect("the large file was begun")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_goes_on_after_a_restart_under_a_new_leader_and_under_load() {
    let mut cluster = cut_in_the_middle().await;
    let all_bytes = cluster.sealed_bytes(cluster.leader().await);
    cluster.kill(LEARNER).await;
    let there = std::fs::metadata(partial(&cluster.incoming(LEARNER))).unwrap().len();
    let old_leader = cluster.leader().await;
    cluster.kill(old_leader).await;
    cluster.restart(LEARNER).await;
    let leader = cluster.leader().await;
    assert_ne!(leader, old_leader);

    cluster.relay.open();
    let is_over = AtomicBool::new(false);
    let writing = async {
        let mut number = MANY;
        while !is_over.load(Ordering::Relaxed) {
            cluster.write_small(number..number + 1).await;
            number += 1;
        }
        number - MANY
    };
    let installing = async {
        wait("the snapshot", async || {
            (cluster.transferred(LEARNER).installed > 0).then_some(())
        })
        .await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(writing, installing);
    assert!(written > 0, "nothing was written meanwhile");
    cluster.caught_up(LEARNER).await;
    cluster.transfer_over(LEARNER).await;

    let received = cluster.transferred(LEARNER);
    let whole_chunks = there / CHUNK_BYTES * CHUNK_BYTES;
    assert!(
        received.resumed_bytes >= CHUNK_BYTES * 2 && received.resumed_bytes <= there,
        "{received:?}"
    );
    assert!(
        received.resumed_bytes >= whole_chunks.saturating_sub(CHUNK_BYTES),
        "{received:?} of {there}"
    );
    let travelled = received.received_bytes + received.resumed_bytes + received.held_bytes;
    let surplus = travelled.checked_sub(all_bytes).unwrap();
    assert!(surplus < CHUNK_BYTES / 2, "{received:?}, of {all_bytes}");
    assert_eq!(cluster.documents(LEARNER).await, cluster.documents(leader).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_damaged_on_disk_is_not_installed() {
    let mut cluster = cut_in_the_middle().await;
    let leader = cluster.leader().await;
    cluster.kill(LEARNER).await;
    let partial = partial(&cluster.incoming(LEARNER));
    let mut bytes = std::fs::read(&partial).unwrap();
    bytes[CHUNK_BYTES as usize + 77] ^= 0x10;
    std::fs::write(&partial, bytes).unwrap();
    cluster.restart(LEARNER).await;
    cluster.relay.open();
    cluster.caught_up(LEARNER).await;
    cluster.transfer_over(LEARNER).await;

    let received = cluster.transferred(LEARNER);
    assert_eq!(received.resumed_bytes, CHUNK_BYTES, "it goes on before the damage");
    assert_eq!(received.installed, 1);
    assert_eq!(cluster.documents(LEARNER).await, cluster.documents(leader).await);
    cluster.check_files(LEARNER).await;
}
