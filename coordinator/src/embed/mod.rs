//! How does text become a vector?
//!
//! An [`Embedder`] turns texts into unit vectors: the built-in one runs all-MiniLM-L6-v2 on this machine's processors
//! and needs neither files nor network; the remote one asks an HTTP endpoint. Read in this order:
//!
//! 1. `builtin`: the model's files, compiled into the binary, and what embeds a batch with them.
//! 2. `tokens`: text to token ids, long texts through a bounded window.
//! 3. `model`: the network; `weights` reads its file, `kernels` is what it does between matrix products.
//! 4. `workers`: the bounded queue in front, and threads that nothing else in the process waits for.
//!
//! Left out: which collection uses which embedder (the schema says it), and training of any kind.

mod builtin;
mod kernels;
mod model;
mod tokens;
mod weights;
mod workers;

use std::sync::Arc;

use workers::Workers;

pub use workers::{MAX_TEXTS_PER_CALL, MAX_WAITING_BYTES, MAX_WAITING_TEXTS};

/// Turns texts into unit vectors. Cheap to clone: clones share the model, its threads and its queue.
#[derive(Clone)]
pub struct Embedder {
    workers: Arc<Workers>,
}

/// Why texts were not embedded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbedError {
    /// Too much is waiting already. Nothing was done; the same call may succeed later.
    #[error(
        "the embedder is busy: {waiting} texts wait ({bytes} bytes), at most {MAX_WAITING_TEXTS} may ({MAX_WAITING_BYTES} bytes)"
    )]
    Busy {
        /// Texts waiting.
        waiting: usize,
        /// Their size.
        bytes: usize,
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
    /// A fault while embedding, of the program and not of the texts.
    #[error("embedding failed: {0}")]
    Failed(String),
}

impl Embedder {
    /// The built-in model on `threads` threads of its own (at least one). Takes a tenth of a second and 60 MB.
    pub fn builtin(threads: usize) -> Result<Self, EmbedError> {
        let model = builtin::Builtin::open()?;
        let workers = Workers::start(threads, move |texts: &[&str]| model.embed(texts))?;
        Ok(Self {
            workers: Arc::new(workers),
        })
    }

    /// What a schema calls this embedder: `builtin/all-MiniLM-L6-v2`.
    pub fn name(&self) -> &str {
        builtin::NAME
    }

    /// Vectors of different versions of one embedder must not be compared.
    pub fn version(&self) -> u32 {
        builtin::VERSION
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        builtin::DIMENSION
    }

    /// One unit vector of [`Embedder::dimension`] values for each of `texts`, in their order. Any text has a vector;
    /// of a long one the first 256 tokens count. Calls of a few texts overtake large ones. Dropping the future
    /// withdraws what has not begun.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.workers.embed(texts).await
    }
}
