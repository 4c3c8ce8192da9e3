//! Where should walks begin? At rows in the middle of clusters: the medoids of a k-means over a sample.
//!
//! A flat graph needs no upper layers where dozens of medoids cover the space (index.md, section 3.1): scoring them costs
//! less than a microsecond, as their codes stay in the cache, and the best few lie near any query.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::executor::{Executor, map};
use crate::pace::Stopped;

/// Rows that the clusters are made from, a cluster.
const SAMPLE_PER_CLUSTER: usize = 64;
/// Rounds of k-means; entries need no convergence.
const ROUNDS: usize = 6;
/// Rows assigned by one piece of work.
const PIECE_ROWS: usize = 256;

/// How many entries a graph of so many rows gets: every walk scores them all, and more would find less than a walk that is
/// wider by as many rows (docs/decisions/0002-coarse-tier.md, 14).
pub(super) fn entries(rows: usize) -> usize {
    ((rows as f64).sqrt() / 8.0).round().clamp(8.0, 128.0) as usize
}

/// Rows, one for each of up to `clusters` clusters, that lie nearest to their cluster's mean. `row` gives a row's
/// components, all rows as many. The same rows and seed give the same medoids.
pub(super) fn medoids(
    rows: usize,
    clusters: usize,
    seed: u64,
    row: &(dyn Fn(usize) -> Vec<f32> + Sync),
    executor: &dyn Executor,
) -> Result<Vec<u32>, Stopped> {
    let sampled = sample(rows, clusters * SAMPLE_PER_CLUSTER, seed);
    let points = map(executor, sampled.len(), |at| row(sampled[at]))?;
    if sampled.len() <= clusters {
        return Ok(sampled.into_iter().map(|row| row as u32).collect());
    }
    let mut means: Vec<Vec<f32>> = points[..clusters].to_vec();
    let mut nearest = Vec::new();
    for _ in 0..ROUNDS {
        nearest = assign(&points, &means, executor)?;
        recenter(&points, &nearest, &mut means);
    }
    let mut best = vec![(f32::INFINITY, u32::MAX); clusters];
    for ((cluster, distance), sampled) in nearest.iter().zip(&sampled) {
        if *distance < best[*cluster].0 {
            best[*cluster] = (*distance, *sampled as u32);
        }
    }
    let mut medoids: Vec<u32> = best
        .into_iter()
        .map(|(_, row)| row)
        .filter(|row| *row != u32::MAX)
        .collect();
    medoids.sort_unstable();
    medoids.dedup();
    Ok(medoids)
}

/// Up to `count` distinct rows, in an order that depends on the seed only.
fn sample(rows: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut drawn: Vec<(u64, usize)> = (0..rows)
        .map(|row| (xxh3_64_with_seed(&(row as u64).to_le_bytes(), seed), row))
        .collect();
    let count = count.min(rows);
    if count < rows {
        drawn.select_nth_unstable(count);
        drawn.truncate(count);
    }
    drawn.sort_unstable();
    drawn.into_iter().map(|(_, row)| row).collect()
}

/// The nearest mean of each point, and its squared distance less the point's own squared length.
fn assign(points: &[Vec<f32>], means: &[Vec<f32>], executor: &dyn Executor) -> Result<Vec<(usize, f32)>, Stopped> {
    let squares: Vec<f32> = means
        .iter()
        .map(|mean| mean.iter().map(|value| value * value).sum())
        .collect();
    let kernel = crate::simd::Kernel::new(crate::simd::Sum::Dot, granum_model::Fine::F32);
    let pieces = map(executor, points.len().div_ceil(PIECE_ROWS), |piece| {
        let own = &points[piece * PIECE_ROWS..((piece + 1) * PIECE_ROWS).min(points.len())];
        own.iter()
            .map(|point| {
                let distance = |cluster: usize| {
                    squares[cluster] - 2.0 * kernel.sum(point, crate::simd::bytes_of_floats(&means[cluster]))
                };
                (0..means.len())
                    .map(|cluster| (cluster, distance(cluster)))
                    .min_by(|left, right| left.1.total_cmp(&right.1))
                    .expect("there are clusters")
            })
            .collect::<Vec<_>>()
    });
    Ok(pieces?.concat())
}

/// Moves each mean to the middle of its points; one without points stays.
fn recenter(points: &[Vec<f32>], nearest: &[(usize, f32)], means: &mut [Vec<f32>]) {
    let mut counts = vec![0u32; means.len()];
    let mut sums = vec![vec![0.0f32; points[0].len()]; means.len()];
    for (point, (cluster, _)) in points.iter().zip(nearest) {
        counts[*cluster] += 1;
        for (sum, value) in sums[*cluster].iter_mut().zip(point) {
            *sum += value;
        }
    }
    for ((mean, sum), count) in means.iter_mut().zip(sums).zip(counts) {
        if count > 0 {
            *mean = sum.into_iter().map(|sum| sum / count as f32).collect();
        }
    }
}
