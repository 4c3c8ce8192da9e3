//! What are the bytes of a membership in the log?
//!
//! ```text
//! 1  version, 1
//! 1  voter sets: one, or two while a change is under way (0 only in an empty membership)
//!    for each: 2 count, then 8 bytes a replica, ascending
//! 2  replicas (voters and learners), then for each, ascending: 8 replica, 8 node
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::raft::type_config::{Membership, Peer};

const VERSION: u8 = 1;

/// Bytes that [`encode`] appends.
pub fn encoded_bytes(membership: &Membership) -> usize {
    let voters: usize = membership.get_joint_config().iter().map(|set| 2 + 8 * set.len()).sum();
    2 + voters + 2 + 16 * membership.nodes().count()
}

/// Appends a membership's bytes.
pub fn encode(buffer: &mut Vec<u8>, membership: &Membership) {
    let sets = membership.get_joint_config();
    buffer.push(VERSION);
    buffer.push(u8::try_from(sets.len()).expect("openraft joins two voter sets"));
    for set in sets {
        count(buffer, set.len());
        set.iter()
            .for_each(|replica| buffer.extend_from_slice(&replica.to_le_bytes()));
    }
    count(buffer, membership.nodes().count());
    for (replica, peer) in membership.nodes() {
        buffer.extend_from_slice(&replica.to_le_bytes());
        buffer.extend_from_slice(&peer.node_id.to_le_bytes());
    }
}

fn count(buffer: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("a group has far fewer than 65,536 replicas");
    buffer.extend_from_slice(&count.to_le_bytes());
}

/// Reads a membership that fills `bytes`.
pub fn decode(bytes: &[u8]) -> Result<Membership, String> {
    let mut rest = bytes;
    let version = take::<1>(&mut rest)?[0];
    if version != VERSION {
        return Err(format!(
            "a membership of version {version}, and this program knows {VERSION}"
        ));
    }
    let sets = take::<1>(&mut rest)?[0];
    let voters = (0..sets).map(|_| voter_set(&mut rest)).collect::<Result<Vec<_>, _>>()?;
    let mut peers = BTreeMap::new();
    for _ in 0..u16::from_le_bytes(take(&mut rest)?) {
        let replica = u64::from_le_bytes(take(&mut rest)?);
        peers.insert(
            replica,
            Peer {
                node_id: u64::from_le_bytes(take(&mut rest)?),
            },
        );
    }
    if !rest.is_empty() {
        return Err(format!("a membership with {} bytes too many", rest.len()));
    }
    if voters.is_empty() && peers.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(voters, peers).map_err(|error| format!("an impossible membership: {error}"))
}

fn voter_set(rest: &mut &[u8]) -> Result<BTreeSet<u64>, String> {
    let voters = u16::from_le_bytes(take(rest)?);
    (0..voters).map(|_| take(rest).map(u64::from_le_bytes)).collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (taken, behind) = rest
        .split_first_chunk::<N>()
        .ok_or_else(|| "a membership that ends too early".to_owned())?;
    *rest = behind;
    Ok(*taken)
}
