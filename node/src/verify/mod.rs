//! Is every byte of a node's directory as it was written? Offline, reading all and changing nothing.
//!
//! Checked: the identity, the log as a start would read it, and for each replica that the identity names the register's
//! file or the manifest with every file of its segments, pages and invariants. Each problem names file and offset where
//! they are known. Left out: the table of documents, which is a cache that nothing depends on.

mod forgetful;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use granum_index::Census;
use granum_model::ids::REGISTER;

use crate::disk::{Disk, RealDisk, SharedDisk};
use crate::identity::{self, Identity};
use crate::raft::log;
use crate::shard::{manifest, register, sealing};
use forgetful::Forgetful;

/// Folder of the log below a data directory.
const LOG_FOLDER: &str = "log";

/// Most problems that are listed; more are only counted.
pub const PROBLEMS_MAX: usize = 1000;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Id of the node.
    pub node: u64,
    /// Id of its cluster; 0: none yet.
    pub cluster: u64,
    /// Replicas of shards.
    pub replicas: u64,
    /// Segments of documents.
    pub segments: u64,
    /// Their rows, dead ones included.
    pub rows: u64,
    /// Keys of the register, if a replica of it is here and was sealed.
    pub register_keys: Option<u64>,
    /// Groups in the log.
    pub log_groups: u64,
    /// Entries in the log.
    pub log_entries: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is no problem and worth knowing.
    pub notes: Vec<String>,
    /// What is wrong, with file and offset; at most [`PROBLEMS_MAX`].
    pub problems: Vec<String>,
    /// Problems found, listed or not.
    pub problems_found: u64,
}

/// Why a directory can't be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no node in it.
    #[error("{path}: no node's data directory (it has no file {file})", path = .0.display(), file = identity::NODE_FILE)]
    NoNode(PathBuf),
    /// A process uses it.
    #[error("{path}: in use by a running node; stop it first", path = .0.display())]
    InUse(PathBuf),
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems_found == 0
    }

    fn note(&mut self, problem: impl ToString) {
        self.problems_found += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem.to_string());
        }
    }

    fn check<T, E: ToString>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.note(error)).ok()
    }
}

/// Checks the data directory of a node that doesn't run.
pub fn verify(directory: &Path) -> Result<Report, VerifyError> {
    let disk: SharedDisk = Arc::new(Forgetful(Arc::new(RealDisk)));
    if !directory.join(identity::NODE_FILE).exists() {
        return Err(VerifyError::NoNode(directory.to_owned()));
    }
    let _lock = lock(directory)?;
    let mut report = Report::default();
    let read = report.check(identity::read(disk.as_ref(), directory));
    let Some(identity) = read.flatten() else {
        return Ok(report);
    };
    (report.node, report.cluster) = (identity.node, identity.cluster);
    check_log(&mut report, &disk, directory, &identity);
    for replica in &identity.replicas {
        let path = identity::replica_path(directory, replica.shard, replica.replica);
        match replica.shard == REGISTER.0 {
            true => check_register(&mut report, disk.as_ref(), &path),
            false => check_shard(&mut report, disk.as_ref(), &path),
        }
    }
    Ok(report)
}

