//! What happens when a disk is full? Three nodes, each with its data directory on a small file system of its own, filled until
//! writes are refused: what was acknowledged is there, reads go on, and writes too as soon as there is room again.
//!
//! It mounts a tmpfs for each node, and so needs root; skipped, with a line that says so, where that is not allowed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use granum_client::{Client, Document, Outcome, WriteError};

use crate::leader_lost::leader;
use crate::processes::{Cluster, Layout, eventually};
use crate::{all_caught_up, create, vector};

const DISK_MIB: usize = 96;
/// What is removed to make room: more than the reserve.
const BALLAST_MIB: usize = 40;
const PAYLOAD_BYTES: usize = 40_000;
const BATCH_DOCUMENTS: u64 = 16;
/// Far more than the disks hold.
const ROWS_MAX: u64 = 6_000;
const DEADLINE: Duration = Duration::from_secs(60);

/// File systems in memory, unmounted when dropped.
struct Disks {
    folder: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Disks {
    /// `None` where this process may not mount.
    fn mount(count: usize) -> Option<Disks> {
        let mut disks = Disks {
            folder: tempfile::tempdir().expect("a temporary directory"),
            mounted: Vec::new(),
        };
        for disk in 0..count {
            let path = disks.folder.path().join(disk.to_string());
            std::fs::create_dir(&path).expect("a new folder");
            let size = format!("size={DISK_MIB}m");
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "granum-test"])
                .arg(&path)
                .output();
            match mounted {
                Ok(output) if output.status.success() => disks.mounted.push(path),
                Ok(output) => {
                    println!("skipped: mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                    return None;
                }
                Err(error) => {
                    println!("skipped: mount: {error}");
                    return None;
                }
            }
        }
        Some(disks)
    }

    fn ballast(&self) -> impl Iterator<Item = PathBuf> {
        self.mounted.iter().map(|disk| disk.join("ballast"))
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for path in &self.mounted {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Bytes that don't compress, different for each row.
fn payload(row: u64) -> String {
    let mut state = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 43) as u8)
    };
    (0..PAYLOAD_BYTES).map(letter).collect()
}

fn document(row: u64) -> Document {
    Document::new(row)
        .payload(&serde_json::json!({"row": row, "text": payload(row)}))
        .expect("a JSON object serialises")
        .vector("", vector(row))
}

/// Rows of a batch that the cluster said are written, and what it said of the others.
async fn write(client: &Client, rows: std::ops::Range<u64>) -> (Vec<u64>, Option<String>) {
    let batch: Vec<Document> = rows.clone().map(document).collect();
    let outcomes = match client.upsert("documents", batch).await {
        Ok(written) => written.outcomes,
        Err(error @ WriteError::Refused(_)) => return (Vec::new(), Some(error.to_string())),
        Err(error) => panic!("rows {rows:?}: {error}"),
    };
    let mut refused = None;
    let taken = rows.zip(outcomes).filter_map(|(row, outcome)| match outcome {
        Outcome::Taken { .. } => Some(row),
        Outcome::Unknown { reason } => {
            refused = Some(reason);
            None
        }
        other => panic!("row {row}: {other:?}"),
    });
    (taken.collect(), refused)
}

/// Writes until a shard refuses; what it said.
async fn fill(client: &Client, acknowledged: &mut Vec<u64>, next: &mut u64) -> String {
    loop {
        assert!(*next < ROWS_MAX, "{next} rows fit on {DISK_MIB} MiB");
        let (taken, refused) = write(client, *next..*next + BATCH_DOCUMENTS).await;
        acknowledged.extend(taken);
        *next += BATCH_DOCUMENTS;
        if let Some(refused) = refused {
            return refused;
        }
    }
}

/// Every acknowledged row can be read, with the payload it was written with, and search works.
async fn assert_all_there(client: &Client, acknowledged: &[u64]) {
    let mut found = std::collections::BTreeSet::new();
    let mut scroll = client.scroll("documents").page_documents(100);
    while let Some(page) = scroll.next_page().await.unwrap() {
        for stored in page {
            let stored: serde_json::Value = stored.payload().unwrap();
            let row = stored["row"].as_u64().unwrap();
            assert!(stored["text"] == payload(row), "row {row} reads back as something else");
            found.insert(row);
        }
    }
    let missing: Vec<_> = acknowledged.iter().filter(|row| !found.contains(row)).collect();
    assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");
    let answer = client
        .query("documents")
        .vector(vector(1))
        .limit(3)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.hits.len(), 3);
}

fn free_bytes(disk: &Path) -> u64 {
    let output = Command::new("df").args(["-B1", "--output=avail"]).arg(disk).output();
    let told = String::from_utf8(output.expect("df runs").stdout).expect("text");
    told.lines()
        .nth(1)
        .expect("two lines")
        .trim()
        .parse()
        .expect("a number")
}

