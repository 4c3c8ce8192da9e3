//! What can be asked of a cluster: the one object behind gRPC and HTTP. The messages of `granum.v1` are its language,
//! and JSON is a spelling of them. Every method counts, times and admits its request, then makes one call.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use granum_proto::status::Failure;
use granum_proto::v1;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::control::Control;
use crate::embedders::Embedders;
use crate::map::store::Store;
use crate::metrics::{Metrics, class};
use crate::pool::Pool;
use crate::route::call::Caller;
use crate::{Config, StartError, admin, query, write};

/// A coordinator. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    context: Context,
    control: Arc<Control>,
    requests_max: usize,
    admission: Semaphore,
    draining: AtomicBool,
}

impl Coordinator {
    /// Opens the embedder and begins to follow the map and to run the control loop; these tasks end when `stop` says so.
    pub(crate) fn open(
        config: &Config,
        stop: CancellationToken,
    ) -> Result<(Coordinator, Vec<JoinHandle<()>>), StartError> {
        let embedders =
            Embedders::open(config.embed_threads).map_err(|error| StartError::Embedder(error.to_string()))?;
        let metrics = Arc::new(Metrics::new());
        let pool = Arc::new(Pool::default());
        let store = Arc::new(Store::new(pool.clone(), config.nodes.clone()));
        let attempt_timeout = Duration::from_millis(config.attempt_timeout_ms);
        let caller = Arc::new(Caller::new(store.clone(), pool, metrics.clone(), attempt_timeout));
        let interval = Duration::from_millis(config.control_interval_ms);
        let control = Arc::new(Control::new(caller.clone(), metrics.clone(), interval));
        let tasks = vec![
            tokio::spawn(store.clone().follow(stop.clone())),
            tokio::spawn(control.clone().run(stop)),
        ];
        let inner = Inner {
            context: Context {
                store,
                caller,
                embedders,
                metrics,
                default_timeout: Duration::from_millis(config.default_timeout_ms),
                default_shards: config.default_shards,
            },
            control,
            requests_max: config.requests_max,
            admission: Semaphore::new(config.requests_max),
            draining: AtomicBool::new(false),
        };
        Ok((Coordinator { inner: Arc::new(inner) }, tasks))
    }

    /// Whether requests can be served: the map is known and the coordinator is not stopping. `Err` says why not.
    pub fn ready(&self) -> Result<(), String> {
        if self.inner.draining.load(Ordering::Relaxed) {
            return Err("stopping".into());
        }
        self.inner
            .context
            .store
            .map()
            .map(drop)
            .map_err(|failure| failure.to_string())
    }

    /// From now on it says that it isn't ready.
    pub(crate) fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn metrics_text(&self) -> Vec<u8> {
        self.inner.context.metrics.text()
    }

    /// Admits, times and counts one request.
    async fn serve<T>(
        &self,
        method: &'static str,
        collection: &str,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let metrics = &self.inner.context.metrics;
        let label = self.label(collection);
        let answered = match self.inner.admission.try_acquire() {
            Err(_) => {
                let most = self.inner.requests_max;
                Err(Failure::Busy(format!(
                    "{most} requests are being served, at most {most} (requests_max)"
                )))
            }
            Ok(_permit) => {
                let _counted = metrics.serving();
                answer.await
            }
        };
        let outcome = answered.as_ref().err().map_or("ok", class);
        metrics.answered(method, &label, outcome, begun.elapsed());
        answered
    }

    /// The collection as a label: what does not exist has none, so that nobody can make labels up.
    fn label(&self, collection: &str) -> String {
        let map = self.inner.context.store.map();
        let known = map.is_ok_and(|map| map.named(collection).is_some());
        if known { collection.to_owned() } else { String::new() }
    }
}

