//! What may a hostile file do to a reader? Any error, any answer; no panic, no endless loop, no endless memory.
//!
//! An entry a decoder, each from bytes alone. All write files below a directory of their own and go through the public API,
//! as a node does that was given foreign files. cargo-fuzz calls these, and so does `tests/fuzz.rs`, on the committed corpus.
//! Most inputs are edits of a sound file (`mended`).

use std::path::Path;
use std::sync::Arc;
use std::thread::LocalKey;

use granum_index::{Builder, Document, FileRef, Index, Inline, Options, Params, Query, SegmentId, SegmentRef, Verify};
use granum_model::{
    Condition, Dense, Distance, DocId, Filter, Fine, PayloadField, PayloadKind, Scalar, Schema, Vector, VectorField,
    VectorKind,
};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

#[path = "columns.rs"]
mod columns;
#[path = "mended.rs"]
mod mended;

use columns::{conditions, payload};
use mended::{FOOTER_DIGEST, PAGE, edit, seal_footer, with_section};

/// Rows of the segment with all kinds of vectors, and of the one with codes and a graph.
const FEW: u64 = 24;
const MANY: u64 = 1000;

/// A footer of any content, its digest right, below a sound file: byte 0 says which.
pub fn footer(input: &[u8]) {
    let Some((which, page)) = input.split_first() else {
        return;
    };
    SMALL.with(|ground| {
        let (name, sound) = &ground.files[usize::from(*which) % ground.files.len()];
        let (mut bytes, page) = (sound.clone(), &page[..page.len().min(FOOTER_DIGEST)]);
        let start = bytes.len() - PAGE;
        bytes[start..][..page.len()].copy_from_slice(page);
        seal_footer(&mut bytes);
        ground.read(&[(name, &bytes)], &ground.manifest);
    });
}

/// Edits of a sound file of any kind that a manifest names: byte 0 says which.
pub fn segment(input: &[u8]) {
    let Some((which, edits)) = input.split_first() else {
        return;
    };
    SMALL.with(|ground| {
        let (name, sound) = &ground.files[usize::from(*which) % ground.files.len()];
        let mut bytes = sound.clone();
        edit(&mut bytes, edits);
        ground.read(&[(name, &bytes)], &ground.manifest);
    });
}

/// Any bytes as the bitmap of dead rows, and as that of the rows that have a vector.
pub fn bitmap(input: &[u8]) {
    SMALL.with(|ground| {
        let file_of = |kind: &str| {
            let named = ground.files.iter().find(|(name, _)| name.contains(kind));
            named.expect("the segment has a file of each kind")
        };
        let mut manifest = ground.manifest.clone();
        let (name, sound) = file_of(".deleted.");
        let dead = with_section(sound, 0, input);
        // The manifest of whoever wrote such a file counts what is in it.
        if let Ok(rows) = roaring::RoaringBitmap::deserialize_from(input) {
            manifest.live_rows = (FEW as u32).saturating_sub(rows.len() as u32);
        }
        ground.read(&[(name, &dead)], &manifest);
        let (name, sound) = file_of(".vector.02");
        ground.read(&[(name, &with_section(sound, 1, input))], &ground.manifest);
    });
}

/// Edits of codes or, where byte 0 is odd, of the vectors that codes and graph were made of; where its second bit is set, of
/// codes about a centroid.
pub fn codes(input: &[u8]) {
    let Some((which, edits)) = input.split_first() else {
        return;
    };
    let ground = if which & 2 == 0 { &LARGE } else { &DISPLACED };
    derived(ground, if which & 1 == 0 { ".codes." } else { ".vector." }, edits);
}

/// Edits of a graph.
pub fn graph(input: &[u8]) {
    derived(&LARGE, ".graph.", input);
}

/// Edits of a column: byte 0 says which.
pub fn column(input: &[u8]) {
    let Some((which, edits)) = input.split_first() else {
        return;
    };
    INDEXED.with(|ground| {
        let columns: Vec<_> = ground
            .files
            .iter()
            .filter(|(name, _)| name.contains(".column."))
            .collect();
        assert_eq!(columns.len(), PayloadKind::ALL.len(), "a column of each kind");
        let (name, sound) = columns[usize::from(*which) % columns.len()];
        let mut bytes = sound.clone();
        edit(&mut bytes, edits);
        ground.read(&[(name, &bytes)], &ground.manifest);
    });
}

