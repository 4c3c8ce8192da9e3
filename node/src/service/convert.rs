//! Wire forms of questions and answers: queries in, hits and documents out, as many bytes as one message carries.

use granum_index::{Document, Params, Query, RowHit, RowRef, Verify, View};
use granum_model::{DocId, Vector};
use granum_proto::convert;
use granum_proto::internal::{ShardHit, ShardQuery};
use granum_proto::limits::{self, Invalid, LIMIT_MAX, MESSAGE_OUT_BYTES_MAX, WINDOW_MAX};
use granum_proto::status::Failure;
use granum_proto::v1::{self, search_params};
use prost::Message;

use super::search::read_failure;
use super::select::Selected;

/// Largest k of one shard's answer: a page at the far end of the window.
const K_MAX: u32 = WINDOW_MAX + LIMIT_MAX;

/// Reads a query; the index checks it against the schema.
pub(crate) fn read_query(query: &ShardQuery) -> Result<Query, Invalid> {
    if query.k == 0 || query.k > K_MAX {
        return Err(Invalid::new("k", format!("{}, must be 1..={K_MAX}", query.k)));
    }
    let nearest = query
        .nearest
        .as_ref()
        .ok_or_else(|| Invalid::new("nearest", "missing"))?;
    let vector = convert::vector::read(nearest).map_err(|error| error.within("nearest"))?;
    if query.score_threshold.is_some_and(|threshold| !threshold.is_finite()) {
        return Err(Invalid::new("score_threshold", "must be finite"));
    }
    Ok(Query {
        using: query.using.clone(),
        vector: vector.ok_or_else(|| Invalid::new("nearest", "text, which is to be embedded before"))?,
        filter: convert::filter::read(query.filter.as_ref()).map_err(|error| error.within("filter"))?,
        k: query.k as usize,
        threshold: query.score_threshold,
        exclude: query
            .exclude
            .as_ref()
            .map(|id| convert::id::read(Some(id)))
            .transpose()?,
        params: read_params(query.params.unwrap_or_default())?,
    })
}

fn read_params(params: v1::SearchParams) -> Result<Params, Invalid> {
    let recall = params.target_recall;
    if recall != 0.0 && !(0.5..=1.0).contains(&recall) {
        return Err(Invalid::new(
            "params.target_recall",
            format!("{recall}, must be 0.5..=1"),
        ));
    }
    Ok(Params {
        exact: params.exact,
        ef: (params.ef != 0).then_some(params.ef),
        target_recall: (recall != 0.0).then_some(recall),
        verify: match params.verify() {
            search_params::Verify::Unspecified | search_params::Verify::All => Verify::All,
            search_params::Verify::Bound => Verify::Bound,
            search_params::Verify::None => Verify::None,
        },
        certified: params.certified,
    })
}

/// Sums of what queries cost.
pub(super) mod usage {
    use granum_proto::v1;

    /// Adds one query's cost.
    pub fn add(total: &mut v1::Usage, usage: granum_index::Usage) {
        total.rows_scored += usage.rows_scored;
        total.rows_read += usage.rows_read;
        total.bytes_read += usage.bytes_read;
        total.rows_filtered += usage.rows_filtered;
    }
}

/// Writes an answer's documents, as many bytes as one message carries.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: usize,
}

impl Outgoing {
    /// A hit with what was selected of its document.
    pub fn hit(&mut self, view: &View, found: &RowHit, selected: &Selected) -> Result<ShardHit, Failure> {
        let mut hit = ShardHit {
            id: Some(convert::id::write(&found.hit.id)),
            score: found.hit.score,
            error: found.interval.error,
            row: found.row.to_u64(),
            version: found.hit.version,
            ..ShardHit::default()
        };
        if selected.wants_vectors() {
            let document = self.document(view.document(found.row).map_err(read_failure)?, selected)?;
            (hit.payload_json, hit.vectors) = (document.payload_json, document.vectors);
        } else if selected.wants_payload() {
            hit.payload_json = selected.payload(&view.payload(found.row).map_err(read_failure)?)?;
            self.count(hit.encoded_len())?;
        } else {
            self.count(hit.encoded_len())?;
        }
        Ok(hit)
    }

    /// The document at a row.
    pub fn row(&mut self, view: &View, row: RowRef, selected: &Selected) -> Result<v1::StoredDocument, Failure> {
        if selected.wants_vectors() {
            return self.document(view.document(row).map_err(read_failure)?, selected);
        }
        let (id, version) = view.id(row).map_err(read_failure)?;
        let payload_json = match selected.wants_payload() {
            false => bytes::Bytes::new(),
            true => selected.payload(&view.payload(row).map_err(read_failure)?)?,
        };
        self.stored(&id, version, payload_json, Vec::new())
    }

    /// A document.
    pub fn document(&mut self, document: Document, selected: &Selected) -> Result<v1::StoredDocument, Failure> {
        let vectors = document.vectors.iter().filter(|(name, _)| selected.wants_vector(name));
        let named = |(name, vector): &(String, Vector)| v1::NamedVector {
            name: name.clone(),
            vector: Some(convert::vector::write(vector)),
        };
        let vectors = vectors.map(named).collect();
        self.stored(
            &document.id,
            document.version,
            selected.payload(&document.payload)?,
            vectors,
        )
    }

    fn stored(
        &mut self,
        id: &DocId,
        version: u64,
        payload_json: bytes::Bytes,
        vectors: Vec<v1::NamedVector>,
    ) -> Result<v1::StoredDocument, Failure> {
        let stored = v1::StoredDocument {
            id: Some(convert::id::write(id)),
            version,
            payload_json,
            vectors,
        };
        self.count(stored.encoded_len())?;
        Ok(stored)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Failure> {
        /// Room for the frame of each document and of the message.
        const FRAME_BYTES: usize = 16;
        self.bytes += bytes + FRAME_BYTES;
        limits::at_most(
            "answer",
            self.bytes,
            MESSAGE_OUT_BYTES_MAX - (1 << 16),
            "bytes: ask for fewer documents",
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_refused_by_field() {
        let dense = v1::DenseVector {
            f32: vec![1.0],
            ..v1::DenseVector::default()
        };
        let vector = v1::Vector {
            kind: Some(v1::vector::Kind::Dense(dense)),
        };
        let good = ShardQuery {
            nearest: Some(vector),
            k: 10,
            ..ShardQuery::default()
        };
        assert!(read_query(&good).is_ok());
        let params = |recall| {
            Some(v1::SearchParams {
                target_recall: recall,
                ..v1::SearchParams::default()
            })
        };
        for (query, field) in [
            (ShardQuery { k: 0, ..good.clone() }, "k: 0"),
            (
                ShardQuery {
                    k: K_MAX + 1,
                    ..good.clone()
                },
                "k: 110001",
            ),
            (
                ShardQuery {
                    nearest: None,
                    ..good.clone()
                },
                "nearest: missing",
            ),
            (
                ShardQuery {
                    score_threshold: Some(f32::NAN),
                    ..good.clone()
                },
                "score_threshold",
            ),
            (
                ShardQuery {
                    params: params(0.2),
                    ..good.clone()
                },
                "params.target_recall: 0.2",
            ),
        ] {
            let error = read_query(&query).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
