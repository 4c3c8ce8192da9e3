//! Does every record come back, and is every broken one seen?

use super::*;
use crate::raft::type_config::{Membership, Peer};
use std::collections::BTreeSet;

fn facts() -> Vec<Fact> {
    let membership = Membership::new(
        vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])],
        std::collections::BTreeMap::from([1, 2, 3, 9].map(|replica| (replica, Peer { node_id: replica + 100 }))),
    );
    let entry = |payload| Entry {
        log_id: log_id(3, 7),
        payload,
    };
    let command = Payload::Normal(Command(Bytes::from_static(b"put")));
    vec![
        Fact::Entry {
            entry: entry(Payload::Blank),
            carried: false,
        },
        Fact::Entry {
            entry: entry(command),
            carried: true,
        },
        Fact::Entry {
            entry: entry(Payload::Membership(membership.unwrap())),
            carried: false,
        },
        Fact::Vote(Vote::new(4, 11)),
        Fact::Vote(Vote::new_committed(5, 12)),
        Fact::TruncateAfter(None),
        Fact::TruncateAfter(Some(log_id(0, 0))),
        Fact::Purge(log_id(2, 6)),
        Fact::Committed(Some(log_id(2, 6))),
        Fact::Committed(None),
        Fact::Drop,
    ]
}

fn decode(bytes: &[u8]) -> Result<(Header, Fact), BadRecord> {
    let header = Header::decode(bytes)?;
    Ok((header, header.fact(bytes)?))
}

#[test]
fn every_fact_comes_back() {
    for fact in facts() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 42, &fact, 1000, 900);
        let (header, decoded) = decode(&bytes).unwrap();
        assert_eq!(decoded, fact);
        assert_eq!((header.group, header.position, header.synced), (42, 1000, 900));
        assert_eq!(header.record_bytes(), bytes.len());
        if let Fact::Entry { entry, .. } = fact {
            assert_eq!(entry_bytes(&entry.payload), bytes.len());
        }
    }
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unseen() {
    for fact in facts() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 42, &fact, 1000, 900);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "{fact:?} with bit {bit} flipped");
        }
        for length in 0..bytes.len() {
            let mut torn = bytes[..length].to_vec();
            assert!(decode(&torn).is_err(), "{fact:?} cut at {length}");
            torn.resize(bytes.len(), 0);
            assert!(decode(&torn).is_err(), "{fact:?} torn at {length}");
        }
    }
}

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    let mut bytes = Vec::new();
    encode(&mut bytes, 0x0102, &facts()[1], 0x0304, 0x0203);
    let expected = "477263640101810003000000034b946202010000000000000700000000000000\
                    0300000000000000000000000000000004030000000000000302000000000000";
    let header: String = bytes[..64].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header, expected);
    assert_eq!(&bytes[HEADER_BYTES..], b"put\xE7");
}

#[test]
fn an_index_behind_which_there_is_none_is_refused() {
    let mut bytes = Vec::new();
    encode(&mut bytes, 42, &Fact::Purge(log_id(2, u64::MAX)), 1000, 900);
    assert!(matches!(decode(&bytes), Err(BadRecord::Meaning(_))));
}