/// Methods that ask and write documents: name of the collection, then the call.
macro_rules! documents {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $response:ident = $($call:ident)::+;)*) => {
        impl Coordinator {
            $($(#[$doc])*
            pub async fn $method(&self, request: v1::$request) -> Result<v1::$response, Failure> {
                let collection = request.collection.clone();
                self.serve(stringify!($method), &collection, $($call)::+(&self.inner.context, request)).await
            })*
        }
    };
}

documents! {
    /// The k best documents.
    query(QueryRequest) -> QueryResponse = query::search::query;
    /// Documents by id, in the order asked; those that don't exist are left out.
    get(GetRequest) -> GetResponse = query::read::get;
    /// Documents in the order of their ids, page by page.
    scroll(ScrollRequest) -> ScrollResponse = query::read::scroll;
    /// How many documents a filter lets through.
    count(CountRequest) -> CountResponse = query::read::count;
    /// The values of a field that most documents have.
    facet(FacetRequest) -> FacetResponse = query::facet::facet;
    /// Writes documents; an outcome for each.
    upsert(UpsertRequest) -> WriteResponse = write::upsert;
    /// Deletes documents by id, or all that a filter lets through.
    delete(DeleteRequest) -> WriteResponse = write::delete;
}

/// Methods that change and describe collections.
macro_rules! collections {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $response:ident = $($call:ident)::+;)*) => {
        impl Coordinator {
            $($(#[$doc])*
            pub async fn $method(&self, request: v1::$request) -> Result<v1::$response, Failure> {
                let (name, inner) = (request.name.clone(), &self.inner);
                self.serve(stringify!($method), &name, $($call)::+(&inner.context, &inner.control, request)).await
            })*
        }
    };
}

collections! {
    /// Creates a collection and answers when every shard of it has a leader.
    create_collection(CreateCollectionRequest) -> CollectionInfo = admin::create;
    /// Adds or drops named vectors, changes the default read level.
    alter_collection(AlterCollectionRequest) -> CollectionInfo = admin::alter;
    /// Deletes a collection and all it holds.
    delete_collection(DeleteCollectionRequest) -> DeleteCollectionResponse = admin::delete;
    /// One collection as it stands.
    get_collection(GetCollectionRequest) -> CollectionInfo = admin::get;
}

impl Coordinator {
    /// Several queries of one collection, answered in the order asked.
    pub async fn query_batch(&self, request: v1::QueryBatchRequest) -> Result<v1::QueryBatchResponse, Failure> {
        let collection = request
            .queries
            .first()
            .map(|query| query.collection.clone())
            .unwrap_or_default();
        let answer = query::search::query_batch(&self.inner.context, request);
        self.serve("query_batch", &collection, answer).await
    }

    /// How many documents of a collection have a value in each indexed field; what could not be counted is left out.
    pub async fn count_filled(&self, collection: &v1::CollectionInfo) -> Result<BTreeMap<String, u64>, Failure> {
        let answer = query::read::count_filled(&self.inner.context, collection);
        let answer = async { Ok(answer.await) };
        self.serve("count_filled", &collection.name, answer).await
    }

    /// All collections.
    pub async fn list_collections(
        &self,
        _request: v1::ListCollectionsRequest,
    ) -> Result<v1::ListCollectionsResponse, Failure> {
        let answer = admin::list(&self.inner.context, &self.inner.control);
        self.serve("list_collections", "", answer).await
    }

    /// Nodes, collections, shards, leaders, lag.
    pub async fn cluster_status(
        &self,
        _request: v1::ClusterStatusRequest,
    ) -> Result<v1::ClusterStatusResponse, Failure> {
        let answer = admin::status(&self.inner.context, &self.inner.control);
        self.serve("cluster_status", "", answer).await
    }

    /// Gives a dead node up for good.
    pub async fn remove_node(&self, request: v1::RemoveNodeRequest) -> Result<v1::RemoveNodeResponse, Failure> {
        let answer = admin::remove_node(&self.inner.context, &self.inner.control, request);
        self.serve("remove_node", "", answer).await
    }
}
