//! Little-endian numbers out of untrusted bytes: every read is bounded by the slice, none panics.

/// The `at`-th u32 of a table.
pub(crate) fn u32_at(table: &[u8], at: usize) -> Option<u32> {
    let start = at.checked_mul(4)?;
    Some(u32::from_le_bytes(
        table.get(start..start.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// A little-endian field of `N` bytes at `offset`, for frames whose length was checked.
pub(crate) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the range is N bytes long")
}

/// A file's offset or length as an index into its mapped bytes: on a 64-bit machine it is the same number.
pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
