//! How is text embedded by another program, and what of its answer is believed?
//!
//! Two forms of request are spoken, told apart by the path: OpenAI's (`.../embeddings`: `{"model", "input": [..]}`,
//! also vLLM's, Ollama's and llama.cpp's) and that of Text Embeddings Inference (`.../embed`: `{"inputs": [..]}`).
//! Nothing of an answer is believed: its size, its number of vectors, their dimension and values are checked, and
//! vectors are brought to unit length. Plain HTTP only; retrying is left to the caller, who knows whether it waits.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, Uri, header::CONTENT_TYPE};
use granum_proto::limits::DIMENSION_MAX;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{EmbedError, MAX_TEXTS_PER_CALL, MAX_WAITING_TEXTS};

/// Texts in one request: what Text Embeddings Inference takes by default.
const BATCH_TEXTS: usize = 32;

/// Requests in flight to one endpoint.
const MAX_REQUESTS: usize = 8;

/// Bytes of an answer for one value of a vector ("-1.2345678901234567e-05, "), and for all around them.
const VALUE_BYTES: usize = 32;
const FRAME_BYTES: usize = 64 * 1024;

/// What an error quotes of an answer, in characters.
const QUOTE_CHARS: usize = 200;

/// Where and what a remote embedder is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `http://HOST:PORT/PATH`; the path ends in `/embeddings` (OpenAI's form) or `/embed` (that of TEI).
    pub url: String,
    /// The model asked for, and under `remote/` the embedder's name in schemas.
    pub model: String,
    /// Raised by whoever changes the model behind the same name.
    pub version: u32,
    /// Values of a vector, 1 to [`DIMENSION_MAX`].
    pub dimension: usize,
    /// Time that one request of at most 32 texts may take.
    pub timeout: Duration,
}

#[derive(Clone, Copy)]
enum Form {
    OpenAi,
    Tei,
}

/// A checked endpoint and its connections.
pub(super) struct Remote {
    endpoint: Endpoint,
    form: Form,
    uri: Uri,
    name: String,
    client: Client<HttpConnector, Body>,
    /// A permit a text that is waiting or under way.
    texts: Semaphore,
    requests: Semaphore,
}

#[derive(Serialize)]
struct OpenAiRequest<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct OpenAiReply {
    data: Vec<OpenAiVector>,
}

#[derive(Deserialize)]
struct OpenAiVector {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Serialize)]
struct TeiRequest<'a> {
    inputs: &'a [String],
    truncate: bool,
}

impl Remote {
    /// Checks `endpoint`; connects when it is first asked.
    pub fn new(endpoint: Endpoint) -> Result<Self, EmbedError> {
        let refuse = |why: &str| EmbedError::Endpoint(format!("{why}: {:?}", endpoint.url));
        let uri: Uri = endpoint.url.parse().map_err(|_| refuse("not a URL"))?;
        let form = match (uri.scheme_str(), uri.path()) {
            (Some("https"), _) => Err("https is not spoken here; put a TLS proxy beside the coordinator"),
            (Some("http"), path) if path.ends_with("/embeddings") => Ok(Form::OpenAi),
            (Some("http"), path) if path.ends_with("/embed") => Ok(Form::Tei),
            (Some("http"), _) => Err("the path must end in /embeddings (OpenAI's form) or /embed (that of TEI)"),
            _ => Err("a URL must begin with http://"),
        };
        let form = form.map_err(refuse)?;
        if !(1..=DIMENSION_MAX as usize).contains(&endpoint.dimension) || endpoint.timeout.is_zero() {
            let (is, timeout) = (endpoint.dimension, endpoint.timeout);
            let why = format!("dimension {is} must be 1 to {DIMENSION_MAX}, timeout {timeout:?} above 0");
            return Err(refuse(&why));
        }
        let name = format!("remote/{}", endpoint.model);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (texts, requests) = (Semaphore::new(MAX_WAITING_TEXTS), Semaphore::new(MAX_REQUESTS));
        Ok(Self {
            endpoint,
            form,
            uri,
            name,
            client,
            texts,
            requests,
        })
    }

    /// What schemas call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which vectors may be compared.
    pub fn version(&self) -> u32 {
        self.endpoint.version
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.endpoint.dimension
    }

