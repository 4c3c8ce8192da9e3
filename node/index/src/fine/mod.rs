//! Files of 4 KiB pages, each page with its checksum: how every part of a segment lies on disk.
//!
//! ```text
//! page 0 .. n            content: up to 8 sections, each from a page boundary on, zero-filled to the next
//! page n .. n+t          table: crc32c (u32) of each content page, in order; zero-filled
//! last page              footer: magic, version, kind, numbers, sections, name, xxh3_64 of table and of itself
//! ```
//! The footer stands at the end so that a file is written in one pass; its checksums are tested when the file is opened,
//! a content page's when it is first read. Files are mapped, never copied: sealed vectors live in the page cache, not in
//! anonymous memory. Content pages are bare, so that rows of 2 KiB fill a page exactly.
//!
//! [`mod@format`] draws the footer, [`writer`] and [`reader`] follow it, [`rows`] packs vectors into pages, [`io`] maps;
//! [`verify`] says which rows must be read.

pub(crate) mod format;
mod io;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod verify;
pub(crate) mod writer;

pub(crate) use format::{Footer, Kind};
pub(crate) use io::{Resident, is_memory_short};
pub(crate) use reader::PagedFile;
pub(crate) use writer::PagedWriter;
