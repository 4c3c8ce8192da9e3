//! The calls that a coordinator makes on shards, so that `call` can treat them all alike.

use granum_proto::internal::shard_client::ShardClient;
use granum_proto::internal::{
    AlterSchemaRequest, ShardCall, ShardCountRequest, ShardCountResponse, ShardDeleteByFilterRequest, ShardDocuments,
    ShardFacetRequest, ShardFacetResponse, ShardGetRequest, ShardScrollRequest, ShardSearchRequest,
    ShardSearchResponse, ShardWriteRequest, ShardWriteResponse,
};
use tonic::transport::Channel;
use tonic::{Response, Status};

/// A call on a shard.
pub(crate) trait ShardRpc: Clone + Send + 'static {
    /// What answers it.
    type Reply: Send + 'static;
    /// Its name, for metrics.
    const METHOD: &'static str;
    /// Sets its head.
    fn head(&mut self, call: ShardCall);
    /// Sends it.
    fn send(self, client: ShardClient<Channel>) -> impl Future<Output = Result<Response<Self::Reply>, Status>> + Send;
}

macro_rules! shard_rpc {
    ($($request:ty => $method:ident -> $reply:ty;)*) => {
        $(impl ShardRpc for $request {
            type Reply = $reply;
            const METHOD: &'static str = stringify!($method);

            fn head(&mut self, call: ShardCall) {
                self.call = Some(call);
            }

            async fn send(self, mut client: ShardClient<Channel>) -> Result<Response<$reply>, Status> {
                client.$method(self).await
            }
        })*
    };
}

shard_rpc! {
    ShardSearchRequest => search -> ShardSearchResponse;
    ShardGetRequest => get -> ShardDocuments;
    ShardScrollRequest => scroll -> ShardDocuments;
    ShardCountRequest => count -> ShardCountResponse;
    ShardFacetRequest => facet -> ShardFacetResponse;
    ShardWriteRequest => write -> ShardWriteResponse;
    ShardDeleteByFilterRequest => delete_by_filter -> ShardWriteResponse;
    AlterSchemaRequest => alter_schema -> ShardWriteResponse;
}
