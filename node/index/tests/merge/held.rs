//! An index with its manifest, as a node holds it, and the documents that go into it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use granum_index::{Document, Index, MergeError, MergePlan, Merged, Options, SegmentId, SegmentRef};
use granum_model::{Dense, Distance, DocId, Filter, Fine, Schema, Vector, VectorField, VectorKind};

pub const ROWS: u64 = 3000;

pub fn field(name: &str, kind: VectorKind) -> VectorField {
    VectorField::new(name, kind, Distance::Dot, Fine::F32)
}

pub fn dense(name: &str, dimension: u32) -> VectorField {
    field(name, VectorKind::Dense { dimension })
}

pub fn schema() -> Schema {
    Schema {
        vectors: vec![
            dense("dense", 16),
            field("sparse", VectorKind::Sparse),
            field("multi", VectorKind::Multi { dimension: 4 }),
        ],
        ..Schema::default()
    }
}

pub fn values(number: u64, count: u64) -> Vec<f32> {
    (0..count).map(|at| ((number * 7 + at * 3) % 11) as f32 - 5.0).collect()
}

pub fn document(number: u64, version: u64) -> Document {
    let sparse = Vector::Sparse {
        indices: vec![number as u32, number as u32 + 9],
        values: values(number, 2),
    };
    let multi = Vector::Multi {
        dimension: 4,
        rows: Dense::F32(values(version, 4 * (1 + number % 3))),
    };
    let mut vectors = vec![
        ("dense".into(), Vector::Dense(Dense::F32(values(number, 16)))),
        ("sparse".into(), sparse),
    ];
    if !number.is_multiple_of(4) {
        vectors.push(("multi".into(), multi));
    }
    let text = "x".repeat((number * 37 % 700) as usize);
    let payload = format!(r#"{{"n": {number}, "version": {version}, "text": "{text}"}}"#);
    Document {
        id: DocId::Number(number),
        version,
        payload: Arc::from(payload.as_bytes()),
        vectors,
    }
}

/// An index with its manifest.
pub struct Held {
    pub index: Arc<Index>,
    pub manifest: Vec<SegmentRef>,
    next: u64,
}

impl Held {
    pub fn new(directory: &Path, schema: Schema) -> Held {
        Held {
            index: Arc::new(Index::open(directory, schema, Options::default(), &[]).unwrap()),
            manifest: Vec::new(),
            next: 1,
        }
    }

    pub fn id(&mut self) -> SegmentId {
        self.next += 1;
        SegmentId(self.next - 1)
    }

    pub fn put(&self, document: Document) {
        let place = self.index.view().find(&document.id).unwrap();
        self.index.insert(document, place).unwrap();
    }

    pub fn delete(&self, number: u64) {
        let id = DocId::Number(number);
        self.index.delete(&id, self.index.view().find(&id).unwrap());
    }

    pub fn seal(&mut self) {
        let id = self.id();
        let frozen = self.index.freeze(id);
        let built = self.index.build(&frozen).unwrap();
        self.manifest = built.segments().to_vec();
        self.index.publish(built);
        self.index.remove_unreferenced(&self.manifest).unwrap();
    }

    pub fn all(&self) -> MergePlan {
        MergePlan {
            segments: self.manifest.iter().map(|segment| segment.id).collect(),
            bytes: 0,
        }
    }

    pub fn merge(&mut self, pace: &dyn Fn(u64) -> bool) -> Result<(), MergeError> {
        let (plan, next) = (self.all(), self.id());
        let merged = self.index.merge(&plan, next, pace)?;
        self.publish(merged);
        Ok(())
    }

    pub fn publish(&mut self, mut merged: Merged) {
        self.manifest = self.index.settle(&mut merged).unwrap();
        let moved = self.index.publish_merged(merged);
        self.index.remove_unreferenced(&self.manifest).unwrap();
        self.index.forget_moved(moved);
    }

    /// As after a crash now.
    pub fn reopen(&mut self, directory: &Path) {
        self.index = Arc::new(Index::open(directory, schema(), Options::default(), &self.manifest).unwrap());
        self.index.remove_unreferenced(&self.manifest).unwrap();
    }

    pub fn documents(&self) -> Vec<Document> {
        let view = self.index.view();
        let rows = view.scan(&Filter::default(), None, 10_000, &|| false).unwrap();
        rows.into_iter().map(|(_, row)| view.document(row).unwrap()).collect()
    }
}

pub fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Three segments of documents that overlap, and dead rows in each.
pub fn sealed(directory: &Path) -> Held {
    let mut held = Held::new(directory, schema());
    for (version, range) in (1..).zip([0..ROWS / 2, ROWS / 4..ROWS, ROWS / 8..ROWS / 3]) {
        for number in range {
            held.put(document(number, version));
        }
        held.seal();
    }
    for number in (0..ROWS).step_by(9) {
        held.delete(number);
    }
    held.seal();
    held
}