/// Edits of one file of a segment with codes, and perhaps a graph, which stay those of its vectors.
fn derived(ground: &'static LocalKey<Ground>, kind: &str, edits: &[u8]) {
    ground.with(|ground| {
        let mut files: Vec<(&str, Vec<u8>)> = [".vector.", ".codes.", ".graph."]
            .iter()
            .filter_map(|kind| ground.files.iter().find(|(name, _)| name.contains(kind)))
            .map(|(name, sound)| (&**name, sound.clone()))
            .collect();
        for (name, bytes) in &mut files {
            if name.contains(kind) {
                edit(bytes, edits);
            }
        }
        let vectors = &files[0].1;
        let identity: [u8; 8] = vectors[vectors.len() - PAGE + 40..][..8].try_into().expect("8 bytes");
        if kind == ".vector." {
            for (_, bytes) in &mut files[1..] {
                let at = bytes.len() - PAGE + 56;
                bytes[at..][..8].copy_from_slice(&identity);
                seal_footer(bytes);
            }
        }
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &**bytes)).collect();
        ground.read(&files, &ground.manifest);
    });
}

thread_local! {
    static SMALL: Ground = Ground::new(FEW, &[Distance::Dot, Distance::Cosine], &[], Options::default());
    static LARGE: Ground = Ground::new(MANY, &[Distance::Euclid], &[], Options { builder: Builder::Granum, ..Options::default() });
    static DISPLACED: Ground = Ground::new(MANY, &[Distance::Dot], &[], Options { builder: Builder::Codes, ..Options::default() });
    static INDEXED: Ground = Ground::new(FEW, &[Distance::Dot], &PayloadKind::ALL, Options::default());
}

/// A sound segment, and a copy of it that an input damages.
struct Ground {
    directory: TempDir,
    schema: Schema,
    options: Options,
    manifest: SegmentRef,
    files: Vec<(String, Vec<u8>)>,
}

impl Ground {
    /// Dense vectors of those distances; of few rows, some dead, other kinds of vectors too. A column of each of `kinds`.
    fn new(rows: u64, dense: &[Distance], kinds: &[PayloadKind], options: Options) -> Ground {
        let field = |number: usize, kind, distance| VectorField::new(format!("v{number}"), kind, distance, Fine::F32);
        let mut vectors: Vec<VectorField> = Vec::new();
        if rows == FEW {
            vectors.push(field(0, VectorKind::Sparse, Distance::Dot));
            vectors.push(field(1, VectorKind::Multi { dimension: 2 }, Distance::Dot));
        }
        for distance in dense {
            vectors.push(field(vectors.len(), VectorKind::Dense { dimension: 2 }, *distance));
        }
        let payload = kinds.iter().map(|kind| PayloadField {
            key: kind.name().to_owned(),
            kind: *kind,
        });
        let schema = Schema {
            vectors,
            payload: payload.collect(),
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let index = Index::open(directory.path(), schema.clone(), options, &[]).expect("an empty index opens");
        for number in 0..rows {
            let document = document(&schema, number);
            index.insert(document, None).expect("the document is sound");
        }
        let mut segments = Vec::new();
        for generation in 1..3 {
            let built = index
                .build(&index.freeze(SegmentId(generation)))
                .expect("files are written");
            let places: Vec<_> = built.ids().map(|(id, place)| (id.clone(), place)).collect();
            segments = built.segments().to_vec();
            index.publish(built);
            if rows == FEW {
                for (id, place) in places.iter().step_by(5) {
                    index.delete(id, Some(*place));
                }
            }
        }
        index.derive(&Inline).expect("codes and a graph are built");
        let manifest = segments.swap_remove(0);
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory.path())
            .expect("the directory is there")
            .map(|entry| {
                let entry = entry.expect("the directory is listed");
                let name = entry.file_name().into_string().expect("names are ASCII");
                (name, std::fs::read(entry.path()).expect("the file is there"))
            })
            .filter(|(name, _)| {
                let is_derived = [".codes.", ".graph.", ".column."]
                    .iter()
                    .any(|kind| name.contains(kind));
                is_derived || manifest.files.iter().any(|file| file.name == *name)
            })
            .collect();
        files.sort();
        Ground {
            directory,
            schema,
            options,
            manifest,
            files,
        }
    }

    /// Puts the damaged files in their places, asks for all that there is, and puts the sound ones back.
    fn read(&self, damaged: &[(&str, &[u8])], manifest: &SegmentRef) {
        let digest = |file: &FileRef| match damaged.iter().find(|(name, _)| *name == file.name) {
            Some((name, bytes)) => FileRef {
                name: (*name).to_owned(),
                bytes: bytes.len() as u64,
                xxh3: xxh3_64(bytes),
            },
            None => file.clone(),
        };
        let manifest = SegmentRef {
            files: manifest.files.iter().map(digest).collect(),
            ..manifest.clone()
        };
        let path = |name: &str| self.directory.path().join(name);
        for (name, bytes) in damaged {
            replace(&path(name), bytes);
        }
        read_all(self.directory.path(), &self.schema, self.options, &[manifest]);
        for (name, _) in damaged {
            let sound = self.files.iter().find(|(own, _)| own == name);
            replace(&path(name), &sound.expect("damaged files were sound").1);
        }
    }
}

