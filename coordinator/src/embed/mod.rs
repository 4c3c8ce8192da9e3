//! How does text become a vector?
//!
//! An [`Embedder`] turns texts into unit vectors: the built-in one runs all-MiniLM-L6-v2 on this machine's processors
//! and needs neither files nor network; the remote one asks an HTTP endpoint. Read in this order:
//!
//! 1. `builtin`: the model's files, compiled into the binary, and what embeds a batch with them.
//! 2. `tokens`: text to token ids, long texts through a bounded window.
//! 3. `model`: the network; `weights` reads its file, `kernels` is what it does between matrix products.
//! 4. `workers`: the bounded queue in front, and threads that nothing else in the process waits for.
//! 5. `remote`: the same from an endpoint of OpenAI's form or that of Text Embeddings Inference.
//!
//! Left out: which collection uses which embedder (the schema says it), and training of any kind.

mod builtin;
mod kernels;
mod model;
mod remote;
mod tokens;
mod weights;
mod workers;

use std::sync::Arc;

use remote::Remote;
use workers::Workers;

pub use remote::Endpoint;
pub use workers::{MAX_TEXTS_PER_CALL, MAX_WAITING_BYTES, MAX_WAITING_TEXTS};

/// Turns texts into unit vectors. Cheap to clone: clones share the model, its threads and its queue.
#[derive(Clone)]
pub struct Embedder {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Builtin(Arc<Workers>),
    Remote(Arc<Remote>),
}

/// Why texts were not embedded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbedError {
    /// Too much is waiting already. Nothing was done; the same call may succeed later.
    #[error("the embedder is busy: {waiting} texts wait (at most {MAX_WAITING_TEXTS}, {MAX_WAITING_BYTES} bytes)")]
    Busy {
        /// Texts waiting.
        waiting: usize,
    },
    /// One call brought more than a call may. Split it.
    #[error("{texts} texts in one call, the embedder takes at most {MAX_TEXTS_PER_CALL}")]
    TooManyTexts {
        /// Texts in the call.
        texts: usize,
    },
    /// A model file can't be used.
    #[error("embedding model: {0}")]
    Model(String),
    /// The description of a remote embedder can't be used.
    #[error("embedding endpoint: {0}")]
    Endpoint(String),
    /// A remote embedder does not answer, or asks to come back later. The same call may succeed then.
    #[error("embedding endpoint unavailable: {0}")]
    Unavailable(String),
    /// A fault of the embedder, not of the texts. The same call would fail again.
    #[error("embedding failed: {0}")]
    Failed(String),
}

impl Embedder {
    /// The built-in model on `threads` threads of its own (at least one). Takes a tenth of a second and 60 MB.
    pub fn builtin(threads: usize) -> Result<Self, EmbedError> {
        let model = builtin::Builtin::open()?;
        let workers = Workers::start(threads, move |texts: &[&str]| model.embed(texts))?;
        Ok(Self {
            source: Source::Builtin(Arc::new(workers)),
        })
    }

    /// Another program's model. It is not asked until texts come, so this succeeds while it is down.
    pub fn remote(endpoint: Endpoint) -> Result<Self, EmbedError> {
        Ok(Self {
            source: Source::Remote(Arc::new(Remote::new(endpoint)?)),
        })
    }

    /// What a schema calls this embedder: `builtin/all-MiniLM-L6-v2`, `remote/MODEL`.
    pub fn name(&self) -> &str {
        match &self.source {
            Source::Builtin(_) => builtin::NAME,
            Source::Remote(remote) => remote.name(),
        }
    }

    /// Vectors of different versions of one embedder must not be compared.
    pub fn version(&self) -> u32 {
        match &self.source {
            Source::Builtin(_) => builtin::VERSION,
            Source::Remote(remote) => remote.version(),
        }
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        match &self.source {
            Source::Builtin(_) => builtin::DIMENSION,
            Source::Remote(remote) => remote.dimension(),
        }
    }

    /// One unit vector of [`Embedder::dimension`] values for each of `texts`, in their order. Any text has a vector;
    /// of a long one the first tokens count (the built-in model reads 256). Calls of a few texts overtake large ones.
    /// Dropping the future withdraws what has not begun.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        match &self.source {
            Source::Builtin(workers) => workers.embed(texts).await,
            Source::Remote(remote) => remote.embed(texts).await,
        }
    }
}
