//! New documents, written and deleted at a steady pace whatever the answers: the first one that is acknowledged after a fault
//! ends the failover, and all that were acknowledged must be there in the end.

use std::sync::Arc;
use std::time::Duration;

use granum_client::{Client, Outcome};
use rand::Rng;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::load::{COLLECTION, PROBES_FROM, Probe, Seen, document, held};

/// Time between two new documents.
const PACE: Duration = Duration::from_millis(60);
/// One tick of so many deletes, too.
const DELETE_EVERY: u64 = 8;
/// Writes under way at once; a tick that finds as many is passed over.
const UNDER_WAY_MAX: usize = 200;
/// Time that a write has. Long: what is asked here is how long it takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs until told to stop, and then until the last write has ended.
pub async fn run(client: Client, seen: Arc<Seen>) {
    let client = client.with_timeout(TIMEOUT);
    let mut random = seen.random(900);
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        ticks.tick().await;
        if seen.stopped() {
            break;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= UNDER_WAY_MAX {
            continue;
        }
        under_way.spawn(write(client.clone(), seen.clone(), PROBES_FROM + number));
        if number % DELETE_EVERY == 0
            && let Some(id) = take_one(&seen, random.random())
        {
            under_way.spawn(delete(client.clone(), seen.clone(), id));
        }
    }
    under_way.join_all().await;
}

fn take_one(seen: &Seen, random: u64) -> Option<u64> {
    let mut live = held(&seen.live);
    let count = live.len() as u64;
    (count > 0).then(|| live.swap_remove((random % count) as usize))
}

async fn write(client: Client, seen: Arc<Seen>, id: u64) {
    let call_us = seen.now_us();
    let written = client.upsert(COLLECTION, vec![document(id, id)]).await;
    let mut probe = Probe {
        id,
        call_us,
        return_us: None,
        shard: 0,
        error: None,
    };
    match written {
        Ok(written) => match &written.outcomes[0] {
            Outcome::Taken { .. } => {
                probe.return_us = Some(seen.now_us());
                probe.shard = written.token.sequences.keys().next().copied().unwrap_or(0);
                held(&seen.live).push(id);
            }
            Outcome::Unknown { reason } => probe.error = Some(reason.clone()),
            other => seen.anomaly(format!("document {id}: a first write was answered {other:?}")),
        },
        Err(error) => probe.error = Some(error.to_string()),
    }
    held(&seen.probes).push(probe);
}

async fn delete(client: Client, seen: Arc<Seen>, id: u64) {
    // Otherwise nobody knows whether it is there, and nothing is asked of it.
    if let Ok(written) = client.delete(COLLECTION, [id]).await {
        match &written.outcomes[0] {
            Outcome::Taken { .. } => held(&seen.deleted).push(id),
            Outcome::Unknown { .. } => {}
            other => seen.anomaly(format!(
                "document {id}: acknowledged, and its deletion was answered {other:?}"
            )),
        }
    }
}