/// A new file under an old name: what is mapped stays as it is.
fn replace(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).expect("the file is written");
}

fn document(schema: &Schema, number: u64) -> Document {
    let angle = number as f32 * 0.37;
    let row = |size: f32| vec![angle.cos() * size, angle.sin() * size];
    let vector = |field: &VectorField| match field.kind {
        VectorKind::Dense { .. } if field.distance == Distance::Cosine => Vector::Dense(Dense::F32(row(1.0))),
        // Products: about a point beside 0.
        VectorKind::Dense { .. } if field.distance == Distance::Dot => {
            Vector::Dense(Dense::F32(row(1.0).iter().map(|value| value + 3.0).collect()))
        }
        VectorKind::Dense { .. } => Vector::Dense(Dense::F32(row(1.0 + number as f32 / 100.0))),
        VectorKind::Sparse => Vector::Sparse {
            indices: vec![number as u32, number as u32 + 9],
            values: row(1.0),
        },
        VectorKind::Multi { dimension } => Vector::Multi {
            dimension,
            rows: Dense::F32(row(1.0).repeat(1 + number as usize % 3)),
        },
    };
    let has = |at: usize| at != 2 || !number.is_multiple_of(4);
    let vectors = schema.vectors.iter().enumerate().filter(|(at, _)| has(*at));
    Document {
        id: if number.is_multiple_of(2) {
            DocId::Number(number)
        } else {
            DocId::Text(format!("document {number}"))
        },
        version: number + 1,
        payload: Arc::from(payload(schema, number).as_bytes()),
        vectors: vectors.map(|(_, field)| (field.name.clone(), vector(field))).collect(),
    }
}

/// Everything a reader can ask for.
fn read_all(directory: &Path, schema: &Schema, options: Options, manifest: &[SegmentRef]) {
    let _ = granum_index::verify(directory, manifest);
    let Ok(index) = Index::open(directory, schema.clone(), options, manifest) else {
        return;
    };
    let view = index.view();
    let third = Filter {
        must: vec![Condition::MatchAny {
            key: "n".into(),
            any: vec![Scalar::Integer(1)],
        }],
        ..Filter::default()
    };
    let queries: Vec<Query> = queries(schema, &third);
    // One by one: an error of one says nothing of the others.
    for query in queries {
        if let Ok(found) = view.search(std::slice::from_ref(&query), &|| false) {
            assert!(
                found[0].hits.len() <= query.k,
                "{} hits of {query:?}",
                found[0].hits.len()
            );
        }
    }
    let _ = view.count(&third, &|| false);
    for condition in schema.payload.iter().flat_map(conditions) {
        let filter = Filter {
            must: vec![condition],
            ..Filter::default()
        };
        let _ = view.count(&filter, &|| false);
    }
    if let Ok(rows) = view.scan(&Filter::default(), None, 30, &|| false) {
        for (id, row) in rows {
            let _ = view.document(row);
            let _ = view.find(&id);
        }
    }
    let _ = view.sealed_ids().filter(Result::is_ok).count();
}

fn queries(schema: &Schema, third: &Filter) -> Vec<Query> {
    let mut queries = Vec::new();
    for field in &schema.vectors {
        let all = document(schema, 5).vectors;
        let vector = all.into_iter().find(|(name, _)| *name == field.name);
        let plain = Query {
            using: field.name.clone(),
            vector: vector.expect("document 5 has all vectors").1,
            filter: Filter::default(),
            k: 3,
            threshold: None,
            exclude: None,
            params: Params {
                ef: Some(4),
                ..Params::default()
            },
        };
        for verify in [Verify::All, Verify::Bound, Verify::None] {
            let params = Params { verify, ..plain.params };
            queries.push(Query {
                params,
                ..plain.clone()
            });
        }
        if let VectorKind::Dense { dimension } = field.kind {
            // About what displaced rows have in common.
            queries.push(Query {
                vector: Vector::Dense(Dense::F32(vec![3.0; dimension as usize])),
                ..plain.clone()
            });
        }
        let exact = Params {
            exact: true,
            ..Params::default()
        };
        queries.push(Query {
            params: exact,
            k: 50,
            ..plain.clone()
        });
        let params = Params {
            verify: Verify::Bound,
            ..Params::default()
        };
        queries.push(Query {
            params,
            k: 50,
            ..plain.clone()
        });
        // Twice: the second time the segment knows which rows pass.
        for _ in 0..2 {
            queries.push(Query {
                filter: third.clone(),
                ..plain.clone()
            });
        }
        queries.push(Query {
            exclude: Some(DocId::Number(4)),
            threshold: Some(-1.0),
            ..plain
        });
    }
    queries
}
