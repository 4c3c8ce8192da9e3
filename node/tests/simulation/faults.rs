//! What goes wrong, and when? A row of faults, each for a while, at most two at once.
//!
//! Every fault undoes itself; when the simulation's time is over they are waited for, and then nothing is wrong any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use granum_model::ReplicaId;
use granum_node::disk::{Faults, Survival};
use granum_node::shard::command;
use tokio::task::JoinSet;

use crate::dice::{Dice, slow_disks};
use crate::world::World;

/// Most faults at once.
const AT_ONCE: usize = 2;

/// The kinds, and how often each is chosen.
const KINDS: [(Kind, u64); 20] = [
    (Kind::Kill, 8),
    (Kind::PowerLoss, 8),
    (Kind::LeaderPowerLoss, 8),
    (Kind::PowerLossOfAll, 8),
    (Kind::CutInLog, 8),
    (Kind::CutInSeal, 10),
    (Kind::CleanRestart, 4),
    (Kind::LongAbsence, 8),
    (Kind::Isolate, 8),
    (Kind::IsolateLeader, 14),
    (Kind::OneWay, 8),
    (Kind::NonTransitive, 6),
    (Kind::Split, 6),
    (Kind::Loss, 6),
    (Kind::Delay, 6),
    (Kind::Hold, 8),
    (Kind::FullDisk, 6),
    (Kind::SlowDisks, 4),
    (Kind::Transfer, 6),
    (Kind::SealAndMerge, 12),
];

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The process dies, the machine lives.
    Kill,
    /// A machine loses power: what was not synced goes.
    PowerLoss,
    /// The leader's does.
    LeaderPowerLoss,
    /// All at the same moment.
    PowerLossOfAll,
    /// In the middle of a write to the log.
    CutInLog,
    /// In the middle of a seal, or of the install of a snapshot.
    CutInSeal,
    /// A replica is stopped as it should be.
    CleanRestart,
    /// A node is away for so long that it needs a snapshot.
    LongAbsence,
    /// One node reaches nobody.
    Isolate,
    /// The leader reaches nobody; its clients reach it.
    IsolateLeader,
    /// Messages pass in one direction only.
    OneWay,
    /// Two nodes can't reach each other, and both reach the others.
    NonTransitive,
    /// The nodes fall into two groups.
    Split,
    /// Three of ten messages are lost.
    Loss,
    /// Messages take up to a fifth of a second, and overtake each other.
    Delay,
    /// A node neither hears nor is heard for a while, and what was sent comes late.
    Hold,
    /// A disk of a log is full for a while.
    FullDisk,
    /// All disks are ten times slower.
    SlowDisks,
    /// The leader hands over.
    Transfer,
    /// A seal point, and merges where they are due. No fault, but a good moment for one.
    SealAndMerge,
}

/// What was done how often.
pub type Tally = BTreeMap<Kind, u64>;

/// Makes faults until the world's time is over, and waits until all are undone.
pub async fn run(world: Arc<World>) -> Tally {
    let mut dice = Dice::new(world.seed, 0xFA17);
    let mut under_way = JoinSet::new();
    let mut tally = Tally::new();
    let weights: u64 = KINDS.iter().map(|(_, weight)| weight).sum();
    while !world.is_over() {
        let (from, to) = world.options.calm_ms;
        tokio::time::sleep(dice.millis(from, to)).await;
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        let mut chosen = dice.between(0, weights);
        let kind = KINDS
            .iter()
            .find_map(|(kind, weight)| match chosen.checked_sub(*weight) {
                None => Some(*kind),
                Some(rest) => {
                    chosen = rest;
                    None
                }
            });
        let kind = kind.expect("weights add up");
        *tally.entry(kind).or_default() += 1;
        world.trace(&format!("fault {kind:?}"));
        let own = Dice::new(dice.next(), 1);
        under_way.spawn(make(world.clone(), kind, own));
    }
    while under_way.join_next().await.is_some() {}
    tally
}

