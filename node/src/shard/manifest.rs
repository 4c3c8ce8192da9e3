//! What stands sealed? The manifest names the files of a shard and carries everything else that replicas agree on.
//!
//! It is written last, beside the files that it names, and renamed into place: what it says is durable when it can be
//! read. docs/formats/manifest.md draws it.

use std::collections::HashSet;
use std::path::Path;

use granum_index::{FileRef, SegmentId, SegmentRef};
use granum_proto::internal::{Manifest, ManifestFile, ManifestSegment};
use prost::Message;

use super::documents::Tag;
use super::files::is_plain_name;
use super::frame::{self, FrameError, Kind};
use crate::disk::Disk;

/// Name of the file.
pub const MANIFEST_FILE: &str = "MANIFEST";

const FRAME: Kind = Kind {
    magic: *b"GRANMANI",
    version: 1,
};

/// A manifest that was read, its segments checked.
#[derive(Debug)]
pub struct Opened {
    /// As it stands in the file, its dedup table and schema included.
    pub manifest: Manifest,
    /// Its segments.
    pub segments: Vec<SegmentRef>,
    /// What names this very manifest.
    pub tag: Tag,
}

/// Puts a manifest into `directory`, durably and at once.
pub fn write(disk: &dyn Disk, directory: &Path, manifest: &Manifest) -> Result<Tag, FrameError> {
    let digest = frame::write(disk, &directory.join(MANIFEST_FILE), FRAME, &manifest.encode_to_vec())?;
    Ok(Tag {
        sequence: manifest.sequence,
        manifest: digest,
    })
}

/// Reads the manifest of `directory`; `None`: nothing was ever sealed there.
pub fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Opened>, FrameError> {
    let path = directory.join(MANIFEST_FILE);
    let Some(framed) = frame::read(disk, &path, FRAME)? else {
        return Ok(None);
    };
    let damaged = |problem: String| FrameError::Damaged {
        path: path.clone(),
        offset: 32,
        problem,
    };
    let manifest = Manifest::decode(&framed.content[..]).map_err(|error| damaged(error.to_string()))?;
    let segments = read_segments(&manifest).map_err(damaged)?;
    let tag = Tag {
        sequence: manifest.sequence,
        manifest: framed.digest,
    };
    Ok(Some(Opened {
        manifest,
        segments,
        tag,
    }))
}

/// Segments as a manifest names them.
pub fn write_segments(segments: &[SegmentRef]) -> Vec<ManifestSegment> {
    let file = |file: &FileRef| ManifestFile {
        name: file.name.clone(),
        bytes: file.bytes,
        xxh3: file.xxh3,
    };
    let segment = |segment: &SegmentRef| ManifestSegment {
        id: segment.id.0,
        files: segment.files.iter().map(file).collect(),
        rows: segment.rows,
        live_rows: segment.live_rows,
        deleted: segment.deleted,
        digest: segment.digest,
        dead_digest: segment.dead_digest,
    };
    segments.iter().map(segment).collect()
}

fn read_segments(manifest: &Manifest) -> Result<Vec<SegmentRef>, String> {
    let mut names = HashSet::new();
    let mut segments: Vec<SegmentRef> = Vec::with_capacity(manifest.segments.len());
    for segment in &manifest.segments {
        if segments.iter().any(|earlier| earlier.id.0 == segment.id) || segment.id >= manifest.next_segment {
            return Err(format!("segment {} stands twice, or was not yet minted", segment.id));
        }
        if segment.live_rows > segment.rows {
            return Err(format!(
                "segment {}: {} live rows of {}",
                segment.id, segment.live_rows, segment.rows
            ));
        }
        for file in &segment.files {
            if !is_plain_name(&file.name) || file.name == MANIFEST_FILE || !names.insert(&file.name) {
                return Err(format!(
                    "segment {}: file {:?} is no plain name, or stands twice",
                    segment.id, file.name
                ));
            }
        }
        let file = |file: &ManifestFile| FileRef {
            name: file.name.clone(),
            bytes: file.bytes,
            xxh3: file.xxh3,
        };
        segments.push(SegmentRef {
            id: SegmentId(segment.id),
            rows: segment.rows,
            live_rows: segment.live_rows,
            digest: segment.digest,
            dead_digest: segment.dead_digest,
            deleted: segment.deleted,
            files: segment.files.iter().map(file).collect(),
        });
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use crate::disk::RealDisk;

    use super::*;

    fn segment(id: u64, names: &[&str]) -> ManifestSegment {
        let file = |name: &&str| ManifestFile {
            name: (*name).into(),
            bytes: 7,
            xxh3: 8,
        };
        ManifestSegment {
            id,
            files: names.iter().map(file).collect(),
            rows: 9,
            live_rows: 5,
            deleted: Some(3),
            digest: 1 << 63,
            dead_digest: 5,
        }
    }

    #[track_caller]
    fn check(segments: Vec<ManifestSegment>) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let manifest = Manifest {
            next_segment: 9,
            sequence: 4,
            segments,
            ..Manifest::default()
        };
        let tag = write(&RealDisk, folder.path(), &manifest).unwrap();
        let opened = read(&RealDisk, folder.path())
            .map_err(|error| error.to_string())?
            .unwrap();
        assert_eq!((opened.tag, &opened.manifest), (tag, &manifest));
        assert_eq!(write_segments(&opened.segments), manifest.segments);
        Ok(())
    }

    #[test]
    fn a_manifest_reads_back() {
        check(vec![segment(1, &["1.ids", "1.payload"]), segment(8, &["8.ids"])]).unwrap();
    }

    #[test]
    fn a_hostile_manifest_is_refused() {
        let outside = check(vec![segment(1, &["../../etc/passwd"])]).unwrap_err();
        assert!(outside.contains("no plain name"), "{outside}");
        assert!(check(vec![segment(1, &["a"]), segment(1, &["b"])]).is_err());
        assert!(check(vec![segment(1, &["a", "a"])]).is_err());
        assert!(check(vec![segment(9, &["a"])]).is_err());
        assert!(check(vec![segment(1, &[MANIFEST_FILE])]).is_err());
        assert!(
            check(vec![ManifestSegment {
                live_rows: 10,
                ..segment(1, &["a"])
            }])
            .is_err()
        );
    }
}
