//! Does only what is missing travel, and is only what was announced installed?

use std::path::Path;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::disk::{Disk, Faults, MemoryDisk};
use crate::raft::machine::SnapshotMeta;
use crate::raft::transfer::CHUNK_BYTES;
use crate::raft::transfer::reception::Reception;
use crate::raft::type_config::log_id;

const INCOMING: &str = "/incoming";
const OWN: &str = "/own";

/// A replica's disk, and files of a leader.
struct Sample {
    disk: MemoryDisk,
    reception: Reception,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// `chunks` and a half of bytes that no other `seed` has.
fn content(seed: u8, chunks: u64) -> Vec<u8> {
    let bytes = CHUNK_BYTES * chunks + CHUNK_BYTES / 2;
    (0..bytes).map(|at| (at / 3) as u8 ^ seed).collect()
}

fn sample() -> Sample {
    let disk = MemoryDisk::new();
    Sample {
        reception: Reception::new(Arc::new(disk.clone()), INCOMING.into()),
        disk,
        files: vec![
            ("1.ids", content(1, 0)),
            ("2.empty", Vec::new()),
            ("3.vector", content(3, 3)),
            ("MANIFEST", content(4, 0)),
        ],
    }
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    disk.create(path).unwrap().append(bytes).unwrap();
}

impl Sample {
    fn flip(&self, path: &Path, offset: u64) {
        self.disk.open(path).unwrap().sync_data().unwrap();
        self.disk.flip(path, offset, 1);
    }

    fn announced(&self) -> Vec<FileOf> {
        let file = |(name, bytes): &(&str, Vec<u8>)| ((*name).to_owned(), bytes.len() as u64, xxh3_64(bytes));
        self.files.iter().map(file).collect()
    }

    /// The replica's own files, as its seal says: `said`, of which the bytes may be others.
    fn own(&self, said: &[&str]) -> SnapshotFiles {
        SnapshotFiles {
            sealed: Default::default(),
            directory: OWN.into(),
            files: self
                .announced()
                .into_iter()
                .filter(|file| said.contains(&file.0.as_str()))
                .collect(),
            guard: None,
        }
    }

    async fn begin_with(&self, files: Vec<FileOf>, own: Option<&SnapshotFiles>) -> Result<Incoming, Failure> {
        let offer = Offer {
            vote: Vote::new_committed(1, 1),
            meta: SnapshotMeta {
                last_log_id: Some(log_id(1, 9)),
                ..SnapshotMeta::default()
            },
            files,
        };
        let turn = self.reception.begin(1).await.unwrap();
        Incoming::begin(Arc::new(self.disk.clone()), INCOMING.into(), offer, own, turn)
    }

    async fn begin(&self, own: Option<&SnapshotFiles>) -> Incoming {
        self.begin_with(self.announced(), own).await.unwrap()
    }

    fn chunk(&self, file: usize, number: u64) -> chunk::Data {
        let bytes = &self.files[file].1;
        let from = (number * CHUNK_BYTES) as usize;
        let to = bytes.len().min(from + CHUNK_BYTES as usize);
        chunk_of(file as u32, from as u64, Bytes::copy_from_slice(&bytes[from..to]))
    }

    /// Sends what is wanted; how many bytes that were.
    fn send(&self, incoming: &mut Incoming) -> u64 {
        let mut sent = 0;
        for missing in incoming.wanted().missing {
            let file = missing.file as usize;
            let chunks = (self.files[file].1.len() as u64).div_ceil(CHUNK_BYTES);
            for number in missing.offset / CHUNK_BYTES..chunks {
                let data = self.chunk(file, number);
                sent += data.bytes.len() as u64;
                incoming.take(&data).unwrap();
            }
        }
        sent
    }

    /// The whole transfer; how many bytes travelled.
    async fn transfer(&self, own: Option<&SnapshotFiles>) -> u64 {
        let mut incoming = self.begin(own).await;
        let sent = self.send(&mut incoming);
        let snapshot = incoming.finish().unwrap();
        assert_eq!(snapshot.meta.last_log_id.unwrap().index(), 9);
        self.check_files();
        sent
    }

