//! The footer of a paged file: its bytes, drawn and checked (docs/formats/segment.md shows the same table).
//!
//! ```text
//! offset bytes
//!    0    8  magic "GRANUMSG"
//!    8    2  version, 1
//!   10    2  kind (1 ids, 2 payload, 3 dense, 4 sparse, 5 multi, 6 deleted, 7 graph,
//!             8 codes, 9 column)
//!   12    4  sections, 0..=8
//!   16    8  segment
//!   24    8  rows of the segment
//!   32    8  content pages
//!   40    8  xxh3_64 of the checksum table's pages
//!   48    4  dimension, 0 where there is none
//!   52    1  distance (0 cosine, 1 dot, 2 euclid, 3 manhattan)
//!   53    1  component format (0 f16, 1 f32, 2 i8: scale f32, then a byte a component)
//!   54    2  bytes of the name, 0..=128
//!   56    8  fingerprint: of the file this one was derived from; 0 where it was not
//!   64  128  8 x (offset u64, bytes u64) of the sections; zero from the last on
//!  192  128  name of the vector, UTF-8; zero-filled
//!  320 3768  zero
//! 4088    8  xxh3_64 of bytes 0..4088
//! ```

use granum_model::{Distance, Fine};
use xxhash_rust::xxh3::xxh3_64;

use crate::bytes::field;

/// Bytes of a page: the unit of checksums and of reads.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Most sections of a file.
pub(crate) const SECTIONS_MAX: usize = 8;
/// Longest name of a vector, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// Most content pages: 16 TiB.
const PAGES_MAX: u64 = 1 << 32;

const MAGIC: [u8; 8] = *b"GRANUMSG";
const VERSION: u16 = 1;
const SECTIONS_OFFSET: usize = 64;
const NAME_OFFSET: usize = SECTIONS_OFFSET + SECTIONS_MAX * 16;
const DIGEST_OFFSET: usize = PAGE_BYTES - 8;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ids,
    Payload,
    Dense,
    Sparse,
    Multi,
    Deleted,
    Graph,
    Codes,
    Column,
}

const KINDS: [(Kind, u16); 9] = [
    (Kind::Ids, 1),
    (Kind::Payload, 2),
    (Kind::Dense, 3),
    (Kind::Sparse, 4),
    (Kind::Multi, 5),
    (Kind::Deleted, 6),
    (Kind::Graph, 7),
    (Kind::Codes, 8),
    (Kind::Column, 9),
];
const DISTANCES: [Distance; 4] = [Distance::Cosine, Distance::Dot, Distance::Euclid, Distance::Manhattan];
const FINES: [Fine; 3] = [Fine::F16, Fine::F32, Fine::I8];

/// A range of content bytes. It begins on a page boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub offset: u64,
    pub bytes: u64,
}

/// What a file says about itself. `distance` and `fine` mean something for vectors and graphs only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Footer {
    pub kind: Kind,
    pub segment: u64,
    pub rows: u64,
    pub pages: u64,
    pub table_digest: u64,
    pub dimension: u32,
    pub distance: Distance,
    pub fine: Fine,
    pub fingerprint: u64,
    pub sections: Vec<Section>,
    pub name: String,
}

impl Footer {
    /// A footer without content, for a file that is about to be written.
    pub fn new(kind: Kind, segment: u64, rows: u64) -> Footer {
        Footer {
            kind,
            segment,
            rows,
            pages: 0,
            table_digest: 0,
            dimension: 0,
            distance: Distance::Cosine,
            fine: Fine::F16,
            fingerprint: 0,
            sections: Vec::new(),
            name: String::new(),
        }
    }

