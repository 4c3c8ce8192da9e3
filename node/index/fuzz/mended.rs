//! How does a forger change a file? Any bytes of it, and then every checksum over them made right.
//!
//! A list of edits is: place (u24), length and repeats (u8 each), then so many bytes, which are written so many times end to
//! end; and the next. Places run through the content pages and then the used part of the footer. Knows the frame of a file
//! from docs/formats/segment.md alone.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes of a footer that mean something.
const FOOTER_BYTES: usize = 320;
/// Where the footer's digest stands.
pub const FOOTER_DIGEST: usize = PAGE - 8;
/// Content bytes of a sound file.
fn content_bytes(bytes: &[u8]) -> usize {
    let pages = bytes[bytes.len() - PAGE + 32..][..8].try_into().expect("8 bytes");
    u64::from_le_bytes(pages) as usize * PAGE
}

/// Makes the edits, and mends the checksums over them.
pub fn edit(bytes: &mut [u8], mut edits: &[u8]) {
    let (content, footer) = (content_bytes(bytes), bytes.len() - PAGE);
    while let [a, b, c, length, repeats, rest @ ..] = edits {
        let place = u32::from_le_bytes([*a, *b, *c, 0]) as usize % (content + FOOTER_BYTES);
        let (written, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        for (at, byte) in written.repeat(usize::from(*repeats).max(1)).into_iter().enumerate() {
            let at = place + at;
            if at < content {
                bytes[at] = byte;
            } else if at < content + FOOTER_BYTES {
                bytes[footer + at - content] = byte;
            }
        }
        edits = rest;
    }
    mend(bytes, content / PAGE);
}

/// Right checksums over whatever the content is: table, digest of the table, digest of the footer.
fn mend(bytes: &mut [u8], pages: usize) {
    for page in 0..pages {
        let checksum = crc32c::crc32c(&bytes[page * PAGE..(page + 1) * PAGE]);
        bytes[pages * PAGE + page * 4..][..4].copy_from_slice(&checksum.to_le_bytes());
    }
    let footer = bytes.len() - PAGE;
    let digest = xxh3_64(&bytes[pages * PAGE..footer]);
    bytes[footer + 40..][..8].copy_from_slice(&digest.to_le_bytes());
    seal_footer(bytes);
}

/// The right digest over whatever the footer says.
pub fn seal_footer(bytes: &mut [u8]) {
    let footer = bytes.len() - PAGE;
    let digest = xxh3_64(&bytes[footer..footer + FOOTER_DIGEST]);
    bytes[footer + FOOTER_DIGEST..].copy_from_slice(&digest.to_le_bytes());
}

/// The file with another content of section `number`, laid out anew as docs/formats/segment.md has it.
pub fn with_section(sound: &[u8], number: usize, content: &[u8]) -> Vec<u8> {
    let mut footer = sound[sound.len() - PAGE..].to_vec();
    let word = |footer: &[u8], at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().expect("8 bytes")) as usize;
    let sections = u32::from_le_bytes(footer[12..16].try_into().expect("4 bytes")) as usize;
    let mut bytes = Vec::new();
    for at in 0..sections {
        let (offset, length) = (word(&footer, 64 + at * 16), word(&footer, 72 + at * 16));
        let own = if at == number {
            content
        } else {
            &sound[offset..offset + length]
        };
        footer[64 + at * 16..][..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        footer[72 + at * 16..][..8].copy_from_slice(&(own.len() as u64).to_le_bytes());
        bytes.extend_from_slice(own);
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    }
    let pages = bytes.len() / PAGE;
    footer[32..40].copy_from_slice(&(pages as u64).to_le_bytes());
    bytes.resize((pages + (pages * 4).div_ceil(PAGE)) * PAGE, 0);
    bytes.extend_from_slice(&footer);
    mend(&mut bytes, pages);
    bytes
}