async fn make(world: Arc<World>, kind: Kind, mut dice: Dice) {
    let any = dice.between(1, world.options.nodes + 1);
    let short = dice.millis(50, 1500);
    match kind {
        Kind::Kill => reboot(&world, any, Survival::Everything, short).await,
        Kind::PowerLoss => reboot(&world, any, survival(&mut dice), short).await,
        Kind::LongAbsence => {
            let long = dice.millis(2500, 6000);
            reboot(&world, any, survival(&mut dice), long).await;
        }
        Kind::LeaderPowerLoss => {
            let leader = world.leader().unwrap_or(any);
            reboot(&world, leader, survival(&mut dice), short).await;
        }
        Kind::PowerLossOfAll => {
            let mut dark = JoinSet::new();
            let nothing_more = dice.permille(500);
            for node in world.numbers() {
                let (world, chosen) = (world.clone(), survival(&mut dice));
                let survival = if nothing_more { Survival::Synced } else { chosen };
                let pause = dice.millis(20, 400);
                dark.spawn(async move { reboot(&world, node, survival, pause).await });
            }
            while dark.join_next().await.is_some() {}
        }
        Kind::CutInLog => cut_in_log(&world, any, &mut dice).await,
        Kind::CutInSeal => cut_in_seal(&world, any, &mut dice).await,
        Kind::CleanRestart => {
            if let Some(claim) = world.claim(any) {
                if let Some(running) = world.running(any) {
                    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
                    running.groups.shutdown(deadline.into_std()).await;
                    // What is queued at the end is still written.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    world.crash(any, Survival::Everything);
                }
                world.start(claim).await;
            }
        }
        Kind::Isolate => cut(&world, around(&world, any), short).await,
        Kind::IsolateLeader => {
            let leader = world.leader().unwrap_or(any);
            let longer = dice.millis(1000, 3500);
            cut(&world, around(&world, leader), longer).await;
        }
        Kind::OneWay => {
            let outwards = dice.permille(500);
            let links = around(&world, any);
            let half = links.into_iter().filter(|(from, _)| (*from == any) == outwards);
            let longer = dice.millis(300, 2500);
            cut(&world, half.collect(), longer).await;
        }
        Kind::NonTransitive => {
            let other = any % world.options.nodes + 1;
            let longer = dice.millis(300, 3000);
            cut(&world, vec![(any, other), (other, any)], longer).await;
        }
        Kind::Split => {
            let numbers: Vec<u64> = world.numbers().collect();
            let side: Vec<bool> = numbers.iter().map(|_| dice.permille(500)).collect();
            let at = |node: u64| side[node as usize - 1];
            let pairs = numbers.iter().flat_map(|from| numbers.iter().map(|to| (*from, *to)));
            let links = pairs.filter(|(from, to)| at(*from) != at(*to)).collect();
            let longer = dice.millis(300, 2500);
            cut(&world, links, longer).await;
        }
        Kind::Loss => {
            world.office.change(|weather| weather.loss += 300);
            tokio::time::sleep(dice.millis(500, 3000)).await;
            world.office.change(|weather| weather.loss -= 300);
        }
        Kind::Delay => {
            world.office.change(|weather| weather.delay_ms += 200);
            tokio::time::sleep(dice.millis(500, 3000)).await;
            world.office.change(|weather| weather.delay_ms -= 200);
        }
        Kind::Hold => {
            world
                .office
                .change(|weather| *weather.held.entry(any).or_default() += 1);
            tokio::time::sleep(dice.millis(200, 2000)).await;
            world.office.change(|weather| release(&mut weather.held, any));
        }
        Kind::FullDisk => full_disk(&world, any, &mut dice).await,
        Kind::SlowDisks => {
            slow_disks(10);
            tokio::time::sleep(dice.millis(300, 2000)).await;
            slow_disks(1);
        }
        Kind::Transfer => {
            if let Some(leader) = world.leader().and_then(|leader| world.running(leader)) {
                let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
                let to = dice.permille(500).then_some(ReplicaId(any));
                // Refused where that one leads already, late where it can't be reached.
                let _ = leader.group.transfer_leader(to, deadline.into_std()).await;
            }
        }
        Kind::SealAndMerge => seal_and_merge(&world, any).await,
    }
}

