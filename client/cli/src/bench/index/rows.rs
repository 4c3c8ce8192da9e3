//! What is measured on: documents out of a .npy file, queries, known answers, and the manifest of an index that is kept.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use granum_index::{Document, FileRef, SegmentId, SegmentRef};
use granum_model::{Dense, Distance, DocId, Fine, Vector, scaled};
use half::f16;
use serde_json::{Value, json};

use super::{Command, Format};
use crate::failure::Usage;
use crate::npy::{self, Component, Npy};

/// Rows that filters near and far are told by: few, so that a segment remembers the rows of each filter.
const ANCHORS: usize = 8;

/// The first rows of the base. How near a row is to each is in its payload.
pub struct Anchors(Vec<Vec<f32>>);

impl Anchors {
    pub fn of(path: &Path) -> anyhow::Result<Anchors> {
        let mut npy = Npy::open(path).context("--base")?;
        let mut rows = Vec::new();
        while rows.len() < ANCHORS
            && let Some(row) = npy.next_f32()?
        {
            rows.push(unit(row, Distance::Cosine));
        }
        anyhow::ensure!(!rows.is_empty(), "--base has no rows");
        Ok(Anchors(rows))
    }

    /// The key of the payload that holds how near a row is to that anchor.
    pub fn key(anchor: usize) -> String {
        format!("near{anchor}")
    }

    /// Millionths of the cosine of the angle between a row and each of them.
    pub fn nearness(&self, row: &[f32]) -> Vec<i64> {
        let row = unit(row.to_vec(), Distance::Cosine);
        let cosine = |anchor: &Vec<f32>| anchor.iter().zip(&row).map(|(left, right)| left * right).sum::<f32>();
        self.0.iter().map(|anchor| (cosine(anchor) * 1e6) as i64).collect()
    }
}

/// Rows of a file as documents, read in a stream.
pub struct Base {
    npy: Npy,
    distance: Distance,
    fine: Fine,
    rows: u64,
    taken: u64,
    anchors: Anchors,
}

impl Base {
    pub fn open(command: &Command) -> anyhow::Result<Base> {
        let path = &command.base;
        let npy = Npy::open(path).context("--base")?;
        let rows = npy.rows().min(command.limit.unwrap_or(u64::MAX));
        if rows == 0 || npy.dimension() == 0 || npy.dimension() > 8192 {
            let (rows, dimension) = (npy.rows(), npy.dimension());
            bail!(Usage(format!(
                "--base: {rows} rows of {dimension}, must be at least 1 of 1..=8192"
            )));
        }
        let anchors = Anchors::of(path)?;
        let fine = match (command.fine, npy.component()) {
            (Some(Format::F16), _) | (None, Component::F16) => Fine::F16,
            (Some(Format::F32), _) | (None, Component::F32) => Fine::F32,
            (Some(Format::I8), _) => Fine::I8,
        };
        Ok(Base {
            npy,
            distance: command.distance(),
            fine,
            rows,
            taken: 0,
            anchors,
        })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn dimension(&self) -> usize {
        self.npy.dimension()
    }

    pub fn fine(&self) -> Fine {
        self.fine
    }

    /// The next row as document `number`; its payload holds numbers that filters pick by.
    pub fn next(&mut self, number: u64) -> anyhow::Result<Option<Document>> {
        if self.taken == self.rows {
            return Ok(None);
        }
        self.taken += 1;
        let Some(row) = self.npy.next_row()? else {
            return Ok(None);
        };
        let mut values = unit(npy::components(self.npy.component(), &row).collect(), self.distance);
        let nearness = self.anchors.nearness(&values);
        let near: String = nearness
            .iter()
            .enumerate()
            .map(|(anchor, near)| format!(",\"{}\":{near}", Anchors::key(anchor)))
            .collect();
        let dense = match self.fine() {
            Fine::F16 => Dense::F16(values.iter().map(|value| f16::from_f32(*value).to_bits()).collect()),
            Fine::F32 => Dense::F32(values),
            Fine::I8 => {
                scaled::round(&mut values, self.distance == Distance::Cosine);
                Dense::F32(values)
            }
        };
        Ok(Some(Document {
            id: DocId::Number(number),
            version: number + 1,
            payload: Arc::from(format!("{{\"draw\":{}{near}}}", draw(number)).as_bytes()),
            vectors: vec![(String::new(), Vector::Dense(dense))],
        }))
    }
}

/// A number in 0..1 that is independent of the row.
pub fn draw(number: u64) -> f64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ mixed >> 29) >> 11) as f64 / (1u64 << 53) as f64
}

