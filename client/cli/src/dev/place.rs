//! The directory of a `granum dev`: which nodes it holds and on which ports, and that only one process uses it.
//!
//! `dev.toml` names the ports, `dev.lock` is locked while the cluster runs, `node-1`, `node-2`, ... are the nodes' own.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Nodes of a new directory, unless told otherwise.
const NODES_DEFAULT: u16 = 3;
/// Of `dev.toml`.
const FORMAT: u32 = 1;

/// Ports of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePorts {
    /// For coordinators.
    pub data: u16,
    /// For other nodes.
    pub raft: u16,
    /// For metrics and health.
    pub metrics: u16,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    format: u32,
    nodes: Vec<NodePorts>,
}

/// The directory, held by this process.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    ports: Ports,
    /// Locked as long as this value lives.
    _lock: File,
}

impl Place {
    /// Whether there is a directory of `granum dev`; an error where there is something else.
    pub fn exists(directory: &Path) -> anyhow::Result<bool> {
        let mut entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| directory.display().to_string()),
        };
        if ports_file(directory).exists() {
            return Ok(true);
        }
        match entries.next() {
            None => Ok(false),
            Some(_) => bail!(
                "{} is not empty, and not from `granum dev`: choose another with --data-dir",
                directory.display()
            ),
        }
    }

    /// Deletes a directory of `granum dev`, and refuses to delete anything else.
    pub fn delete(directory: &Path) -> anyhow::Result<()> {
        if Place::exists(directory)? {
            // Not under the feet of a process that runs there.
            let _lock = lock(directory)?;
            fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        Ok(())
    }

    /// Takes the directory, or makes it with so many nodes.
    pub fn open(directory: &Path, nodes: Option<u16>) -> anyhow::Result<Place> {
        let existed = Place::exists(directory)?;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let lock = lock(directory)?;
        let mut ports = match existed {
            true => read(directory)?,
            false => Ports {
                format: FORMAT,
                nodes: Vec::new(),
            },
        };
        let wanted = nodes.map_or(ports.nodes.len(), usize::from);
        if existed && wanted != ports.nodes.len() {
            bail!(
                "{} holds {} nodes: leave --nodes away, or start over with --fresh",
                directory.display(),
                ports.nodes.len()
            );
        }
        if !existed {
            ports.nodes = vec![
                NodePorts {
                    data: 0,
                    raft: 0,
                    metrics: 0
                };
                nodes.unwrap_or(NODES_DEFAULT).into()
            ];
        }
        take_ports(&mut ports.nodes)?;
        let file = ports_file(directory);
        fs::write(&file, toml::to_string(&ports)?).with_context(|| file.display().to_string())?;
        Ok(Place {
            directory: directory.to_owned(),
            ports,
            _lock: lock,
        })
    }

    /// Ports of each node.
    pub fn nodes(&self) -> &[NodePorts] {
        &self.ports.nodes
    }

    /// Where the node at this position, from 0, keeps what it keeps.
    pub fn node_directory(&self, at: usize) -> PathBuf {
        self.directory.join(format!("node-{}", at + 1))
    }
}

fn ports_file(directory: &Path) -> PathBuf {
    directory.join("dev.toml")
}

fn read(directory: &Path) -> anyhow::Result<Ports> {
    let file = ports_file(directory);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let ports: Ports = toml::from_str(&text).with_context(|| file.display().to_string())?;
    if ports.format != FORMAT || ports.nodes.is_empty() || ports.nodes.len() > 9 {
        bail!(
            "{}: format {} with {} nodes is not this version's",
            file.display(),
            ports.format,
            ports.nodes.len()
        );
    }
    Ok(ports)
}

fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("dev.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another `granum dev` runs on {}: stop it, or choose another directory with --data-dir",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Keeps each port that is free still, and takes a free one instead of each other (and of 0).
fn take_ports(nodes: &mut [NodePorts]) -> anyhow::Result<()> {
    // All are held until the last is chosen, so that none is chosen twice.
    let mut held = Vec::new();
    for node in nodes {
        for port in [&mut node.data, &mut node.raft, &mut node.metrics] {
            let kept = if *port == 0 {
                None
            } else {
                TcpListener::bind(("127.0.0.1", *port)).ok()
            };
            let listener = match kept {
                Some(listener) => listener,
                None => TcpListener::bind(("127.0.0.1", 0)).context("no port is free")?,
            };
            *port = listener.local_addr()?.port();
            held.push(listener);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_unless_they_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let first = Place::open(&path, Some(2)).unwrap().nodes().to_vec();
        assert_eq!(first.len(), 2);
        assert_eq!(Place::open(&path, None).unwrap().nodes(), first);
        let _taken = TcpListener::bind(("127.0.0.1", first[0].raft)).unwrap();
        let second = Place::open(&path, None).unwrap().nodes().to_vec();
        assert_ne!(second[0].raft, first[0].raft);
        assert_eq!((second[0].data, second[1]), (first[0].data, first[1]));
    }

    #[test]
    fn one_process_at_a_time_and_never_another_number_of_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let held = Place::open(directory.path(), Some(1)).unwrap();
        assert!(
            Place::open(directory.path(), None)
                .unwrap_err()
                .to_string()
                .contains("another `granum dev`")
        );
        assert!(Place::delete(directory.path()).is_err());
        drop(held);
        assert!(
            Place::open(directory.path(), Some(3))
                .unwrap_err()
                .to_string()
                .contains("holds 1 nodes")
        );
    }

    #[test]
    fn only_what_dev_made_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let made = directory.path().join("made");
        Place::open(&made, Some(1)).unwrap();
        Place::delete(&made).unwrap();
        assert!(!made.exists());
        fs::write(directory.path().join("thesis"), "years of work").unwrap();
        assert!(Place::delete(directory.path()).is_err());
        assert!(Place::open(directory.path(), None).is_err());
        assert!(directory.path().join("thesis").exists());
    }
}
