//! The envelope of every answer, and the shape of errors: Qdrant's.

use std::time::Instant;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use granum_proto::limits::MESSAGE_IN_BYTES_MAX;
use granum_proto::status::Failure;
use serde::Serialize;

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

    /// The answer: `{"result", "status": "ok", "time"}`, or `{"status": {"error"}, "time"}` with the failure's HTTP code.
    pub fn reply<T: Serialize>(self, outcome: Result<T, Failure>) -> Response {
        let time = self.0.elapsed().as_secs_f64();
        match outcome {
            Ok(result) => Json(Success {
                result,
                status: "ok",
                time,
            })
            .into_response(),
            Err(failure) => {
                let code = StatusCode::from_u16(failure.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let status = Problem {
                    error: failure.to_string(),
                };
                (code, Json(Refusal { status, time })).into_response()
            }
        }
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