/// All queries.
pub fn queries(path: &Path, distance: Distance) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut npy = Npy::open(path).context("--queries")?;
    let mut queries = Vec::new();
    while let Some(row) = npy.next_f32()? {
        queries.push(unit(row, distance));
    }
    if queries.is_empty() {
        bail!(Usage(format!("--queries: {} has no rows", path.display())));
    }
    Ok(queries)
}

fn unit(mut values: Vec<f32>, distance: Distance) -> Vec<f32> {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    if distance == Distance::Cosine && length > 0.0 {
        values.iter_mut().for_each(|value| *value /= length);
    }
    values
}

/// Row numbers of the `k` nearest of each query.
pub fn truth(path: &Path, queries: usize, k: usize, rows: u64) -> anyhow::Result<Vec<Vec<u64>>> {
    let bytes = fs::read(path).with_context(|| format!("--truth: {}", path.display()))?;
    let bad = |problem: String| Usage(format!("--truth: {}: {problem}", path.display()));
    let header_bytes = match bytes.get(..10) {
        Some(start) if start.starts_with(b"\x93NUMPY\x01") => usize::from(u16::from_le_bytes([start[8], start[9]])),
        _ => bail!(bad("not a .npy file of version 1".into())),
    };
    let Some((header, content)) = bytes[10..].split_at_checked(header_bytes) else {
        bail!(bad("cut off in its header".into()));
    };
    let header = String::from_utf8_lossy(header);
    let width = match () {
        () if header.contains("'<i4'") => 4,
        () if header.contains("'<i8'") => 8,
        () => bail!(bad("must be int32 or int64".into())),
    };
    if content.is_empty() || content.len() % (width * queries) != 0 || content.len() / (width * queries) < k {
        bail!(bad(format!("must have {queries} rows of at least {k} numbers")));
    }
    let mut all = Vec::with_capacity(queries);
    for row in content.chunks_exact(content.len() / queries) {
        let mut numbers = Vec::with_capacity(k);
        for mut number in row.chunks_exact(width).take(k) {
            let mut wide = [0; 8];
            number.read_exact(&mut wide[..width])?;
            let number = u64::from_le_bytes(wide);
            if number >= rows {
                bail!(bad(format!("row {number} of {rows}")));
            }
            numbers.push(number);
        }
        all.push(numbers);
    }
    Ok(all)
}

/// Remembers what an index consists of.
pub fn write_manifest(path: &Path, segments: &[SegmentRef]) -> anyhow::Result<()> {
    let file = |file: &FileRef| json!([file.name, file.bytes, file.xxh3]);
    let segment = |segment: &SegmentRef| {
        let files: Vec<Value> = segment.files.iter().map(file).collect();
        json!([segment.id.0, segment.rows, segment.digest, files])
    };
    let all: Vec<Value> = segments.iter().map(segment).collect();
    Ok(fs::write(path, Value::from(all).to_string())?)
}

/// The inverse of [`write_manifest`].
pub fn read_manifest(path: &Path) -> anyhow::Result<Vec<SegmentRef>> {
    type Written = Vec<(u64, u32, u64, Vec<(String, u64, u64)>)>;
    let written: Written = serde_json::from_slice(&fs::read(path)?)?;
    let segment = |(id, rows, digest, files): (u64, u32, u64, Vec<(String, u64, u64)>)| SegmentRef {
        id: SegmentId(id),
        rows,
        live_rows: rows,
        digest,
        dead_digest: 0,
        deleted: None,
        files: files
            .into_iter()
            .map(|(name, bytes, xxh3)| FileRef { name, bytes, xxh3 })
            .collect(),
    };
    Ok(written.into_iter().map(segment).collect())
}
