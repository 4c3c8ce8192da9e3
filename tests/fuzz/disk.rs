//! What may a node find on its disk? Records, segments and commands of its log; a shard's manifest; the register's seal.
//!
//! Checksums are made right: what is tried is what stands below them. Formats: docs/formats.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use granum_index::Document;
use granum_model::{DocId, Filter, Schema};
use granum_node::disk::{Disk, MemoryDisk, SharedDisk};
use granum_node::door;
use granum_node::raft::log;
use granum_node::shard::core::{Core, Store};
use granum_node::shard::frame::{self, Kind};
use granum_node::shard::{Entry, Fault, LogPosition, RegisterMachine, StateMachine, command, manifest, register};
use granum_proto::internal::{Epoch, Manifest, Put, Swap};
use prost::Message;

/// Bytes of a record's header, the last four of which are its checksum; and of a segment's.
const RECORD_HEADER_BYTES: usize = 68;
const SEGMENT_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = *b"Grcd";
const END_MARK: u8 = 0xe7;

/// A segment of node [`OWNER`], from the tests of old versions.
const SEGMENT: &[u8] = include_bytes!("../../node/src/raft/log/golden/version-1.log");
const OWNER: u64 = 0xd15c;

const MANIFEST: Kind = Kind {
    magic: *b"GRANMANI",
    version: 1,
};
const REGISTER: Kind = Kind {
    magic: *b"GRANREGI",
    version: 1,
};

/// One record of any header and body, its frame made right.
pub fn record(input: &[u8]) {
    let _ = door::rewritten(input);
    if input.len() < RECORD_HEADER_BYTES {
        return;
    }
    let mut record = input.to_vec();
    record.push(END_MARK);
    record[..4].copy_from_slice(&MAGIC);
    let body_bytes = (input.len() - RECORD_HEADER_BYTES) as u32;
    record[8..12].copy_from_slice(&body_bytes.to_le_bytes());
    seal_record(&mut record, body_bytes as usize);
    if let Some(again) = door::rewritten(&record) {
        assert!(again.len() <= record.len(), "{} bytes of {}", again.len(), record.len());
        assert_eq!(
            door::rewritten(&again),
            Some(again.clone()),
            "a record that was written reads back"
        );
    }
}

