//! What does a damaged column do? It is given up, and built anew; it never answers wrongly and never panics.

use granum_index::{Index, Inline, Options, verify};
use proptest::prelude::*;

use super::{answer, columns, expected, random, schema, seal};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever a flipped bit hits, answers stay, the damage is named, and the file is built anew.
    #[test]
    fn a_flipped_bit_changes_no_answer_and_is_mended(
        file in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        filters in prop::collection::vec(random::filter(), 24),
    ) {
        let payloads = random::fixed_payloads();
        let directory = tempfile::tempdir().unwrap();
        let (_, manifest) = seal(directory.path(), schema(), &payloads);
        let columns = columns(directory.path());
        let path = &columns[file.index(columns.len())];
        let sound = std::fs::read(path).unwrap();
        let mut bytes = sound.clone();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(path, &bytes).unwrap();
        prop_assert!(verify(directory.path(), &manifest).problems_found > 0);
        let index = Index::open(directory.path(), schema(), Options::default(), &manifest).unwrap();
        for filter in &filters {
            prop_assert_eq!(answer(&index, filter), expected(&payloads, filter));
        }
        // What no filter has read is not known to be damaged.
        index.derive(&Inline).unwrap();
        for filter in &filters {
            prop_assert_eq!(answer(&index, filter), expected(&payloads, filter));
        }
        let is_mended = std::fs::read(path).unwrap() == sound;
        prop_assert_eq!(verify(directory.path(), &manifest).problems_found == 0, is_mended);
    }

    /// Bytes changed by somebody who also mends the checksums: any answer, but no panic and no endless memory.
    #[test]
    fn hostile_columns_never_panic(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        filters in prop::collection::vec(random::filter(), 24),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (_, manifest) = seal(directory.path(), schema(), &random::fixed_payloads());
        let columns = columns(directory.path());
        let path = &columns[file.index(columns.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let pages = u64::from_le_bytes(bytes[bytes.len() - 4096 + 32..][..8].try_into().unwrap()) as usize;
        for (at, byte) in changes {
            // Content is sparse in its pages: most changes shall hit what is read.
            let at = at.index(pages * 256);
            bytes[at / 256 * 4096 + at % 256] = byte;
        }
        mend(&mut bytes, pages);
        std::fs::write(path, &bytes).unwrap();
        let index = Index::open(directory.path(), schema(), Options::default(), &manifest).unwrap();
        for filter in &filters {
            let _ = index.view().count(filter, &|| false);
            for field in schema().payload {
                let _ = index.view().facet(&field, filter, 3, &|| false);
            }
        }
        let _ = verify(directory.path(), &manifest);
    }
}

/// Writes right checksums over whatever the content is: table, digest of the table, digest of the footer.
fn mend(bytes: &mut [u8], pages: usize) {
    use xxhash_rust::xxh3::xxh3_64;
    for page in 0..pages {
        let checksum = crc32c::crc32c(&bytes[page * 4096..(page + 1) * 4096]);
        bytes[pages * 4096 + page * 4..][..4].copy_from_slice(&checksum.to_le_bytes());
    }
    let footer = bytes.len() - 4096;
    let table_digest = xxh3_64(&bytes[pages * 4096..footer]);
    bytes[footer + 40..][..8].copy_from_slice(&table_digest.to_le_bytes());
    let digest = xxh3_64(&bytes[footer..footer + 4088]);
    bytes[footer + 4088..].copy_from_slice(&digest.to_le_bytes());
}
