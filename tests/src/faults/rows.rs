//! The rows of the fault table: what is done to whom, how long, and what each needs of the machine.

use std::time::Duration;

use super::damage::FileKind;
use super::network::Shape;
use super::wires::Manner;

/// A row of the table.
pub struct Row {
    /// Its name, as the command line knows it.
    pub name: &'static str,
    /// What is done.
    pub what: &'static str,
    /// The fault itself.
    pub fault: Fault,
    /// How long it lasts, where it does.
    pub hold: Duration,
    /// How often it happens in one repeat, each time after all has healed.
    pub rounds: u32,
    /// Whether it belongs to what every change must pass.
    pub smoke: bool,
}

/// What is done to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL, and a start on the same directory.
    Kill(Whom),
    /// SIGSTOP and SIGCONT, of the leader.
    Pause,
    /// The leader's packets are dropped.
    Cut(Shape),
    /// So many of a hundred packets to each node are dropped.
    Loss(u32),
    /// Packets from and to them are late, doubled or garbled.
    Slow(Whom, Manner),
    /// Power of the disk, and SIGKILL.
    PowerLoss(Whom),
    /// The disk is filled up by somebody else.
    DiskFull(Whom),
    /// The disk takes so many writes a second.
    DiskSlow(Whom, u32),
    /// The disk answers no write.
    DiskHung(Whom),
    /// One bit of a file of a node that was killed, which is started again.
    Flip(FileKind),
    /// The wall clock of the leader jumps, forwards, backwards and home.
    Clock,
    /// SIGTERM and a start, one node after the other.
    RollingRestart,
    /// SIGTERM and a start of the other build, one process after the other: of the version to come, then of this one again.
    RollingUpgrade(First),
}

/// Which processes are replaced first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum First {
    /// The nodes, then the coordinators.
    Nodes,
    /// The coordinators, then the nodes.
    Coordinators,
}

/// Who meets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Whom {
    /// The node that leads the watched shard.
    Leader,
    /// A node that leads no shard.
    Follower,
    /// The leader and one more.
    Two,
    /// All nodes.
    All,
    /// One of the two coordinators.
    Coordinator,
}

impl Row {
    /// Whether a file is damaged.
    pub fn damages(&self) -> bool {
        matches!(self.fault, Fault::Flip(_))
    }

    /// Whether the watched shard's leader is the victim, so that there is a failover to measure.
    pub fn hits_leader(&self) -> bool {
        match self.fault {
            Fault::Kill(whom) | Fault::PowerLoss(whom) => matches!(whom, Whom::Leader),
            // Shorter than an election, and the leader stays.
            Fault::Pause => self.hold > Duration::from_secs(2),
            Fault::Cut(shape) => shape != Shape::OnePair,
            _ => false,
        }
    }
}

const fn row(name: &'static str, what: &'static str, fault: Fault, hold_ms: u64, rounds: u32) -> Row {
    Row {
        name,
        what,
        fault,
        hold: Duration::from_millis(hold_ms),
        rounds,
        smoke: false,
    }
}

const fn smoke(row: Row) -> Row {
    Row { smoke: true, ..row }
}

const fn late(delay_ms: u32, jitter_ms: u32) -> Manner {
    Manner {
        delay_ms,
        jitter_ms,
        ..Manner::NONE
    }
}

const fn garbling(doubled: u32, garbled: u32) -> Manner {
    Manner {
        doubled,
        garbled,
        ..Manner::NONE
    }
}

