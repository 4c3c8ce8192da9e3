//! What can be asked of a cluster: the one object behind gRPC and HTTP. The messages of `granum.v1` are its language,
//! and JSON is a spelling of them. Every method counts, times and admits its request, then makes one call.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use granum_proto::status::Failure;
use granum_proto::v1;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, class};
use crate::{Config, StartError};

/// A coordinator. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: Metrics,
    requests_max: usize,
    admission: Semaphore,
    draining: AtomicBool,
}

impl Coordinator {
    /// Opens the embedder and begins to follow the map; the tasks end when `stop` says so.
    pub(crate) fn open(
        config: &Config,
        _stop: CancellationToken,
    ) -> Result<(Coordinator, Vec<JoinHandle<()>>), StartError> {
        let inner = Inner {
            metrics: Metrics::new(),
            requests_max: config.requests_max,
            admission: Semaphore::new(config.requests_max),
            draining: AtomicBool::new(false),
        };
        Ok((Coordinator { inner: Arc::new(inner) }, Vec::new()))
    }

    /// Whether requests can be served: the map is known and the coordinator is not stopping. `Err` says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.inner.draining.load(Ordering::Relaxed) {
            return Err("stopping".into());
        }
        Err("no node has told the cluster's map yet".into())
    }

    /// From now on it says that it isn't ready.
    pub(crate) fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn metrics_text(&self) -> Vec<u8> {
        self.inner.metrics.text()
    }

    /// Admits, times and counts one request.
    async fn serve<T>(
        &self,
        method: &'static str,
        collection: &str,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let metrics = &self.inner.metrics;
        let answered = match self.inner.admission.try_acquire() {
            Err(_) => {
                let most = self.inner.requests_max;
                Err(Failure::Busy(format!(
                    "{most} requests are being served, at most {most} (requests_max)"
                )))
            }
            Ok(_permit) => {
                metrics.in_flight.inc();
                let answered = answer.await;
                metrics.in_flight.dec();
                answered
            }
        };
        let outcome = answered.as_ref().err().map_or("ok", class);
        metrics.answered(method, collection, outcome, started.elapsed());
        answered
    }
}

macro_rules! answers {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $response:ident;)*) => {
        impl Coordinator {
            $($(#[$doc])*
            pub async fn $method(&self, _request: v1::$request) -> Result<v1::$response, Failure> {
                let unknown = Failure::Unavailable("no node has told the cluster's map yet".into());
                self.serve(stringify!($method), "", async { Err(unknown) }).await
            })*
        }
    };
}

answers! {
    /// The k best documents.
    query(QueryRequest) -> QueryResponse;
    /// Several queries of one collection, answered in the order asked.
    query_batch(QueryBatchRequest) -> QueryBatchResponse;
    /// Documents by id, in the order asked; those that don't exist are left out.
    get(GetRequest) -> GetResponse;
    /// Documents in the order of their ids, page by page.
    scroll(ScrollRequest) -> ScrollResponse;
    /// How many documents a filter lets through.
    count(CountRequest) -> CountResponse;
    /// Writes documents; an outcome for each.
    upsert(UpsertRequest) -> WriteResponse;
    /// Deletes documents by id, or all that a filter lets through.
    delete(DeleteRequest) -> WriteResponse;
    /// Creates a collection and answers when every shard of it has a leader.
    create_collection(CreateCollectionRequest) -> CollectionInfo;
    /// Adds or drops named vectors, changes the default read level.
    alter_collection(AlterCollectionRequest) -> CollectionInfo;
    /// Deletes a collection and all it holds.
    delete_collection(DeleteCollectionRequest) -> DeleteCollectionResponse;
    /// One collection as it stands.
    get_collection(GetCollectionRequest) -> CollectionInfo;
    /// All collections.
    list_collections(ListCollectionsRequest) -> ListCollectionsResponse;
    /// Nodes, collections, shards, leaders, lag.
    cluster_status(ClusterStatusRequest) -> ClusterStatusResponse;
}