    /// All files are in place, and nothing else.
    fn check_files(&self) {
        let names: Vec<&str> = self.files.iter().map(|(name, _)| *name).collect();
        assert_eq!(self.disk.list(Path::new(INCOMING)).unwrap(), names);
        for (name, bytes) in &self.files {
            let file = self.disk.open(&Path::new(INCOMING).join(name)).unwrap();
            let mut read = vec![0; file.len().unwrap() as usize];
            file.read_at(0, &mut read).unwrap();
            assert!(read == *bytes, "{name}");
        }
    }

    /// Of the large file two chunks arrive, then the connection breaks.
    async fn interrupted(&self) {
        let mut incoming = self.begin(None).await;
        for data in [self.chunk(0, 0), self.chunk(2, 0), self.chunk(2, 1)] {
            incoming.take(&data).unwrap();
        }
    }

    fn bytes(&self, files: &[usize]) -> u64 {
        files.iter().map(|file| self.files[*file].1.len() as u64).sum()
    }
}

fn chunk_of(file: u32, offset: u64, bytes: Bytes) -> chunk::Data {
    chunk::Data {
        file,
        offset,
        crc32c: crc32c::crc32c(&bytes),
        bytes,
    }
}

#[tokio::test]
async fn an_empty_replica_gets_all_files_as_they_were_sent() {
    let sample = sample();
    assert_eq!(sample.transfer(None).await, sample.bytes(&[0, 2, 3]));
}

#[tokio::test]
async fn files_that_the_replica_has_do_not_travel() {
    let sample = sample();
    let own = sample.own(&["1.ids", "3.vector"]);
    for file in [0, 2] {
        write(
            &sample.disk,
            &Path::new(OWN).join(sample.files[file].0),
            &sample.files[file].1,
        );
    }
    assert_eq!(sample.transfer(Some(&own)).await, sample.bytes(&[3]));
    let spared = sample.begin(Some(&own)).await.spared();
    assert_eq!((spared.held_bytes, spared.resumed_bytes), (sample.bytes(&[0, 2, 3]), 0));
}

#[tokio::test]
async fn files_of_the_replica_that_are_damaged_or_others_travel() {
    let sample = sample();
    let own = sample.own(&["1.ids", "3.vector"]);
    let place = |file: usize| Path::new(OWN).join(sample.files[file].0);
    write(&sample.disk, &place(0), &content(9, 0));
    write(&sample.disk, &place(2), &sample.files[2].1);
    sample.flip(&place(2), CHUNK_BYTES * 3 + 1);
    assert_eq!(sample.transfer(Some(&own)).await, sample.bytes(&[0, 2, 3]));
    // Of its own MANIFEST the replica says that it is another: it is not even read.
    let mut other = sample.own(&["MANIFEST"]);
    other.files[0].2 ^= 1;
    sample.disk.remove(&Path::new(INCOMING).join("MANIFEST")).unwrap();
    assert_eq!(sample.transfer(Some(&other)).await, sample.bytes(&[3]));
}

#[tokio::test]
async fn an_interrupted_transfer_goes_on_at_its_last_chunk() {
    let sample = sample();
    sample.interrupted().await;
    let spared = sample.begin(None).await.spared();
    assert_eq!(
        (spared.held_bytes, spared.resumed_bytes),
        (sample.bytes(&[0]), CHUNK_BYTES * 2)
    );
    let rest = sample.bytes(&[2, 3]) - CHUNK_BYTES * 2;
    assert_eq!(sample.transfer(None).await, rest);
}

#[tokio::test]
async fn what_was_damaged_on_disk_between_travels_again() {
    let sample = sample();
    sample.interrupted().await;
    let (partial, _) = partial::names(&sample.announced()[2]);
    sample.flip(&Path::new(INCOMING).join(partial), CHUNK_BYTES + 9);
    sample.flip(&Path::new(INCOMING).join("1.ids"), 0);
    let rest = sample.bytes(&[0, 2, 3]) - CHUNK_BYTES;
    assert_eq!(sample.transfer(None).await, rest);
}

#[tokio::test]
async fn a_file_that_is_another_now_begins_anew_and_the_old_one_goes() {
    let mut sample = sample();
    sample.interrupted().await;
    sample.files[0].1 = content(7, 1);
    sample.files[2].1 = content(8, 3);
    assert_eq!(sample.transfer(None).await, sample.bytes(&[0, 2, 3]));
    sample.files.truncate(1);
    assert_eq!(sample.transfer(None).await, 0);
}

#[tokio::test]
async fn chunks_that_are_damaged_or_out_of_place_are_refused() {
    let sample = sample();
    let rest = |file: usize| sample.chunk(file, 0).bytes;
    let mut damaged = sample.chunk(0, 0);
    damaged.crc32c ^= 1;
    for wrong in [
        damaged,
        sample.chunk(2, 0),
        sample.chunk(3, 0),
        chunk_of(0, CHUNK_BYTES, rest(0)),
        chunk_of(0, 1, rest(0).slice(1..)),
        chunk_of(0, 0, rest(0).slice(1..)),
        chunk_of(0, 0, Bytes::new()),
        chunk_of(0, 0, rest(2)),
        chunk_of(9, 0, rest(0)),
    ] {
        let mut incoming = sample.begin(None).await;
        assert!(incoming.take(&wrong).is_err(), "{} of {}", wrong.offset, wrong.file);
        assert!(incoming.finish().is_err(), "nothing came");
    }
    let mut incoming = sample.begin(None).await;
    sample.send(&mut incoming);
    assert!(incoming.take(&sample.chunk(3, 0)).is_err(), "behind the last");
    assert!(incoming.finish().is_ok());
}

#[tokio::test]
async fn a_damaged_chunk_alone_travels_again() {
    let sample = sample();
    let mut incoming = sample.begin(None).await;
    incoming.take(&sample.chunk(0, 0)).unwrap();
    incoming.take(&sample.chunk(2, 0)).unwrap();
    let mut damaged = sample.chunk(2, 1);
    damaged.crc32c ^= 1;
    assert!(matches!(incoming.take(&damaged), Err(Failure::Fault(_))));
    drop(incoming);
    let rest = sample.bytes(&[2, 3]) - CHUNK_BYTES;
    assert_eq!(sample.transfer(None).await, rest);
}

#[tokio::test]
async fn a_file_that_arrives_with_another_digest_is_not_kept() {
    let sample = sample();
    let mut announced = sample.announced();
    announced[2].2 ^= 1;
    let mut incoming = sample.begin_with(announced, None).await.unwrap();
    incoming.take(&sample.chunk(0, 0)).unwrap();
    for number in 0..3 {
        incoming.take(&sample.chunk(2, number)).unwrap();
    }
    assert!(matches!(incoming.take(&sample.chunk(2, 3)), Err(Failure::Fault(_))));
    drop(incoming);
    assert_eq!(sample.disk.list(Path::new(INCOMING)).unwrap(), ["1.ids", "2.empty"]);
    let mut announced = sample.announced();
    announced[1].2 ^= 1;
    assert!(matches!(
        sample.begin_with(announced, None).await,
        Err(Failure::Invalid(_))
    ));
}

#[tokio::test]
async fn more_than_the_disk_holds_is_refused_and_what_fills_it_goes() {
    let sample = sample();
    let mut endless = sample.announced();
    endless[2].1 = u64::MAX;
    assert!(matches!(
        sample.begin_with(endless, None).await,
        Err(Failure::ReadOnly(_))
    ));
    let mut incoming = sample.begin(None).await;
    incoming.take(&sample.chunk(0, 0)).unwrap();
    sample.disk.set_faults(Faults {
        capacity_bytes: Some(CHUNK_BYTES),
        ..Faults::default()
    });
    assert!(matches!(incoming.take(&sample.chunk(2, 0)), Err(Failure::ReadOnly(_))));
    assert!(!sample.disk.exists(Path::new(INCOMING)).unwrap());
}

#[tokio::test]
async fn a_transfer_that_is_interrupted_while_it_looks_ends() {
    let sample = sample();
    let turn = sample.reception.begin(1).await.unwrap();
    sample.reception.close();
    let offer = Offer {
        vote: Vote::new_committed(1, 1),
        meta: SnapshotMeta::default(),
        files: sample.announced(),
    };
    let begun = Incoming::begin(Arc::new(sample.disk.clone()), INCOMING.into(), offer, None, turn);
    assert!(matches!(begun, Err(Failure::Unavailable(_))));
}