/// A cluster on these disks, with a collection of two shards.
async fn start(disks: &Disks) -> (Cluster, Client) {
    let arguments = [
        "--log-segment-bytes=5242880",
        "--log-budget-bytes=10485760",
        "--seal-bytes=2097152",
        "--free-space-min-bytes=16777216",
    ];
    let cluster = Cluster::start_as(Layout {
        node_arguments: arguments.map(String::from).to_vec(),
        node_homes: disks.mounted.clone(),
        ..Layout::default()
    });
    cluster.ready().await;
    let client = cluster.client();
    create(&client, "documents", 2).await;
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_loses_nothing_and_heals_by_itself() {
    let Some(disks) = Disks::mount(3) else { return };
    for ballast in disks.ballast() {
        std::fs::write(ballast, vec![1; BALLAST_MIB << 20]).unwrap();
    }
    let (mut cluster, client) = start(&disks).await;

    let (mut acknowledged, mut next) = (Vec::new(), 0);
    let refused = fill(&client, &mut acknowledged, &mut next).await;
    for said in [
        "disk is nearly full",
        "free_space_min_bytes",
        "delete a collection or enlarge",
    ] {
        assert!(refused.contains(said), "{refused}");
    }
    assert!(acknowledged.len() > 100, "only {} rows before it", acknowledged.len());
    assert_all_there(&client, &acknowledged).await;
    // Asked again and again it stays so, and the disk is not filled up by refusals.
    for _ in 0..20 {
        let (taken, _) = write(&client, next..next + BATCH_DOCUMENTS).await;
        acknowledged.extend(taken);
        next += BATCH_DOCUMENTS;
    }
    for disk in &disks.mounted {
        assert!(free_bytes(disk) > 0, "{} is full to the last byte", disk.display());
    }
    assert_all_there(&client, &acknowledged).await;

    // A restart on a full disk finds everything.
    for node in 0..3 {
        cluster.kill_node(node);
    }
    for node in 0..3 {
        cluster.start_node(node);
    }
    eventually("restarted nodes serve on full disks", DEADLINE, async || {
        all_caught_up(&client).await
    })
    .await;
    assert_all_there(&client, &acknowledged).await;

    disks
        .ballast()
        .for_each(|ballast| std::fs::remove_file(ballast).unwrap());
    let started = Instant::now();
    loop {
        let (taken, refused) = write(&client, next..next + BATCH_DOCUMENTS).await;
        acknowledged.extend(taken);
        next += BATCH_DOCUMENTS;
        match refused {
            None => break,
            Some(refused) => assert!(started.elapsed() < DEADLINE, "writes don't go on: {refused}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_all_there(&client, &acknowledged).await;

    // What the message says helps: a collection can be deleted on a full disk, and gives its space to the others.
    fill(&client, &mut acknowledged, &mut next).await;
    assert!(client.delete_collection("documents").await.unwrap());
    create_when_there_is_room(&client).await;
    let (taken, refused) = write(&client, 0..BATCH_DOCUMENTS).await;
    assert_eq!((taken.len() as u64, refused), (BATCH_DOCUMENTS, None));
}

/// The disk comes back a moment after the answer.
async fn create_when_there_is_room(client: &Client) {
    create(client, "documents", 2).await;
    let started = Instant::now();
    while write(client, 0..1).await.1.is_some() {
        assert!(started.elapsed() < DEADLINE, "a deleted collection gave no room");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_leave_a_full_disk_and_writes_go_on() {
    let Some(disks) = Disks::mount(3) else { return };
    let (cluster, client) = start(&disks).await;
    let full = leader(&cluster, &client).await.expect("the first shard is led");
    let address = &cluster.data_addresses()[full];
    let ballast = disks.mounted[full].join("ballast");
    let ballast_bytes = free_bytes(&disks.mounted[full]) - (8 << 20);
    std::fs::write(&ballast, vec![1; ballast_bytes as usize]).unwrap();

    eventually("the node without room leads nothing", DEADLINE, async || {
        let status = client.status().await.unwrap();
        let node = status.nodes.iter().find(|node| node.data_address == *address);
        node.is_some_and(|node| node.read_only && node.leaders == 0)
    })
    .await;
    let (taken, refused) = write(&client, 0..BATCH_DOCUMENTS).await;
    assert_eq!((taken.len() as u64, refused), (BATCH_DOCUMENTS, None));
    assert_all_there(&client, &taken).await;

    std::fs::remove_file(ballast).unwrap();
    eventually("the node has room again", DEADLINE, async || {
        let status = client.status().await;
        status.is_ok_and(|status| status.nodes.iter().all(|node| !node.read_only))
    })
    .await;
}
