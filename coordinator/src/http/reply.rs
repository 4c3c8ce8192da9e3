//! The envelope of every answer, and the shape of errors: Qdrant's.

use std::time::Instant;

use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use granum_proto::limits::MESSAGE_IN_BYTES_MAX;
use granum_proto::status::Failure;
use serde::Serialize;

/// Seconds after which a request that was refused as busy may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Measures a request, for the `time` of its answer.
pub struct Clock(Instant);

#[derive(Serialize)]
struct Success<T> {
    result: T,
    status: &'static str,
    time: f64,
}

#[derive(Serialize)]
struct Refusal {
    status: Problem,
    time: f64,
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

impl Clock {
    /// A request begins.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// The answer: `{"result", "status": "ok", "time"}`, or `{"status": {"error"}, "time"}` with the failure's HTTP code. Who is
    /// refused as busy is told when to come again.
    pub fn reply<T: Serialize>(self, outcome: Result<T, Failure>) -> Response {
        let time = self.0.elapsed().as_secs_f64();
        match outcome {
            Ok(result) => {
                let status = "ok";
                json(StatusCode::OK, &Success { result, status, time })
            }
            Err(failure) => {
                let code = StatusCode::from_u16(failure.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let status = Problem {
                    error: match &failure {
                        Failure::Invalid(problem) => in_rest_words(problem),
                        other => other.to_string(),
                    },
                };
                let mut response = json(code, &Refusal { status, time });
                if matches!(failure, Failure::Busy(_)) {
                    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
                }
                response
            }
        }
    }
}

/// A body of JSON.
pub fn json<T: Serialize>(code: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (code, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The body as axum read it: too long or cut off is a refusal in our shape.
pub fn body(read: Result<Bytes, BytesRejection>) -> Result<Bytes, Failure> {
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::Invalid(format!(
            "body: more than {MESSAGE_IN_BYTES_MAX} bytes, which is the limit; send smaller batches"
        )),
        _ => Failure::Invalid(format!("body: {}", rejection.body_text())),
    })
}

/// A field by the name that the JSON had: what is checked behind the gateway is named as `granum.v1` has it.
fn in_rest_words(problem: &str) -> String {
    let (field, what) = problem.split_once(": ").unwrap_or((problem, ""));
    let (mut field, end) = match field.split_once(' ') {
        // No field, but a sentence.
        Some(_) => return problem.to_owned(),
        None => (field.to_owned(), if what.is_empty() { "" } else { ": " }),
    };
    for (grpc, rest) in [
        ("documents", "points"),
        ("schema.vectors", "vectors"),
        ("query.nearest", "query"),
    ] {
        if let Some(after) = field.strip_prefix(grpc)
            && (after.is_empty() || after.starts_with(['.', '[']))
        {
            field = format!("{rest}{after}");
        }
    }
    if field.starts_with("points[") {
        field = field.replacen("].vectors", "].vector", 1);
    }
    if field.starts_with("vectors") {
        field = field.replacen(".dimension", ".size", 1);
    }
    // The vector without a name is not named in JSON either.
    format!("{}{end}{what}", field.replacen("[\"\"]", "", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_as_busy_is_told_when_to_come_again() {
        let refused = |failure| Clock::start().reply::<()>(Err(failure));
        let busy = refused(Failure::Busy("too many".to_owned()));
        assert_eq!(busy.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
        let wrong = refused(Failure::Invalid("limit: 0".to_owned()));
        assert!(!wrong.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn a_problem_names_the_field_as_the_json_had_it() {
        for (grpc, rest) in [
            (
                "documents[7].vectors[\"\"]: 3 dimensions, the collection has 4",
                "points[7].vector: 3 dimensions, the collection has 4",
            ),
            ("documents[7].vectors[\"title\"]: 3", "points[7].vector[\"title\"]: 3"),
            (
                "documents[0].payload: 9 bytes, at most 8",
                "points[0].payload: 9 bytes, at most 8",
            ),
            (
                "documents: 10001 documents, at most 10000",
                "points: 10001 documents, at most 10000",
            ),
            ("query.nearest: 3 dimensions", "query: 3 dimensions"),
            ("query.nearest_id: document 7", "query.nearest_id: document 7"),
            (
                "schema.vectors[\"\"].dimension: 0, must be 1..=8192",
                "vectors.size: 0, must be 1..=8192",
            ),
            ("schema.vectors[\"a\"].dimension: 0", "vectors[\"a\"].size: 0"),
            ("limit: 20000 hits, at most 10000", "limit: 20000 hits, at most 10000"),
            ("points[1].id: -1 is not", "points[1].id: -1 is not"),
            ("offset + limit: 7 hits", "offset + limit: 7 hits"),
            ("documents are bad", "documents are bad"),
        ] {
            assert_eq!(in_rest_words(grpc), rest);
        }
    }
}
