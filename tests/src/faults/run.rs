//! One repeat of a row: a new cluster, the load, the fault as often as the row says, healing, and the verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use granum_client::{Client, DocId, ReadLevel, SearchError};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::figures::{Repeat, Window, quantile};
use super::history::{self, Act, Record};
use super::load::{COLLECTION, HOT, Load, STATIC, Seen, held, value_of, vector};
use super::rows::Row;
use super::stage::{Stage, Unable};

/// Load before each fault.
const BEFORE: Duration = Duration::from_secs(6);
/// Load after the last.
const AFTER: Duration = Duration::from_secs(3);
/// Load on a node that was started with a damaged file: somebody reads what is damaged.
const READ_DAMAGED: Duration = Duration::from_secs(6);
/// Fewer acknowledged writes than this a second without a fault, and the run says nothing.
const WRITES_FLOOR: f64 = 3.0;
/// Fewer searches than this a second, asked or answered without a fault, and the run says nothing.
const QUERIES_FLOOR: f64 = 5.0;
/// Documents of one read of the verdict.
const PAGE: usize = 200;
/// How often the nodes' states are compared: each answer is one replica's choice.
const COMPARISONS: usize = 9;

/// What became of a repeat.
pub enum Ended {
    /// It was done.
    Done(Box<Repeat>),
    /// This machine can't: why.
    Skipped(String),
}

