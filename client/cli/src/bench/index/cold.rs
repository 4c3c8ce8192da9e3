//! Queries with an empty page cache, and what the disk can do at best: as many random pages a query, all under way at once.
//!
//! A page that a process has mapped stays in the cache when it is told to go, so the index is opened anew for each round, and
//! no other may be open. Pages that came from the disk are counted beside the times: where they are few, nothing was cold.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use granum_index::{Index, Inline};
use rustix::fs::{Advice, fadvise};

use super::measure::{self, Questions};
use super::setting::Setting;
use super::{Built, rows};

const PAGE_BYTES: u64 = 4096;
/// Few, so that hardly two of them meet on a page.
const QUERIES: usize = 200;

/// Means a query.
#[derive(Clone, Copy, Debug)]
pub struct Cold {
    pub query_us: f64,
    /// Pages that came from the disk, those of ids and versions too.
    pub query_pages: f64,
    pub probe_us: f64,
    pub probe_pages: f64,
}

/// The first queries, asked once each of an index that was just opened; then the probe.
pub fn measure(questions: &Questions<'_>, built: &Built, directory: &Path, setting: Setting) -> anyhow::Result<Cold> {
    let mut asked = questions.all(questions.command.params(setting));
    asked.truncate(QUERIES);
    drop_caches(directory)?;
    let index = Index::open(directory, built.schema.clone(), built.options, &built.manifest)?;
    // Codes and links are memory: they are there before the first query that counts.
    index.derive(&Inline)?;
    let view = index.view();
    let mut disk_pages = disk_pages()?;
    let mut since = || -> anyhow::Result<f64> {
        let before = std::mem::replace(&mut disk_pages, self::disk_pages()?);
        Ok((disk_pages - before) as f64)
    };
    let started = Instant::now();
    let answers = measure::ask_all(&view, &asked, 1, 1)?;
    let query_seconds = started.elapsed().as_secs_f64();
    let query_pages = since()?;
    drop((view, index));
    drop_caches(directory)?;
    let depths = answers.iter().map(|(found, _)| found.usage.pages_read);
    let probe_seconds = probe(directory, depths)?;
    let probe_pages = since()?;
    let count = asked.len() as f64;
    Ok(Cold {
        query_us: query_seconds * 1e6 / count,
        query_pages: query_pages / count,
        probe_us: probe_seconds * 1e6 / count,
        probe_pages: probe_pages / count,
    })
}

/// Drops the pages of all files below `directory` from the page cache; none of them may be mapped.
fn drop_caches(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Seconds of rounds of so many random reads of a page each, all of a round under way at once.
fn probe(directory: &Path, depths: impl Iterator<Item = u64>) -> anyhow::Result<f64> {
    let largest = fs::read_dir(directory)?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_name().to_string_lossy().contains(".vector."))
        .max_by_key(|entry| entry.metadata().map_or(0, |metadata| metadata.len()));
    let file = File::open(largest.context("no file of vectors to probe")?.path())?;
    let pages = (file.metadata()?.len() / PAGE_BYTES).max(1);
    fadvise(&file, 0, None, Advice::Random)?;
    let mut page = [0; PAGE_BYTES as usize];
    let mut draws = (0..).map(|number| (rows::draw(number) * pages as f64) as u64 * PAGE_BYTES);
    let started = Instant::now();
    for depth in depths {
        let offsets: Vec<u64> = draws.by_ref().take(depth as usize).collect();
        for offset in &offsets {
            fadvise(&file, *offset, NonZeroU64::new(PAGE_BYTES), Advice::WillNeed)?;
        }
        for offset in &offsets {
            file.read_exact_at(&mut page, *offset)?;
        }
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Pages that this process has had read from a disk; 0 where the system does not tell.
fn disk_pages() -> anyhow::Result<u64> {
    let counters = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = counters.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    Ok(bytes.map_or(Ok(0), str::parse)? / PAGE_BYTES)
}