    /// A unit vector for each text, in their order.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.len() > MAX_TEXTS_PER_CALL {
            return Err(EmbedError::TooManyTexts { texts: texts.len() });
        }
        let waiting = MAX_WAITING_TEXTS - self.texts.available_permits();
        let count = u32::try_from(texts.len()).expect("bounded by MAX_TEXTS_PER_CALL");
        let _texts = self
            .texts
            .try_acquire_many(count)
            .map_err(|_| EmbedError::Busy { waiting })?;
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH_TEXTS) {
            let _request = self.requests.acquire().await.expect("this semaphore is never closed");
            let reply = tokio::time::timeout(self.endpoint.timeout, self.ask(batch));
            let reply = reply
                .await
                .map_err(|_| self.unavailable(format!("no answer in {:?}", self.endpoint.timeout)))?;
            vectors.extend(self.check(self.read(&reply?)?, batch.len())?);
        }
        Ok(vectors)
    }

    /// One request; the body of its answer, if that is a success.
    async fn ask(&self, texts: &[String]) -> Result<Bytes, EmbedError> {
        let body = match self.form {
            Form::OpenAi => serde_json::to_vec(&OpenAiRequest {
                model: &self.endpoint.model,
                input: texts,
                encoding_format: "float",
            }),
            Form::Tei => serde_json::to_vec(&TeiRequest {
                inputs: texts,
                truncate: true,
            }),
        };
        let body = body.expect("strings are always JSON");
        let request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body));
        let reply = self.client.request(request.expect("the URL was checked"));
        let reply = reply.await.map_err(|error| self.unavailable(error))?;
        let status = reply.status();
        let most_bytes = FRAME_BYTES + texts.len() * self.endpoint.dimension * VALUE_BYTES;
        let body = to_bytes(Body::new(reply.into_body()), most_bytes).await;
        let body = body.map_err(|error| self.unavailable(format!("answer (at most {most_bytes} bytes): {error}")))?;
        if status.is_success() {
            return Ok(body);
        }
        let quote: String = String::from_utf8_lossy(&body).chars().take(QUOTE_CHARS).collect();
        let said = format!("{status}: {quote}");
        let later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if later {
            self.unavailable(said)
        } else {
            self.failed(said)
        })
    }

    /// The vectors of an answer, in the order of the texts.
    fn read(&self, body: &[u8]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let not_json = |error| self.failed(format!("answer: {error}"));
        match self.form {
            Form::Tei => serde_json::from_slice(body).map_err(not_json),
            Form::OpenAi => {
                let mut reply: OpenAiReply = serde_json::from_slice(body).map_err(not_json)?;
                reply.data.sort_by_key(|vector| vector.index);
                if reply.data.iter().enumerate().any(|(at, vector)| vector.index != at) {
                    return Err(self.failed("the indices of the vectors are not 0, 1, 2, ..."));
                }
                Ok(reply.data.into_iter().map(|vector| vector.embedding).collect())
            }
        }
    }

    /// `vectors` at unit length, if they are what was asked for.
    fn check(&self, mut vectors: Vec<Vec<f32>>, texts: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        if vectors.len() != texts {
            return Err(self.failed(format!("{} vectors for {texts} texts", vectors.len())));
        }
        for vector in &mut vectors {
            let (is, expected) = (vector.len(), self.endpoint.dimension);
            if is != expected {
                return Err(self.failed(format!("a vector has dimension {is}, expected {expected}")));
            }
            let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if !norm.is_finite() || norm == 0.0 {
                return Err(self.failed(format!("a vector has length {norm}")));
            }
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
        Ok(vectors)
    }

    fn failed(&self, why: impl std::fmt::Display) -> EmbedError {
        EmbedError::Failed(format!("{}: {why}", self.endpoint.url))
    }

    fn unavailable(&self, why: impl std::fmt::Display) -> EmbedError {
        EmbedError::Unavailable(format!("{}: {why}", self.endpoint.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::post;
    use serde_json::{Value, json};

    fn vector(text: &Value) -> Value {
        json!([text.as_str().unwrap().len() as f32, 1.0, 0.0])
    }

    async fn open_ai(request: Bytes) -> String {
        let request: Value = serde_json::from_slice(&request).unwrap();
        assert_eq!(request["model"], "lengths");
        let texts = request["input"].as_array().unwrap().iter().enumerate();
        let data: Vec<_> = texts
            .map(|(index, text)| json!({"index": index, "embedding": vector(text)}))
            .collect();
        // Last first: the index counts, not the place.
        json!({"data": data.into_iter().rev().collect::<Vec<_>>(), "model": "lengths"}).to_string()
    }

    async fn tei(request: Bytes) -> String {
        let request: Value = serde_json::from_slice(&request).unwrap();
        let texts = request["inputs"].as_array().unwrap();
        assert!(texts.len() <= BATCH_TEXTS);
        texts.iter().map(vector).collect::<Value>().to_string()
    }

    /// An embedder behind a server that answers well on two paths, badly on others, and never on one.
    async fn remote(path: &str) -> Remote {
        let app = Router::new()
            .route("/v1/embeddings", post(open_ai))
            .route("/embed", post(tei))
            .route("/few/embed", post(async || "[[1.0, 0.0, 0.0]]"))
            .route("/flat/embed", post(async || "[[1.0], [1.0]]"))
            .route("/zero/embed", post(async || "[[0, 0, 0], [0, 0, 0]]"))
            .route("/huge/embed", post(async || "[".repeat(FRAME_BYTES * 2)))
            .route(
                "/twice/embeddings",
                post(async || r#"{"data": [{"index": 1, "embedding": [1, 1, 1]}]}"#),
            )
            .route(
                "/down/embed",
                post(async || (StatusCode::SERVICE_UNAVAILABLE, "loading")),
            )
            .route(
                "/wrong/embed",
                post(async || (StatusCode::UNPROCESSABLE_ENTITY, "no such model")),
            )
            .route("/never/embed", post(std::future::pending::<()>));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Remote::new(endpoint(format!("http://127.0.0.1:{port}{path}"))).unwrap()
    }

    fn endpoint(url: String) -> Endpoint {
        let timeout = if url.contains("never") {
            Duration::from_millis(50)
        } else {
            Duration::from_secs(20)
        };
        Endpoint {
            url,
            model: "lengths".into(),
            version: 3,
            dimension: 3,
            timeout,
        }
    }

    #[tokio::test]
    async fn both_forms_give_unit_vectors_in_the_order_of_the_texts() {
        for path in ["/v1/embeddings", "/embed"] {
            let remote = remote(path).await;
            let texts: Vec<String> = (0..BATCH_TEXTS * 2 + 5).map(|length| "x".repeat(length)).collect();
            let vectors = remote.embed(texts.clone()).await.unwrap();
            assert_eq!(vectors.len(), texts.len());
            for (length, vector) in vectors.iter().enumerate() {
                assert!(
                    (vector[0] / vector[1] - length as f32).abs() < 1e-3,
                    "{path}: {vector:?} for {length}"
                );
                assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
            }
            assert!(remote.embed(Vec::new()).await.unwrap().is_empty());
            assert_eq!(
                (remote.name(), remote.version(), remote.dimension()),
                ("remote/lengths", 3, 3)
            );
        }
    }

    #[track_caller]
    fn assert_says(error: &EmbedError, unavailable: bool, words: &str) {
        assert_eq!(matches!(error, EmbedError::Unavailable(_)), unavailable, "{error}");
        assert!(error.to_string().contains(words), "{error} does not say {words:?}");
    }

    #[tokio::test]
    async fn a_bad_answer_is_refused_and_says_why() {
        for (path, unavailable, words) in [
            ("/few/embed", false, "1 vectors for 2 texts"),
            ("/flat/embed", false, "dimension 1, expected 3"),
            ("/zero/embed", false, "length 0"),
            ("/huge/embed", true, "at most"),
            ("/twice/embeddings", false, "indices"),
            ("/wrong/embed", false, "no such model"),
            ("/missing/embed", false, "404"),
            ("/down/embed", true, "loading"),
            ("/never/embed", true, "no answer in 50ms"),
        ] {
            let texts = vec!["a".to_owned(), "b".to_owned()];
            assert_says(&remote(path).await.embed(texts).await.unwrap_err(), unavailable, words);
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_unavailable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/embed", listener.local_addr().unwrap());
        drop(listener);
        let remote = Remote::new(endpoint(url)).unwrap();
        assert_says(&remote.embed(vec!["a".into()]).await.unwrap_err(), true, "127.0.0.1");
    }

    #[test]
    fn an_endpoint_that_cannot_be_spoken_to_is_refused_at_once() {
        for (url, words) in [
            ("https://host/v1/embeddings", "TLS proxy"),
            ("host:80/embed", "not a URL"),
            ("//host/embed", "http://"),
            ("ftp://host/embed", "http://"),
            ("http://host/v1/complete", "/embeddings"),
            ("http://a b/embed", "not a URL"),
        ] {
            let error = Remote::new(endpoint(url.into())).err().expect(url);
            assert!(error.to_string().contains(words), "{error} does not say {words:?}");
        }
    }
}
