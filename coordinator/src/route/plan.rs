//! Which replicas may answer, in which order? Pure: who leads, who failed lately and whose turn it is are arguments.

use granum_model::NodeId;
use granum_proto::v1;

/// Whether any replica may answer, or the leader has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The leader: writes, and reads that must see every acknowledged write.
    Leader,
    /// Any replica that is fresh enough by its own account.
    Any,
}

/// What a read level asks for.
pub(crate) fn wanted(level: &v1::ReadLevel) -> Wanted {
    use v1::read_level::Kind;
    match level.kind {
        None | Some(Kind::Linearizable(_)) => Wanted::Leader,
        Some(Kind::Session(_) | Kind::Bounded(_) | Kind::Any(_)) => Wanted::Any,
    }
}

/// The order in which `nodes` are asked: for the leader its likely place first (`leads`, else the first replica); for
/// any, in turn from `turn` on. Nodes that failed lately come last, but for a known leader: only it can answer.
pub(crate) fn order(
    nodes: &[NodeId],
    wanted: Wanted,
    leads: Option<NodeId>,
    suspect: impl Fn(NodeId) -> bool,
    turn: usize,
) -> Vec<NodeId> {
    let mut order = nodes.to_vec();
    if wanted == Wanted::Any && !order.is_empty() {
        order.rotate_left(turn % nodes.len());
    }
    order.sort_by_key(|&node| suspect(node));
    if wanted == Wanted::Leader
        && let Some(at) = order.iter().position(|&node| Some(node) == leads)
    {
        order[..=at].rotate_right(1);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId(7), NodeId(8), NodeId(9)];

    #[track_caller]
    fn check(wanted: Wanted, leads: Option<u64>, suspects: &[u64], turn: usize, expected: [u64; 3]) {
        let order = order(
            &NODES,
            wanted,
            leads.map(NodeId),
            |node| suspects.contains(&node.0),
            turn,
        );
        assert_eq!(order.iter().map(|node| node.0).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_leader_comes_first_even_if_it_failed_lately() {
        check(Wanted::Leader, Some(9), &[], 1, [9, 7, 8]);
        check(Wanted::Leader, Some(9), &[9], 1, [9, 7, 8]);
        check(Wanted::Leader, None, &[], 1, [7, 8, 9]);
        check(Wanted::Leader, None, &[7], 1, [8, 9, 7]);
        check(Wanted::Leader, Some(1), &[], 0, [7, 8, 9]);
    }

    #[test]
    fn reads_take_turns_among_replicas_that_work() {
        check(Wanted::Any, Some(7), &[], 0, [7, 8, 9]);
        check(Wanted::Any, Some(7), &[], 4, [8, 9, 7]);
        check(Wanted::Any, Some(7), &[8], 1, [9, 7, 8]);
    }
}