/// Runs a row once, with fewer rounds where `rounds` says so, and a search every `pace`.
pub async fn run(row: &Row, rounds: u32, seed: u64, pace: Duration) -> Result<Ended> {
    let mut stage = match Stage::set(row, seed).await {
        Ok(stage) => stage,
        Err(error) if error.is::<Unable>() => return Ok(Ended::Skipped(format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    let mut random = StdRng::seed_from_u64(seed);
    let load = Load::start(&stage.client, stage.observer.clone(), seed, pace);
    let (mut windows, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..rounds.min(row.rounds) {
        tokio::time::sleep(BEFORE).await;
        let watched = stage.watched().await?;
        let from_us = load.seen.now_us();
        let mut struck = stage.strike(row, &watched, &mut random).await?;
        let mut window = Window {
            shard: row.hits_leader().then_some(watched.shard),
            from_us,
            struck_us: load.seen.now_us(),
            lifted_us: 0,
            healed_us: 0,
        };
        tokio::time::sleep(row.hold).await;
        stage.lift(row, &mut struck).await?;
        window.lifted_us = load.seen.now_us();
        lost.append(&mut struck.lost);
        if row.damages() {
            tokio::time::sleep(READ_DAMAGED).await;
        }
        let since = stage.healed(&lost).await?;
        window.healed_us = load.seen.now_us() - since.elapsed().as_micros() as i64;
        windows.push(window);
    }
    tokio::time::sleep(AFTER).await;
    let seen = load.stop().await;
    stage.healed(&lost).await?;
    let mut repeat = figures(row, &seen, &windows);
    repeat.seed = seed;
    repeat.search_ms = pace.as_millis() as u64;
    judge(&stage, &seen, &lost, &mut repeat).await?;
    stage.note_damage(row);
    repeat.notes.append(&mut stage.notes);
    Ok(Ended::Done(Box::new(repeat)))
}

/// What the load has seen, in figures.
fn figures(row: &Row, seen: &Seen, windows: &[Window]) -> Repeat {
    let in_fault = |at_us: i64| {
        windows
            .iter()
            .any(|window| (window.from_us..window.healed_us).contains(&at_us))
    };
    let ms = |us: i64| (us as f64 / 100.0).round() / 10.0;
    let mut repeat = Repeat::new(row.name, windows.len() as u32);
    let probes = held(&seen.probes);
    for probe in probes.iter() {
        let Some(return_us) = probe.return_us else {
            repeat.writes_failed += 1;
            if repeat.errors.len() < 20 {
                repeat.errors.extend(
                    probe
                        .error
                        .iter()
                        .map(|error| format!("write at {:.1} s: {error}", probe.call_us as f64 / 1e6)),
                );
            }
            continue;
        };
        let took_ms = ms(return_us - probe.call_us);
        if in_fault(probe.call_us) {
            repeat.write_fault_ms.push(took_ms);
        } else {
            repeat.write_calm_ms.push(took_ms);
        }
    }
    for window in windows {
        let Some(shard) = window.shard else { continue };
        let after = probes
            .iter()
            .filter(|probe| probe.shard == shard && probe.call_us >= window.struck_us);
        // None at all: it never came back, which the judgement of healing has said by then.
        if let Some(first_us) = after.filter_map(|probe| probe.return_us).min() {
            repeat.failover_ms.push(ms(first_us - window.struck_us));
        }
    }
    for asked in held(&seen.asked).iter() {
        let failed = u64::from(asked.error.is_some());
        if in_fault(asked.call_us) {
            repeat.queries_fault += 1;
            repeat.queries_fault_failed += failed;
            repeat.query_worst_ms = repeat.query_worst_ms.max(ms(asked.return_us - asked.call_us));
        } else {
            repeat.queries_calm += 1;
            repeat.queries_calm_failed += failed;
        }
        if repeat.errors.len() < 40 {
            repeat.errors.extend(
                asked
                    .error
                    .iter()
                    .map(|error| format!("query at {:.1} s: {error}", asked.call_us as f64 / 1e6)),
            );
        }
    }
    let hot = held(&seen.hot).len() as u64;
    repeat.operations = hot + probes.len() as u64 + repeat.queries_calm + repeat.queries_fault;
    repeat.hot_operations = hot;
    repeat.hot_unknown = held(&seen.hot)
        .iter()
        .filter(|record| record.return_us.is_none())
        .count() as u64;
    repeat.healing_ms = windows
        .iter()
        .map(|window| ms(window.healed_us - window.lifted_us))
        .collect();
    let fault_us: i64 = windows.iter().map(|window| window.healed_us - window.from_us).sum();
    let calm_s = (seen.now_us() - fault_us) as f64 / 1e6;
    let (writes, queries) = (
        repeat.write_calm_ms.len() as f64 / calm_s,
        repeat.queries_calm as f64 / calm_s,
    );
    if writes < WRITES_FLOOR || queries < QUERIES_FLOOR {
        repeat.void = Some(format!(
            "only {writes:.1} writes and {queries:.1} searches a second without a fault"
        ));
    }
    let mut wakes = held(&seen.wakes_us).clone();
    wakes.sort_unstable();
    repeat.wake_p99_ms = ms(quantile(&wakes, 0.99).unwrap_or(0) as i64);
    repeat.write_calm_ms.sort_by(f64::total_cmp);
    repeat.write_fault_ms.sort_by(f64::total_cmp);
    repeat
}

/// Nothing acknowledged is lost, no history is impossible, replicas are equal.
async fn judge(stage: &Stage, seen: &Seen, lost: &[usize], repeat: &mut Repeat) -> Result<()> {
    let client = stage.client.with_timeout(Duration::from_secs(60));
    repeat.anomalies.append(&mut held(&seen.anomalies));

    let mut wanted: Vec<u64> = held(&seen.live).clone();
    wanted.extend(STATIC);
    let found = read_all(&client, &wanted).await?;
    for id in &wanted {
        match found.get(id) {
            Some((value, _)) if value == id => {}
            Some((value, _)) => repeat.anomalies.push(format!("document {id} reads back as {value}")),
            None => repeat.lost.push(*id),
        }
    }
    let deleted: Vec<u64> = held(&seen.deleted).clone();
    for id in read_all(&client, &deleted).await?.keys() {
        repeat
            .anomalies
            .push(format!("document {id} is back after its deletion was acknowledged"));
    }

    let keys: Vec<u64> = (1..=HOT).collect();
    let call_us = seen.now_us();
    let last = read_all(&client, &keys).await?;
    let mut records = held(&seen.hot).clone();
    for key in keys {
        let (value, version) = last
            .get(&key)
            .map_or((None, 0), |(value, version)| (Some(*value), *version));
        let changes = records
            .iter()
            .filter(|record| record.key == key && !matches!(record.act, Act::Read(_)));
        let last_write = changes
            .filter(|record| record.return_us.is_some())
            .map(|record| record.version)
            .max();
        if value.is_some() && last_write.is_some_and(|write| write > version) {
            repeat.lost.push(key);
        }
        records.push(Record {
            key,
            client: super::hot::VERDICT,
            call_us,
            return_us: Some(seen.now_us()),
            act: Act::Read(value),
            version,
        });
    }
    repeat
        .anomalies
        .extend(tokio::task::spawn_blocking(move || history::check(&records)).await?);

    if lost.is_empty() {
        repeat.anomalies.extend(unequal(&client).await?);
    }
    Ok(())
}

/// Value and version of each document that is there, by a linearizable read.
async fn read_all(client: &Client, ids: &[u64]) -> Result<BTreeMap<u64, (u64, u64)>, SearchError> {
    let mut found = BTreeMap::new();
    for page in ids.chunks(PAGE) {
        for stored in client.get(COLLECTION, page.iter().copied(), false).await? {
            if let DocId::Number(id) = stored.id {
                found.insert(id, (value_of(&stored.payload_json).unwrap_or(0), stored.version));
            }
        }
    }
    Ok(found)
}

/// Asks for everything again and again, each time of whichever replicas: all answers are one.
async fn unequal(client: &Client) -> Result<Option<String>> {
    let mut first = None;
    for _ in 0..COMPARISONS {
        let query = client
            .query(COLLECTION)
            .vector(vector(STATIC.start))
            .exact()
            .limit(10_000)
            .read(ReadLevel::Any);
        let hits = query.send().await?.hits;
        let state: Vec<_> = hits.into_iter().map(|hit| (hit.id, hit.version)).collect();
        match &first {
            None => first = Some(state),
            Some(before) if *before != state => {
                let (one, other) = (before.len(), state.len());
                return Ok(Some(format!("replicas are not equal: {one} documents, then {other}")));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}
