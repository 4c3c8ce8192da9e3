//! The index alone, without node or network: create, insert, seal, search. `cargo run -p granum-index --example embed_in_process`

use std::sync::Arc;

use granum_index::{Document, Index, Options, Params, Query, SegmentId};
use granum_model::{Condition, Dense, Distance, DocId, Filter, Fine, Scalar, Schema, Vector, VectorField, VectorKind};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::temp_dir().join(format!("granum-example-{}", std::process::id()));
    let field = VectorField::new("", VectorKind::Dense { dimension: 3 }, Distance::Dot, Fine::F32);
    let index = Index::open(
        &directory,
        Schema {
            vectors: vec![field],
            ..Schema::default()
        },
        Options::default(),
        &[],
    )?;

    let animals = [
        ("cat", "mammal", [0.9, 0.1, 0.2]),
        ("lion", "mammal", [0.8, 0.3, 0.1]),
        ("trout", "fish", [0.7, 0.2, 0.9]),
    ];
    for (version, (name, class, values)) in (1..).zip(animals) {
        let payload = format!(r#"{{"class": "{class}"}}"#);
        let vector = Vector::Dense(Dense::F32(values.to_vec()));
        let id = DocId::from_text(name).map_err(|error| error.to_string())?;
        index.insert(
            Document {
                id,
                version,
                payload: payload.into_bytes().into(),
                vectors: vec![(String::new(), vector)],
            },
            None,
        )?;
    }

    // A node writes `built.segments()` into its manifest between these two steps.
    let built = index.build(&index.freeze(SegmentId(1)))?;
    println!(
        "sealed {} rows in {} files",
        built.segments()[0].rows,
        built.segments()[0].files.len()
    );
    index.publish(built);

    let mammals = Condition::MatchAny {
        key: "class".into(),
        any: vec![Scalar::Text("mammal".into())],
    };
    let query = Query {
        using: String::new(),
        vector: Vector::Dense(Dense::F32(vec![1.0, 0.0, 1.0])),
        filter: Filter {
            must: vec![mammals],
            ..Filter::default()
        },
        k: 2,
        threshold: None,
        exclude: None,
        params: Params::default(),
    };
    let view = index.view();
    for found in view.search(&[query], &|| false)? {
        for hit in found.hits {
            let payload: Arc<[u8]> = view.payload(hit.row)?;
            println!(
                "{:.2}  {}  {}",
                hit.hit.score,
                hit.hit.id,
                String::from_utf8_lossy(&payload)
            );
        }
    }
    std::fs::remove_dir_all(directory)?;
    Ok(())
}