    pub fn encode(&self) -> [u8; PAGE_BYTES] {
        assert!(self.sections.len() <= SECTIONS_MAX, "{} sections", self.sections.len());
        assert!(self.name.len() <= NAME_BYTES_MAX, "name of {} bytes", self.name.len());
        let mut page = [0; PAGE_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(10, &code(&KINDS, self.kind).to_le_bytes());
        put(12, &(self.sections.len() as u32).to_le_bytes());
        put(16, &self.segment.to_le_bytes());
        put(24, &self.rows.to_le_bytes());
        put(32, &self.pages.to_le_bytes());
        put(40, &self.table_digest.to_le_bytes());
        put(48, &self.dimension.to_le_bytes());
        put(52, &[position(&DISTANCES, self.distance), position(&FINES, self.fine)]);
        put(54, &(self.name.len() as u16).to_le_bytes());
        put(56, &self.fingerprint.to_le_bytes());
        for (at, section) in self.sections.iter().enumerate() {
            put(SECTIONS_OFFSET + at * 16, &section.offset.to_le_bytes());
            put(SECTIONS_OFFSET + at * 16 + 8, &section.bytes.to_le_bytes());
        }
        put(NAME_OFFSET, self.name.as_bytes());
        let digest = xxh3_64(&page[..DIGEST_OFFSET]);
        page[DIGEST_OFFSET..].copy_from_slice(&digest.to_le_bytes());
        page
    }

    /// Reads and checks a footer; the text says what is wrong.
    pub fn decode(page: &[u8; PAGE_BYTES]) -> Result<Footer, String> {
        if field::<8>(page, 0) != MAGIC {
            return Err("no segment file: the magic bytes are missing".into());
        }
        let digest = u64::from_le_bytes(field(page, DIGEST_OFFSET));
        if digest != xxh3_64(&page[..DIGEST_OFFSET]) {
            return Err("the footer is damaged".into());
        }
        let version = u16::from_le_bytes(field(page, 8));
        if version != VERSION {
            return Err(format!("format version {version}, this program reads {VERSION}"));
        }
        let kind = u16::from_le_bytes(field(page, 10));
        let footer = Footer {
            kind: KINDS
                .iter()
                .find(|(_, code)| *code == kind)
                .ok_or(format!("unknown kind {kind}"))?
                .0,
            segment: u64::from_le_bytes(field(page, 16)),
            rows: u64::from_le_bytes(field(page, 24)),
            pages: u64::from_le_bytes(field(page, 32)),
            table_digest: u64::from_le_bytes(field(page, 40)),
            dimension: u32::from_le_bytes(field(page, 48)),
            distance: *DISTANCES
                .get(usize::from(page[52]))
                .ok_or(format!("unknown distance {}", page[52]))?,
            fine: *FINES
                .get(usize::from(page[53]))
                .ok_or(format!("unknown component format {}", page[53]))?,
            fingerprint: u64::from_le_bytes(field(page, 56)),
            sections: Vec::new(),
            name: decode_name(page)?,
        };
        if footer.pages > PAGES_MAX || footer.rows > u64::from(u32::MAX) {
            return Err(format!("{} pages, {} rows: out of range", footer.pages, footer.rows));
        }
        Ok(Footer {
            sections: decode_sections(page, footer.pages)?,
            ..footer
        })
    }

    /// Length of the file that this footer closes, in bytes.
    pub fn file_bytes(&self) -> u64 {
        (self.pages + table_pages(self.pages) + 1) * PAGE_BYTES as u64
    }
}

/// Pages of the checksum table for so many content pages.
pub(crate) fn table_pages(pages: u64) -> u64 {
    (pages * 4).div_ceil(PAGE_BYTES as u64)
}

fn decode_name(page: &[u8; PAGE_BYTES]) -> Result<String, String> {
    let bytes = usize::from(u16::from_le_bytes(field(page, 54)));
    if bytes > NAME_BYTES_MAX {
        return Err(format!("name of {bytes} bytes, at most {NAME_BYTES_MAX}"));
    }
    let name = std::str::from_utf8(&page[NAME_OFFSET..NAME_OFFSET + bytes]);
    Ok(name.map_err(|_| "name is not UTF-8")?.to_owned())
}

/// Sections follow one another on page boundaries and stay within the content.
fn decode_sections(page: &[u8; PAGE_BYTES], pages: u64) -> Result<Vec<Section>, String> {
    let count = u32::from_le_bytes(field(page, 12)) as usize;
    if count > SECTIONS_MAX {
        return Err(format!("{count} sections, at most {SECTIONS_MAX}"));
    }
    let mut sections: Vec<Section> = Vec::with_capacity(count);
    let mut free = 0;
    for at in 0..count {
        let offset = u64::from_le_bytes(field(page, SECTIONS_OFFSET + at * 16));
        let bytes = u64::from_le_bytes(field(page, SECTIONS_OFFSET + at * 16 + 8));
        let end = offset
            .checked_add(bytes)
            .filter(|end| *end <= pages * PAGE_BYTES as u64);
        match end {
            Some(end) if offset >= free && offset % PAGE_BYTES as u64 == 0 => free = end,
            _ => return Err(format!("section {at} at {offset}, {bytes} bytes: out of place")),
        }
        sections.push(Section { offset, bytes });
    }
    Ok(sections)
}

fn code(table: &[(Kind, u16)], kind: Kind) -> u16 {
    table
        .iter()
        .find(|(own, _)| *own == kind)
        .expect("the table lists every kind")
        .1
}

fn position<T: PartialEq>(table: &[T], item: T) -> u8 {
    table
        .iter()
        .position(|own| *own == item)
        .expect("the table lists every variant") as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn footer() -> Footer {
        let mut footer = Footer::new(Kind::Dense, 7, 1000);
        footer.pages = 10;
        footer.dimension = 384;
        footer.distance = Distance::Euclid;
        footer.name = "title".into();
        footer.sections = vec![
            Section { offset: 0, bytes: 5000 },
            Section {
                offset: 8192,
                bytes: 100,
            },
        ];
        footer
    }

    #[test]
    fn a_footer_reads_back() {
        assert_eq!(Footer::decode(&footer().encode()), Ok(footer()));
    }

    #[test]
    fn sections_out_of_place_are_refused() {
        for (offset, bytes) in [(4096, 40_000), (100, 1), (0, 1), (u64::MAX - 4095, 8192)] {
            let mut bad = footer();
            bad.sections[1] = Section { offset, bytes };
            assert!(Footer::decode(&bad.encode()).is_err(), "{offset} {bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..PAGE_BYTES * 8) {
            let mut page = footer().encode();
            page[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Footer::decode(&page).is_err());
        }

        #[test]
        fn hostile_footers_never_panic(changes in prop::collection::vec((0..DIGEST_OFFSET, any::<u8>()), 1..20)) {
            let mut page = footer().encode();
            for (at, byte) in changes {
                page[at] = byte;
            }
            let digest = xxh3_64(&page[..DIGEST_OFFSET]);
            page[DIGEST_OFFSET..].copy_from_slice(&digest.to_le_bytes());
            let _ = Footer::decode(&page);
        }
    }
}
