//! Where are ordered maps kept that may be larger than memory and may be lost?
//!
//! In sled 0.34 (its only home): one database a node, one tree a shard, for the document directory (id to segment, row,
//! version). It is a cache and nothing more, because sled's `flush` is no fsync on Linux and its files have been seen
//! to refuse to open after an abrupt stop. So a directory that does not open is wiped and made anew, and the caller is
//! told ([`Opened`]): he rebuilds from manifest and log. The caller's own tag in each tree says how far it had come.
//!
//! sled opens its files itself, past [`Disk`](super::Disk): a simulation uses [`Trees::temporary`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Memory that sled may keep pages in, for all trees of a node together.
pub const DEFAULT_CACHE_BYTES: u64 = 16 << 20;

/// How often sled writes out what it holds. Losing that much is no loss: it is rebuilt.
const FLUSH_EVERY_MS: u64 = 1_000;

/// All ordered trees of a node.
#[derive(Clone, Debug)]
pub struct Trees {
    database: sled::Db,
}

/// One ordered tree: keys in byte order.
#[derive(Clone, Debug)]
pub struct Tree {
    tree: sled::Tree,
}

/// In which state the trees were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There was nothing; everything is to be built.
    Fresh,
    /// As they were left, perhaps some writes behind.
    Found,
    /// They were damaged, are wiped, and everything is to be built again.
    Wiped {
        /// What sled said of them.
        reason: String,
    },
}

/// Changes that a tree takes together.
#[derive(Clone, Debug, Default)]
pub struct TreeBatch {
    batch: sled::Batch,
}

/// A tree that cannot be read or written. The remedy is to wipe and rebuild it.
#[derive(Debug, thiserror::Error)]
#[error("document directory {path}: {source}", path = path.display())]
pub struct TreeError {
    path: PathBuf,
    #[source]
    source: sled::Error,
}

impl Trees {
    /// Opens the trees in a folder, with at most `cache_bytes` of pages in memory. A damaged folder is wiped.
    ///
    /// # Errors
    /// The folder belongs to another process or cannot be made, read or written.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<(Self, Opened), TreeError> {
        let failed = |source| TreeError {
            path: dir.to_owned(),
            source,
        };
        let config = sled::Config::new().path(dir);
        let reason = match open_unless_damaged(&config, cache_bytes) {
            Ok(database) if database.was_recovered() => {
                return Ok((Self { database }, Opened::Found));
            }
            Ok(database) => return Ok((Self { database }, Opened::Fresh)),
            Err(Unopened::Refused(source)) => return Err(failed(source)),
            Err(Unopened::Damaged(reason)) => reason,
        };
        std::fs::remove_dir_all(dir).map_err(|error| failed(error.into()))?;
        match open_unless_damaged(&config, cache_bytes) {
            Ok(database) => Ok((Self { database }, Opened::Wiped { reason })),
            Err(Unopened::Refused(source)) => Err(failed(source)),
            Err(Unopened::Damaged(reason)) => Err(failed(sled::Error::Unsupported(reason))),
        }
    }

    /// Trees that vanish with the last handle, in a temporary folder.
    ///
    /// # Errors
    /// The temporary folder cannot be made.
    pub fn temporary(cache_bytes: u64) -> Result<Self, TreeError> {
        let config = sized(&sled::Config::new().temporary(true), cache_bytes);
        let database = config.open().map_err(|source| TreeError {
            path: std::env::temp_dir(),
            source,
        })?;
        Ok(Self { database })
    }

    /// Opens a tree, making it if it is not there.
    ///
    /// # Errors
    /// The tree cannot be read or made.
    pub fn tree(&self, name: &str) -> Result<Tree, TreeError> {
        let tree = self.database.open_tree(name).map_err(|source| TreeError {
            path: name.into(),
            source,
        })?;
        Ok(Tree { tree })
    }

    /// Removes a tree; no error if it is not there.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn drop_tree(&self, name: &str) -> Result<(), TreeError> {
        self.database.drop_tree(name).map(|_| ()).map_err(|source| TreeError {
            path: name.into(),
            source,
        })
    }

    /// Names of all trees, sorted.
    pub fn names(&self) -> Vec<String> {
        let ours = self
            .database
            .tree_names()
            .into_iter()
            .filter(|name| name != b"__sled__default");
        let mut names: Vec<String> = ours.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect();
        names.sort();
        names
    }

    /// Bytes on the disk, of all trees.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn disk_bytes(&self) -> Result<u64, TreeError> {
        self.database.size_on_disk().map_err(|source| TreeError {
            path: PathBuf::new(),
            source,
        })
    }
}

enum Unopened {
    Refused(sled::Error),
    Damaged(String),
}

fn sized(config: &sled::Config, cache_bytes: u64) -> sled::Config {
    config
        .clone()
        .cache_capacity(cache_bytes)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::LowSpace)
}

/// sled answers some damage with an error and some with a panic.
fn open_unless_damaged(config: &sled::Config, cache_bytes: u64) -> Result<sled::Db, Unopened> {
    match catch_unwind(AssertUnwindSafe(|| sized(config, cache_bytes).open())) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) if is_damage(&error) => Err(Unopened::Damaged(error.to_string())),
        Ok(Err(error)) => Err(Unopened::Refused(error)),
        Err(_panic) => Err(Unopened::Damaged("sled panicked while it read its files".to_owned())),
    }
}