/// The table.
pub const ROWS: [Row; 37] = [
    smoke(row(
        "kill-leader",
        "SIGKILL of a leader",
        Fault::Kill(Whom::Leader),
        6_000,
        3,
    )),
    smoke(row(
        "kill-follower",
        "SIGKILL of a follower",
        Fault::Kill(Whom::Follower),
        6_000,
        3,
    )),
    row(
        "kill-two",
        "SIGKILL of two nodes of three",
        Fault::Kill(Whom::Two),
        6_000,
        2,
    ),
    row("kill-all", "SIGKILL of all nodes", Fault::Kill(Whom::All), 3_000, 2),
    row(
        "kill-coordinator",
        "SIGKILL of one coordinator of two",
        Fault::Kill(Whom::Coordinator),
        6_000,
        3,
    ),
    row(
        "pause-leader-0.5s",
        "SIGSTOP of a leader for 0.5 s",
        Fault::Pause,
        500,
        3,
    ),
    smoke(row(
        "pause-leader-5s",
        "SIGSTOP of a leader for 5 s",
        Fault::Pause,
        5_000,
        3,
    )),
    row(
        "pause-leader-30s",
        "SIGSTOP of a leader for 30 s",
        Fault::Pause,
        30_000,
        1,
    ),
    smoke(row(
        "partition-leader",
        "a leader alone in the network, 10 s",
        Fault::Cut(Shape::Alone),
        10_000,
        2,
    )),
    row(
        "partition-leader-from-nodes",
        "a leader cut from the nodes, not from coordinators, 10 s",
        Fault::Cut(Shape::FromNodes),
        10_000,
        2,
    ),
    row(
        "leader-hears-nothing",
        "a leader hears no node, and is heard, 10 s",
        Fault::Cut(Shape::Deaf),
        10_000,
        2,
    ),
    row(
        "leader-not-heard",
        "no node hears the leader, and it hears them, 10 s",
        Fault::Cut(Shape::Mute),
        10_000,
        2,
    ),
    row(
        "partition-one-pair",
        "a leader cut from one follower; the third node sees both, 10 s",
        Fault::Cut(Shape::OnePair),
        10_000,
        2,
    ),
    row(
        "loss-30",
        "30 % of the packets to each node lost, 20 s",
        Fault::Loss(30),
        20_000,
        1,
    ),
    row(
        "slow-leader",
        "each packet from and to a leader late by 200 ms, up to 100 more or less, 20 s",
        Fault::Slow(Whom::Leader, late(200, 100)),
        20_000,
        1,
    ),
    row(
        "slow-all",
        "each node's link late by 40 ms, up to 40 more or less, so twice that between nodes, 20 s",
        Fault::Slow(Whom::All, late(40, 40)),
        20_000,
        1,
    ),
    row(
        "doubled-garbled",
        "5 % of the packets on each node's link arrive twice, 2 % with a bit flipped, 20 s",
        Fault::Slow(Whom::All, garbling(5, 2)),
        20_000,
        1,
    ),
    smoke(row(
        "power-leader",
        "power of the leader's node lost",
        Fault::PowerLoss(Whom::Leader),
        4_000,
        3,
    )),
    row(
        "power-all",
        "power of all nodes lost at once",
        Fault::PowerLoss(Whom::All),
        1_000,
        3,
    ),
    row(
        "disk-full-leader",
        "the leader's disk full for 10 s",
        Fault::DiskFull(Whom::Leader),
        10_000,
        1,
    ),
    row(
        "disk-full-all",
        "all disks full for 10 s",
        Fault::DiskFull(Whom::All),
        10_000,
        1,
    ),
    row(
        "disk-slow-leader",
        "the leader's disk takes 20 writes a second, 20 s",
        Fault::DiskSlow(Whom::Leader, 20),
        20_000,
        1,
    ),
    row(
        "disk-hung-leader",
        "the leader's disk answers no write for 10 s",
        Fault::DiskHung(Whom::Leader),
        10_000,
        2,
    ),
    row(
        "disk-slow-all",
        "each disk takes 20 writes a second, 20 s",
        Fault::DiskSlow(Whom::All, 20),
        20_000,
        1,
    ),
    row(
        "disk-hung-follower",
        "a follower's disk answers no write for 10 s",
        Fault::DiskHung(Whom::Follower),
        10_000,
        2,
    ),
    row(
        "disk-hung-all",
        "no disk answers a write for 10 s",
        Fault::DiskHung(Whom::All),
        10_000,
        1,
    ),
    row(
        "rolling-restart",
        "SIGTERM and start of each node in turn",
        Fault::RollingRestart,
        0,
        2,
    ),
    row(
        "rolling-upgrade",
        "nodes, then coordinators, replaced in turn by the next version, then by this one again",
        Fault::RollingUpgrade(First::Nodes),
        0,
        2,
    ),
    row(
        "rolling-upgrade-coordinators",
        "coordinators, then nodes, replaced in turn by the next version, then by this one again",
        Fault::RollingUpgrade(First::Coordinators),
        0,
        2,
    ),
    row(
        "clock-600s",
        "a leader's wall clock jumps by +600 s and -600 s",
        Fault::Clock,
        5_000,
        1,
    ),
    row(
        "flip-log",
        "a bit flipped in the middle of a log",
        Fault::Flip(FileKind::Log),
        0,
        1,
    ),
    row(
        "flip-manifest",
        "a bit flipped in a manifest",
        Fault::Flip(FileKind::Manifest),
        0,
        1,
    ),
    row(
        "flip-rows",
        "a bit flipped in a segment's rows on disk",
        Fault::Flip(FileKind::Rows),
        0,
        1,
    ),
    row(
        "flip-codes",
        "a bit flipped in a segment's codes",
        Fault::Flip(FileKind::Codes),
        0,
        1,
    ),
    row(
        "flip-graph",
        "a bit flipped in a segment's graph",
        Fault::Flip(FileKind::Graph),
        0,
        1,
    ),
    row(
        "flip-payload",
        "a bit flipped in a segment's payload",
        Fault::Flip(FileKind::Payload),
        0,
        1,
    ),
    row(
        "flip-documents",
        "a bit flipped in the table of documents (sled)",
        Fault::Flip(FileKind::Documents),
        0,
        1,
    ),
];