/// Edits of a segment, as a list of: place (u16), length (u8), and so many bytes. A log that opens opens again, with the same
/// entries and the same damage, and without its torn tail.
pub fn log(input: &[u8]) {
    let mut bytes = SEGMENT.to_vec();
    let mut edits = input;
    while let [a, b, length, rest @ ..] = edits {
        let place = usize::from(u16::from_le_bytes([*a, *b])) % bytes.len();
        let (written, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let end = (place + written.len()).min(bytes.len());
        bytes[place..end].copy_from_slice(&written[..end - place]);
        edits = rest;
    }
    seal_segment(&mut bytes);
    let (disk, folder) = (MemoryDisk::new(), Path::new("/log"));
    disk.create_dir_all(folder).expect("a folder in memory");
    let file = disk.create(&folder.join("0000000000000001.log"));
    let file = file.expect("a file in memory");
    file.append(&bytes).expect("bytes in memory");
    let disk: SharedDisk = Arc::new(disk);
    let Ok((found, again)) = door::settled(&disk, folder, OWNER) else {
        return;
    };
    let again = again.expect("a log that opened opens again");
    // What is incomplete is named with the newest segment, and a second one may have been begun.
    let damage = |damage: &String| damage.replace("0000000000000002.log", "0000000000000001.log");
    let damages = |check: &log::LogCheck| check.damages.iter().map(damage).collect::<Vec<_>>();
    let held = |check: &log::LogCheck| (check.groups, check.entries, damages(check));
    assert_eq!(held(&again), held(&found), "what was torn is gone, and nothing else");
    assert_eq!(again.torn_bytes, 0);
}

fn seal_segment(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(&bytes[..SEGMENT_HEADER_BYTES - 4]);
    bytes[SEGMENT_HEADER_BYTES - 4..SEGMENT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    let mut at = SEGMENT_HEADER_BYTES;
    while at + RECORD_HEADER_BYTES < bytes.len() && bytes[at..at + 4] == MAGIC {
        let body_bytes = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("4 bytes")) as usize;
        if body_bytes >= bytes.len() - at - RECORD_HEADER_BYTES {
            return;
        }
        seal_record(&mut bytes[at..], body_bytes);
        at += RECORD_HEADER_BYTES + body_bytes + 1;
    }
}

/// Right checksums over a record, whatever it says.
fn seal_record(record: &mut [u8], body_bytes: usize) {
    let crc = crc32c::crc32c(&record[RECORD_HEADER_BYTES..][..body_bytes]);
    record[12..16].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&record[..RECORD_HEADER_BYTES - 4]);
    record[RECORD_HEADER_BYTES - 4..RECORD_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Commands, each behind its length (u16), applied by two replicas: they answer alike, and stand alike.
pub fn command(input: &[u8]) {
    let mut replicas = [replica(), replica()];
    let mut rest = input;
    while let [a, b, behind @ ..] = rest {
        let (bytes, behind) = behind.split_at(behind.len().min(usize::from(u16::from_le_bytes([*a, *b]))));
        rest = behind;
        let Ok(command) = command::decode(bytes) else {
            continue;
        };
        let again = command::encode(&command).expect("a command that fitted an entry fits one");
        let again = command::decode(&again).expect("a command that was written reads back");
        assert_eq!(again.encode_to_vec(), command.encode_to_vec());
        let [one, other] = replicas.each_mut().map(|(core, documents)| {
            core.apply(documents, command.clone())
                .map(|step| step.applied.encode_to_vec())
        });
        match (one, other) {
            (Ok(one), Ok(other)) => assert_eq!(one, other, "replicas answer alike"),
            (Err(_), Err(_)) => return,
            (one, other) => panic!("{one:?}, and the other replica: {other:?}"),
        }
    }
    let [one, other] = replicas.map(|(core, documents)| (core.write_manifest(), documents));
    assert_eq!(one.0.encode_to_vec(), other.0.encode_to_vec(), "replicas stand alike");
    assert_eq!(one.1.0.keys().collect::<Vec<_>>(), other.1.0.keys().collect::<Vec<_>>());
    check_core(one.0);
}

/// A shard that takes every id, and the schema of [`super::requests`].
pub(super) fn replica() -> (Core, Documents) {
    let (mut core, mut documents) = (Core::unborn(), Documents::default());
    let schema = granum_proto::convert::schema::write(&super::requests::schema());
    let fence = command::fence(Epoch {
        epoch: 1,
        range_start: 0,
        range_end: u64::MAX,
        schema: Some(schema),
    });
    core.apply(&mut documents, fence).expect("the first fence is taken");
    (core, documents)
}

/// Documents by id, in memory.
#[derive(Default)]
pub struct Documents(pub BTreeMap<DocId, Document>);

impl Store for Documents {
    fn version(&self, id: &DocId) -> Result<Option<u64>, Fault> {
        Ok(self.0.get(id).map(|document| document.version))
    }

    fn matches(&self, id: &DocId, filter: &Filter) -> Result<bool, Fault> {
        let wanted = |document| granum_index::matches(document, filter).map_err(Fault::new);
        self.0.get(id).map_or(Ok(false), wanted)
    }

    fn put(&mut self, document: Document) -> Result<(), Fault> {
        self.0.insert(document.id.clone(), document);
        Ok(())
    }

    fn delete(&mut self, id: &DocId) -> Result<bool, Fault> {
        Ok(self.0.remove(id).is_some())
    }

    fn alter(&mut self, _: &Schema) -> Result<(), Fault> {
        Ok(())
    }
}

/// Any content of a manifest.
pub fn manifest(input: &[u8]) {
    let disk = framed(MANIFEST, manifest::MANIFEST_FILE, input);
    let Ok(Some(opened)) = manifest::read(&disk, Path::new(FOLDER)) else {
        return;
    };
    assert_eq!(manifest::write_segments(&opened.segments), opened.manifest.segments);
    manifest::write(&disk, Path::new(FOLDER), &opened.manifest).expect("it is written to memory");
    let again = manifest::read(&disk, Path::new(FOLDER)).expect("a manifest that was written reads back");
    let again = again.expect("it was written").manifest;
    assert_eq!(again.encode_to_vec(), opened.manifest.encode_to_vec());
    check_core(again);
}

/// What replicas agree on reads back from a manifest as it was written there.
fn check_core(mut manifest: Manifest) {
    let Ok(core) = Core::read_manifest(&mut manifest) else {
        return;
    };
    let written = core.write_manifest();
    let again = Core::read_manifest(&mut written.clone()).expect("a manifest that was written reads back");
    assert_eq!(again.write_manifest().encode_to_vec(), written.encode_to_vec());
}

/// Any content of the register's seal, which is its snapshot too. A register that opens takes a swap, is sealed, and stands the
/// same where it is opened again and where it is installed.
pub fn register(input: &[u8]) {
    let disk: SharedDisk = Arc::new(framed(REGISTER, register::REGISTER_FILE, input));
    let Ok(opened) = RegisterMachine::open(disk.clone(), Path::new(FOLDER)) else {
        return;
    };
    let all = [String::new()];
    // Behind the next revision there must be another.
    if opened.read(&all).0 >= u64::MAX - 1 {
        return;
    }
    let put = Put {
        key: "k".into(),
        value: vec![1].into(),
    };
    let swap = command::swap(Swap {
        puts: vec![put],
        ..Swap::default()
    });
    let last = opened.sealed().last.map_or(0, |last| last.index);
    let position = LogPosition {
        term: 1,
        replica: 1,
        index: last.saturating_add(1),
    };
    let entry = Entry::Command(command::encode(&swap).expect("a small command"));
    if opened.apply(position, entry).is_err() {
        return;
    }
    let sealed = opened.seal().expect("a register that opened is sealed");
    let stands = |machine: &RegisterMachine| (machine.read(&all), machine.events_since(&all, 1));
    let again = RegisterMachine::open(disk.clone(), Path::new(FOLDER)).expect("a register that was sealed opens");
    let copy = RegisterMachine::open(disk, Path::new("/copy")).expect("an empty register opens");
    copy.install(Path::new(FOLDER), sealed.clone())
        .expect("what was sealed is installed");
    for machine in [again, copy] {
        assert_eq!(machine.sealed(), sealed);
        assert_eq!(stands(&machine), stands(&opened));
    }
}

const FOLDER: &str = "/shard";

/// A disk with one file, its content framed.
fn framed(kind: Kind, name: &str, content: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir_all(Path::new(FOLDER)).expect("a folder in memory");
    frame::write(&disk, &Path::new(FOLDER).join(name), kind, content).expect("it is written to memory");
    disk
}