fn is_damage(error: &sled::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        sled::Error::Io(error) => {
            matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
        }
        _ => true,
    }
}

impl Tree {
    /// The value of a key.
    ///
    /// # Errors
    /// The tree is damaged: wipe and rebuild it.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self
            .tree
            .get(key)
            .map_err(|source| self.failed(source))?
            .map(|value| value.to_vec()))
    }

    /// Applies all changes of a batch together.
    ///
    /// # Errors
    /// The tree is damaged or the disk is full.
    pub fn apply(&self, changes: TreeBatch) -> Result<(), TreeError> {
        self.tree
            .apply_batch(changes.batch)
            .map_err(|source| self.failed(source))
    }

    /// Removes one key; no error if it is not there.
    ///
    /// # Errors
    /// The tree is damaged or the disk is full.
    pub fn remove(&self, key: &[u8]) -> Result<(), TreeError> {
        self.tree.remove(key).map(|_| ()).map_err(|source| self.failed(source))
    }

    /// Pairs in key order, beginning with the first key >= `from`. Not a snapshot: later changes may show.
    pub fn iter_from<'a>(&'a self, from: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), TreeError>> + 'a {
        self.tree.range(from.to_vec()..).map(|pair| {
            let (key, value) = pair.map_err(|source| self.failed(source))?;
            Ok((key.to_vec(), value.to_vec()))
        })
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The tree is damaged or the disk is full.
    pub fn clear(&self) -> Result<(), TreeError> {
        self.tree.clear().map_err(|source| self.failed(source))
    }

    /// Hands everything to the operating system. That survives the process, not the machine.
    ///
    /// # Errors
    /// The tree is damaged or the disk is full.
    pub fn flush(&self) -> Result<(), TreeError> {
        self.tree.flush().map(|_| ()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: sled::Error) -> TreeError {
        TreeError {
            path: String::from_utf8_lossy(&self.tree.name()).into_owned().into(),
            source,
        }
    }
}

impl TreeBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.batch.insert(key, value);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) {
        self.batch.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(trees: &Trees) -> Tree {
        let tree = trees.tree("shard-7").unwrap();
        let mut batch = TreeBatch::new();
        for key in ["b", "a", "d", "c"] {
            batch.insert(key.as_bytes(), &key.as_bytes().repeat(3));
        }
        batch.remove(b"d");
        tree.apply(batch).unwrap();
        tree
    }

    fn keys(tree: &Tree, from: &str) -> Vec<String> {
        tree.iter_from(from.as_bytes())
            .map(|pair| String::from_utf8(pair.unwrap().0).unwrap())
            .collect()
    }

    #[test]
    fn keys_come_in_order_from_where_one_asks() {
        let trees = Trees::temporary(DEFAULT_CACHE_BYTES).unwrap();
        let tree = filled(&trees);
        assert_eq!(tree.get(b"b").unwrap().unwrap(), b"bbb");
        assert_eq!(keys(&tree, ""), ["a", "b", "c"]);
        assert_eq!(keys(&tree, "aa"), ["b", "c"]);
        tree.remove(b"b").unwrap();
        assert_eq!(keys(&tree, "a"), ["a", "c"]);
        tree.clear().unwrap();
        assert_eq!(tree.get(b"a").unwrap(), None);
        assert_eq!(trees.names(), ["shard-7"]);
        trees.drop_tree("shard-7").unwrap();
        assert!(trees.names().is_empty());
    }

    #[test]
    fn a_reopened_tree_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trees");
        let (trees, opened) = Trees::open(&path, DEFAULT_CACHE_BYTES).unwrap();
        assert_eq!(opened, Opened::Fresh);
        filled(&trees).flush().unwrap();
        drop(trees);
        let (trees, opened) = Trees::open(&path, DEFAULT_CACHE_BYTES).unwrap();
        assert_eq!(opened, Opened::Found);
        assert_eq!(keys(&trees.tree("shard-7").unwrap(), ""), ["a", "b", "c"]);
        assert!(trees.disk_bytes().unwrap() > 0);
    }

    #[test]
    fn a_damaged_folder_is_wiped_and_that_is_said() {
        for file in ["conf", "db"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("trees");
            filled(&Trees::open(&path, DEFAULT_CACHE_BYTES).unwrap().0)
                .flush()
                .unwrap();
            let length = std::fs::metadata(path.join(file)).unwrap().len();
            std::fs::write(path.join(file), vec![0xA5; length as usize]).unwrap();
            let (trees, opened) = Trees::open(&path, DEFAULT_CACHE_BYTES).unwrap();
            // sled takes some damage for an empty file; either way the caller hears that all is to be built.
            assert!(opened != Opened::Found, "{file}: {opened:?}");
            assert_eq!(
                keys(&trees.tree("shard-7").unwrap(), ""),
                Vec::<String>::new(),
                "{file}"
            );
        }
    }

    #[test]
    fn a_folder_in_use_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = Trees::open(dir.path(), DEFAULT_CACHE_BYTES).unwrap();
        let tree = filled(&first);
        assert!(Trees::open(dir.path(), DEFAULT_CACHE_BYTES).is_err());
        assert_eq!(keys(&tree, ""), ["a", "b", "c"]);
    }
}