fn survival(dice: &mut Dice) -> Survival {
    match dice.between(0, 4) {
        0 => Survival::Synced,
        1 | 2 => Survival::Prefix(dice.next()),
        _ => Survival::Scattered(dice.next()),
    }
}

/// Crashes a node that no other fault has claimed, and starts it again after a pause.
async fn reboot(world: &Arc<World>, node: u64, survival: Survival, pause: Duration) {
    let Some(claim) = world.claim(node) else { return };
    world.crash(node, survival);
    tokio::time::sleep(pause).await;
    world.start(claim).await;
}

fn around(world: &World, node: u64) -> Vec<(u64, u64)> {
    let others = world.numbers().filter(|other| *other != node);
    others.flat_map(|other| [(node, other), (other, node)]).collect()
}

fn release<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

async fn cut(world: &World, links: Vec<(u64, u64)>, time: Duration) {
    world.office.change(|weather| {
        for link in &links {
            *weather.cut.entry(*link).or_default() += 1;
        }
    });
    tokio::time::sleep(time).await;
    world.office.change(|weather| {
        for link in links {
            release(&mut weather.cut, link);
        }
    });
}

async fn cut_in_log(world: &Arc<World>, node: u64, dice: &mut Dice) {
    let Some(claim) = world.claim(node) else { return };
    if let Some(running) = world.running(node) {
        running.volume.log.set_faults(Faults {
            power_cut_after: Some(dice.between(0, 12)),
            ..Faults::default()
        });
        tokio::time::sleep(dice.millis(5, 80)).await;
        world.crash(node, survival(dice));
    }
    tokio::time::sleep(dice.millis(20, 800)).await;
    world.start(claim).await;
}

async fn cut_in_seal(world: &Arc<World>, node: u64, dice: &mut Dice) {
    let Some(claim) = world.claim(node) else { return };
    if let Some(running) = world.running(node) {
        let (changes, survival) = (dice.between(0, 14), survival(dice));
        let to = running.next_root(&world.folder);
        running.volume.cut_after(changes, survival, to);
        let sealing = tokio::spawn(seal_and_merge_once(world.clone(), node));
        let cut = running.volume.cut.clone();
        let came = tokio::time::timeout(dice.millis(500, 3000), cut.notified())
            .await
            .is_ok();
        sealing.abort();
        if came {
            world.count_cut();
            world.crash(node, survival);
        } else {
            running.volume.spare();
            return drop(claim);
        }
    }
    tokio::time::sleep(dice.millis(20, 800)).await;
    world.start(claim).await;
}

async fn full_disk(world: &Arc<World>, node: u64, dice: &mut Dice) {
    let Some(running) = world.running(node) else { return };
    let Some(claim) = world.claim(node) else { return };
    let used = running.groups.log().stats().disk_bytes;
    running.volume.log.set_faults(Faults {
        capacity_bytes: Some(used + dice.between(0, 40 << 10)),
        ..Faults::default()
    });
    tokio::time::sleep(dice.millis(500, 4000)).await;
    running.volume.log.set_faults(Faults::default());
    drop(claim);
}

async fn seal_and_merge(world: &Arc<World>, node: u64) {
    seal_and_merge_once(world.clone(), node).await;
}

async fn seal_and_merge_once(world: Arc<World>, node: u64) {
    if let Some(leader) = world.leader().and_then(|leader| world.running(leader)) {
        let seal = command::encode(&command::seal()).expect("a small command");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        // Unanswered or refused: there will be others.
        let _ = leader.group.propose(seal, deadline.into_std()).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    if let Some(running) = world.running(node)
        && let Err(error) = running.machine.merge(&|_| false)
    {
        world.trace(&format!("merge: {error:?}"));
    }
}
