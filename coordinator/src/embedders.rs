//! Which embedders there are, by the names that schemas use, and texts through them within a deadline.

use granum_model::VectorField;
use granum_proto::limits::Invalid;
use granum_proto::status::Failure;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::embed::{EmbedError, Embedder, MAX_TEXTS_PER_CALL};

/// The short name of the built-in embedder.
const BUILTIN: &str = "builtin";

/// Embedders by name.
pub(crate) struct Embedders {
    builtin: Embedder,
}

impl Embedders {
    /// The built-in one on `threads` threads; 0: half of the processors.
    pub fn open(threads: usize) -> Result<Embedders, EmbedError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { processors.div_ceil(2) } else { threads };
        let builtin = Embedder::builtin(threads)?;
        Ok(Embedders { builtin })
    }

    /// The embedder that a schema means by `name`; its own name, version and dimension are what the schema will hold.
    pub fn resolve(&self, name: &str) -> Result<&Embedder, Invalid> {
        if name == BUILTIN || name == self.builtin.name() {
            return Ok(&self.builtin);
        }
        let problem = format!("{name:?} is not known; there is {:?}", self.builtin.name());
        Err(Invalid::new("embedder", problem))
    }

    /// A vector for each text, by the embedder of `field`.
    pub async fn embed(
        &self,
        field: &VectorField,
        texts: Vec<String>,
        deadline: Instant,
    ) -> Result<Vec<Vec<f32>>, Failure> {
        let embedder = self.of(field)?;
        let mut vectors = Vec::with_capacity(texts.len());
        for texts in texts.chunks(MAX_TEXTS_PER_CALL) {
            vectors.extend(embed_patiently(embedder, texts, deadline).await?);
        }
        Ok(vectors)
    }

    /// The embedder of a field, in the version that the field's vectors come from.
    fn of(&self, field: &VectorField) -> Result<&Embedder, Failure> {
        let Some(wanted) = &field.embedder else {
            let problem = format!("is text, and vector {:?} has no embedder", field.name);
            return Err(Invalid::new("vector", problem).into());
        };
        let embedder = self.resolve(&wanted.name)?;
        if embedder.version() != wanted.version {
            return Err(Failure::Precondition(format!(
                "vector {:?} holds vectors of {} version {}, this coordinator has version {}",
                field.name,
                wanted.name,
                wanted.version,
                embedder.version()
            )));
        }
        Ok(embedder)
    }
}

/// Waits where the embedder's queue is full, as long as the deadline allows.
async fn embed_patiently(embedder: &Embedder, texts: &[String], deadline: Instant) -> Result<Vec<Vec<f32>>, Failure> {
    let mut backoff = Backoff::new();
    loop {
        let refused = match timeout_at(deadline, embedder.embed(texts.to_vec())).await {
            Ok(Ok(vectors)) => return Ok(vectors),
            Ok(Err(error @ EmbedError::Busy { .. })) => error,
            Ok(Err(error)) => return Err(Failure::Fault(error.to_string())),
            Err(_) => {
                return Err(Failure::Busy(format!(
                    "{} texts were not embedded in time",
                    texts.len()
                )));
            }
        };
        let until = Instant::now() + backoff.next_pause();
        if until >= deadline {
            return Err(Failure::Busy(refused.to_string()));
        }
        tokio::time::sleep_until(until).await;
    }
}