/// Keeps a node from starting while its files are read. Where there is no lock file no node has ever run.
fn lock(directory: &Path) -> Result<Option<File>, VerifyError> {
    let Ok(file) = File::open(directory.join(identity::LOCK_FILE)) else {
        return Ok(None);
    };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(VerifyError::InUse(directory.to_owned())),
        // A file system without locks: the user has been asked to stop the node.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

fn check_log(report: &mut Report, disk: &SharedDisk, directory: &Path, identity: &Identity) {
    if !identity.has_log {
        return;
    }
    let Some(check) = report.check(log::check(disk, &directory.join(LOG_FOLDER), identity.node)) else {
        return;
    };
    (report.log_groups, report.log_entries) = (check.groups, check.entries);
    report.bytes += check.bytes;
    if check.torn_bytes > 0 {
        report.notes.push(format!(
            "log: {} bytes of a torn tail, which the next start cuts off",
            check.torn_bytes
        ));
    }
    check.damages.iter().for_each(|damage| report.note(damage));
}

fn check_register(report: &mut Report, disk: &dyn Disk, path: &Path) {
    if let Some(keys) = report.check(register::verify(disk, path)) {
        report.register_keys = keys.map(|keys| keys as u64);
    }
}

fn check_shard(report: &mut Report, disk: &dyn Disk, path: &Path) {
    report.replicas += 1;
    let standing = match sealing::standing_directory(disk, path) {
        // Ordered and not yet made: the next start makes it.
        Err(error) if error.is_missing() => return,
        standing => report.check(standing).flatten(),
    };
    let Some(state) = standing else { return };
    let Some(Some(opened)) = report.check(manifest::read(disk, &state)) else {
        return;
    };
    let verified = granum_index::verify(&state, &opened.segments);
    report.segments += verified.segments;
    report.rows += verified.rows;
    report.bytes += verified.bytes;
    for problem in verified.problems {
        report.note(format!("{}: {problem}", state.display()));
    }
    let live = Census::of(&opened.segments).documents;
    if live != opened.manifest.documents {
        let written = opened.manifest.documents;
        report.note(format!(
            "{}: {written} documents, its segments hold {live}",
            state.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use granum_proto::internal::EnsureReplicaRequest;

    use crate::identity::Directory;
    use crate::shard::{Entry, LogPosition, Options, ShardMachine, StateMachine, command, sample};

    use super::*;

    const SHARD: EnsureReplicaRequest = EnsureReplicaRequest {
        shard: 3,
        replica: 5,
        cluster: 0,
        epoch: 1,
        collection: 0,
        collection_name: String::new(),
        schema: None,
        range_start: 0,
        range_end: u64::MAX,
        index: None,
    };

    /// A node with one sealed shard and no log.
    fn node() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let disk: SharedDisk = Arc::new(RealDisk);
        let directory = Directory::open(disk.clone(), folder.path(), || 7).unwrap();
        directory.update(|identity| identity.replicas.push(SHARD)).unwrap();
        let machine = ShardMachine::open(&SHARD, &directory.replica_path(3, 5), &Options::new(disk, None)).unwrap();
        let commands = [
            sample::fence(1),
            sample::write(1, 1, vec![sample::put(1, 1), sample::put(2, 2)]),
            command::seal(),
        ];
        for (index, command) in (1..).zip(commands) {
            let entry = Entry::Command(command::encode(&command).unwrap());
            machine
                .apply(
                    LogPosition {
                        term: 1,
                        replica: 0,
                        index,
                    },
                    entry,
                )
                .unwrap();
        }
        machine.seal().unwrap();
        folder
    }

    fn state_directory(folder: &tempfile::TempDir) -> PathBuf {
        let path = identity::replica_path(folder.path(), 3, 5);
        sealing::standing_directory(&RealDisk, &path).unwrap().unwrap()
    }

    #[test]
    fn a_sound_directory_is_counted_and_left_as_it_was() {
        let folder = node();
        let report = verify(folder.path()).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(
            (report.node, report.replicas, report.segments, report.rows),
            (7, 1, 1, 2)
        );
        assert_eq!(verify(folder.path()).unwrap(), report);
    }

    #[test]
    fn a_flipped_byte_in_any_file_is_found_and_the_file_named() {
        let folder = node();
        for entry in std::fs::read_dir(state_directory(&folder)).unwrap() {
            let path = entry.unwrap().path();
            let sound = std::fs::read(&path).unwrap();
            for at in [0, sound.len() / 2, sound.len() - 1] {
                let mut bytes = sound.clone();
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                let report = verify(folder.path()).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(
                    report.problems.iter().any(|problem| problem.contains(name)),
                    "{name} {at}: {report:?}"
                );
            }
            std::fs::write(&path, sound).unwrap();
        }
        assert!(verify(folder.path()).unwrap().is_sound());
    }

    #[test]
    fn a_running_node_and_a_folder_without_one_are_refused() {
        let folder = node();
        let directory = Directory::open(Arc::new(RealDisk), folder.path(), || 8).unwrap();
        assert!(matches!(verify(folder.path()), Err(VerifyError::InUse(_))));
        drop(directory);
        assert!(verify(folder.path()).is_ok());
        assert!(matches!(verify(Path::new("/nonexistent")), Err(VerifyError::NoNode(_))));
    }
}
