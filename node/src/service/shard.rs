//! The data port's calls about shards: decode, one call, encode; each counted and timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use granum_proto::internal::shard_server::Shard;
use granum_proto::internal::{self, ShardCall};
use granum_proto::status::Failure;
use tonic::{Request, Response, Status};

use super::{Context, admin, facet, search, write};
use crate::holdings::Holdings;
use crate::metrics::Metrics;

/// The shards of a node as coordinators call them.
#[derive(Clone)]
pub struct ShardService {
    context: Arc<Context>,
    holdings: Arc<Holdings>,
    metrics: Arc<Metrics>,
    draining: Arc<AtomicBool>,
}

impl ShardService {
    /// Serves what `holdings` has.
    pub fn new(
        context: Arc<Context>,
        holdings: Arc<Holdings>,
        metrics: Arc<Metrics>,
        draining: Arc<AtomicBool>,
    ) -> ShardService {
        ShardService {
            context,
            holdings,
            metrics,
            draining,
        }
    }

    /// The name under which a call's collection is counted.
    fn collection(&self, call: Option<&ShardCall>) -> String {
        let replica = call.and_then(|call| self.context.replicas.find(call.shard));
        replica.map_or_else(String::new, |replica| replica.birth.collection_name.clone())
    }

    async fn counted<T>(
        &self,
        method: &'static str,
        call: Option<ShardCall>,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Response<T>, Status> {
        let timer = self.metrics.start(method, self.collection(call.as_ref()));
        let answered = work.await;
        if let (Err(Failure::Fault(_)), Some(call)) = (&answered, &call)
            && let Some(replica) = self.context.replicas.find(call.shard)
        {
            replica.is_suspect.store(true, Ordering::Release);
        }
        timer.finish(answered.as_ref().err());
        Ok(Response::new(answered?))
    }
}

#[tonic::async_trait]
impl Shard for ShardService {
    async fn search(
        &self,
        request: Request<internal::ShardSearchRequest>,
    ) -> Result<Response<internal::ShardSearchResponse>, Status> {
        let request = request.into_inner();
        self.counted("search", request.call.clone(), search::search(&self.context, request))
            .await
    }

    async fn get(
        &self,
        request: Request<internal::ShardGetRequest>,
    ) -> Result<Response<internal::ShardDocuments>, Status> {
        let request = request.into_inner();
        self.counted("get", request.call.clone(), search::get(&self.context, request))
            .await
    }

    async fn scroll(
        &self,
        request: Request<internal::ShardScrollRequest>,
    ) -> Result<Response<internal::ShardDocuments>, Status> {
        let request = request.into_inner();
        self.counted("scroll", request.call.clone(), search::scroll(&self.context, request))
            .await
    }

    async fn count(
        &self,
        request: Request<internal::ShardCountRequest>,
    ) -> Result<Response<internal::ShardCountResponse>, Status> {
        let request = request.into_inner();
        self.counted("count", request.call.clone(), search::count(&self.context, request))
            .await
    }

    async fn facet(
        &self,
        request: Request<internal::ShardFacetRequest>,
    ) -> Result<Response<internal::ShardFacetResponse>, Status> {
        let request = request.into_inner();
        self.counted("facet", request.call.clone(), facet::facet(&self.context, request))
            .await
    }

    async fn write(
        &self,
        request: Request<internal::ShardWriteRequest>,
    ) -> Result<Response<internal::ShardWriteResponse>, Status> {
        let request = request.into_inner();
        self.counted("write", request.call.clone(), write::write(&self.context, request))
            .await
    }

    async fn delete_by_filter(
        &self,
        request: Request<internal::ShardDeleteByFilterRequest>,
    ) -> Result<Response<internal::ShardWriteResponse>, Status> {
        let request = request.into_inner();
        self.counted(
            "delete_by_filter",
            request.call.clone(),
            write::delete_by_filter(&self.context, request),
        )
        .await
    }

    async fn alter_schema(
        &self,
        request: Request<internal::AlterSchemaRequest>,
    ) -> Result<Response<internal::ShardWriteResponse>, Status> {
        let request = request.into_inner();
        self.counted(
            "alter_schema",
            request.call.clone(),
            write::alter_schema(&self.context, request),
        )
        .await
    }

    async fn ensure_replica(
        &self,
        request: Request<internal::EnsureReplicaRequest>,
    ) -> Result<Response<internal::EnsureReplicaResponse>, Status> {
        let work = async {
            let created = admin::ensure_replica(&self.holdings, request.into_inner()).await?;
            Ok(internal::EnsureReplicaResponse {
                created,
                node: self.context.node,
            })
        };
        self.counted("ensure_replica", None, work).await
    }

    async fn initialize_shard(
        &self,
        request: Request<internal::InitializeShardRequest>,
    ) -> Result<Response<internal::InitializeShardResponse>, Status> {
        let work = async {
            let initialized = admin::initialize_shard(&self.holdings, request.into_inner()).await?;
            Ok(internal::InitializeShardResponse { initialized })
        };
        self.counted("initialize_shard", None, work).await
    }

    async fn drop_replica(
        &self,
        request: Request<internal::DropReplicaRequest>,
    ) -> Result<Response<internal::DropReplicaResponse>, Status> {
        let work = async {
            let existed = admin::drop_replica(&self.holdings, &request.into_inner()).await?;
            Ok(internal::DropReplicaResponse { existed })
        };
        self.counted("drop_replica", None, work).await
    }

    async fn transfer_leader(
        &self,
        request: Request<internal::TransferLeaderRequest>,
    ) -> Result<Response<internal::TransferLeaderResponse>, Status> {
        let work = async {
            admin::transfer_leader(&self.holdings, &request.into_inner()).await?;
            Ok(internal::TransferLeaderResponse {})
        };
        self.counted("transfer_leader", None, work).await
    }

    async fn replace_member(
        &self,
        request: Request<internal::ReplaceMemberRequest>,
    ) -> Result<Response<internal::ReplaceMemberResponse>, Status> {
        let work = async {
            admin::replace_member(&self.holdings, &request.into_inner()).await?;
            Ok(internal::ReplaceMemberResponse {})
        };
        self.counted("replace_member", None, work).await
    }

    async fn report(&self, _: Request<internal::ReportRequest>) -> Result<Response<internal::NodeReport>, Status> {
        let (holdings, draining) = (self.holdings.clone(), self.draining.load(Ordering::Acquire));
        let work = async {
            let reported = tokio::task::spawn_blocking(move || admin::report(&holdings, draining)).await;
            reported.map_err(|_| Failure::Unavailable("the node stops".into()))
        };
        self.counted("report", None, work).await
    }
}
