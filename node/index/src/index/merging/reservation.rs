//! The files of a merge belong to nobody yet: who may remove them, and when do they go?

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::document::SegmentId;
use crate::error::MergeError;
use crate::segment::names;

/// The right to write a segment's files, one merge at a time. They go with it, unless a manifest may name them.
pub(super) struct Reservation {
    pub id: SegmentId,
    pub is_named: bool,
    directory: PathBuf,
    merging: Arc<Mutex<Option<SegmentId>>>,
}

impl Reservation {
    pub fn take(
        directory: &Path,
        merging: &Arc<Mutex<Option<SegmentId>>>,
        id: SegmentId,
    ) -> Result<Reservation, MergeError> {
        let mut reserved = merging.lock().unwrap_or_else(PoisonError::into_inner);
        if reserved.is_some() {
            return Err(MergeError::Busy);
        }
        *reserved = Some(id);
        Ok(Reservation {
            id,
            is_named: false,
            directory: directory.to_owned(),
            merging: merging.clone(),
        })
    }

    /// Removes the segment's files, as far as that goes: the next cleaning removes the rest.
    fn remove_files(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_str().and_then(names::segment_of) == Some(self.id) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_named {
            self.remove_files();
        }
        *self.merging.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
