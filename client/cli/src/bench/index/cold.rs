//! Reading from an empty page cache: how it is emptied, and what the disk can do at best.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use rustix::fs::{Advice, fadvise};

const PAGE_BYTES: u64 = 4096;

/// Drops the pages of all files below `directory` from the page cache; none of them may be mapped.
pub fn drop_caches(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Seconds of `rounds` rounds of `depth` random reads of a page each, all of a round under way at once.
pub fn probe(directory: &Path, rounds: usize, depth: usize) -> anyhow::Result<f64> {
    drop_caches(directory)?;
    let largest = fs::read_dir(directory)?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_name().to_string_lossy().contains(".vector."))
        .max_by_key(|entry| entry.metadata().map_or(0, |metadata| metadata.len()));
    let file = File::open(largest.context("no file of vectors to probe")?.path())?;
    let pages = (file.metadata()?.len() / PAGE_BYTES).max(1);
    fadvise(&file, 0, None, Advice::Random)?;
    let mut page = [0; PAGE_BYTES as usize];
    let started = Instant::now();
    for round in 0..rounds {
        let offset = |at: usize| {
            let draw = super::rows::draw((round * depth + at) as u64);
            (draw * pages as f64) as u64 * PAGE_BYTES
        };
        for at in 0..depth {
            fadvise(
                &file,
                offset(at),
                std::num::NonZeroU64::new(PAGE_BYTES),
                Advice::WillNeed,
            )?;
        }
        for at in 0..depth {
            file.read_exact_at(&mut page, offset(at))?;
        }
    }
    Ok(started.elapsed().as_secs_f64())
}
