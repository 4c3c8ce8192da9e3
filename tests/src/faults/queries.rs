//! Exact searches at a steady pace whatever the answers. A document that was acknowledged before the search began and equals
//! the query is its best hit; one whose deletion was acknowledged is none.

use std::sync::Arc;
use std::time::Duration;

use granum_client::{Client, DocId, ReadLevel};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::load::{Asked, COLLECTION, STATIC, Seen, held, vector};

/// Time between two searches, unless the run says otherwise.
pub const PACE: Duration = Duration::from_millis(35);
/// Time that a search has before it counts as failed.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Searches under way at once; a tick that finds as many counts as a failed search.
const UNDER_WAY_MAX: usize = 400;
/// How old what a bounded search sees may be.
const LAG_MAX: Duration = Duration::from_secs(5);

/// A question and what is known of its answer.
struct Question {
    level: ReadLevel,
    id: u64,
    /// Whether the document is there, or was deleted.
    there: bool,
}

/// Runs until told to stop, and then until the last search has ended.
pub async fn run(client: Client, seen: Arc<Seen>, pace: Duration) {
    let client = client.with_timeout(TIMEOUT);
    let mut random = seen.random(901);
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if seen.stopped() {
            break;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= UNDER_WAY_MAX {
            let now_us = seen.now_us();
            let error = Some(format!("{UNDER_WAY_MAX} searches were under way"));
            held(&seen.asked).push(Asked {
                call_us: now_us,
                return_us: now_us,
                error,
            });
            continue;
        }
        let question = question(&seen, &mut random);
        under_way.spawn(ask(client.clone(), seen.clone(), question));
    }
    under_way.join_all().await;
}

/// What is asked next, of what is known now.
fn question(seen: &Seen, random: &mut StdRng) -> Question {
    let fixed = Question {
        level: match random.random_range(0..3) {
            0 => ReadLevel::Any,
            1 => ReadLevel::Bounded {
                max_lag: LAG_MAX,
                max_lag_entries: 0,
            },
            _ => ReadLevel::Linearizable,
        },
        id: random.random_range(STATIC),
        there: true,
    };
    let there = match random.random_range(0..10) {
        0..4 => return fixed,
        4..8 => true,
        _ => false,
    };
    let from = held(if there { &seen.live } else { &seen.deleted });
    match from.len() {
        0 => fixed,
        count => Question {
            level: ReadLevel::Linearizable,
            id: from[random.random_range(0..count)],
            there,
        },
    }
}

async fn ask(client: Client, seen: Arc<Seen>, question: Question) {
    let call_us = seen.now_us();
    let level = format!("{:?}", question.level);
    let any = question.level == ReadLevel::Any;
    let query = client
        .query(COLLECTION)
        .vector(vector(question.id))
        .exact()
        .limit(1)
        .read(question.level);
    let answer = query.send().await;
    let return_us = seen.now_us();
    let error = match answer {
        Err(error) => Some(format!("{level}: {error}")),
        Ok(answer) => {
            let best = answer.hits.first().map(|hit| hit.id.clone());
            let found = best == Some(DocId::Number(question.id));
            // A live document may be taken for deletion while it is asked for; a replica asked at the level `any` may still
            // be reading its log.
            let excused = question.there && (any || is_going(&seen, question.id));
            if found != question.there && !excused {
                let id = question.id;
                let stood = if question.there { "acknowledged" } else { "deleted" };
                seen.anomaly(format!("document {id}, {stood} before: best hit {best:?} ({level})"));
            }
            None
        }
    };
    held(&seen.asked).push(Asked {
        call_us,
        return_us,
        error,
    });
}

fn is_going(seen: &Seen, id: u64) -> bool {
    !STATIC.contains(&id) && !held(&seen.live).contains(&id)
}
