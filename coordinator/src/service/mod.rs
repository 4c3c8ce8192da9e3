//! gRPC: decode, one call, encode. What a request means is decided in [`Coordinator`].

use granum_proto::limits::{MESSAGE_IN_BYTES_MAX, MESSAGE_OUT_BYTES_MAX};
use granum_proto::v1::{self, admin_server, search_server, write_server};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::Coordinator;

/// Search, Write and Admin of one coordinator.
pub(crate) fn routes(coordinator: Coordinator) -> Routes {
    let search = search_server::SearchServer::new(coordinator.clone());
    let write = write_server::WriteServer::new(coordinator.clone());
    let admin = admin_server::AdminServer::new(coordinator);
    let mut routes = Routes::builder();
    routes
        .add_service(bounded!(search))
        .add_service(bounded!(write))
        .add_service(bounded!(admin));
    routes.routes()
}

/// Sets the limits of messages; the generated servers share no trait for it.
macro_rules! bounded {
    ($server:expr) => {
        $server
            .max_decoding_message_size(MESSAGE_IN_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_OUT_BYTES_MAX)
    };
}
use bounded;

/// One gRPC method for each of the coordinator's.
macro_rules! serve {
    ($service:path { $($method:ident($request:ident) -> $response:ident;)* }) => {
        #[tonic::async_trait]
        impl $service for Coordinator {
            $(async fn $method(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                let answer = Coordinator::$method(self, request.into_inner()).await;
                answer.map(Response::new).map_err(Status::from)
            })*
        }
    };
}

serve!(search_server::Search {
    query(QueryRequest) -> QueryResponse;
    query_batch(QueryBatchRequest) -> QueryBatchResponse;
    get(GetRequest) -> GetResponse;
    scroll(ScrollRequest) -> ScrollResponse;
    count(CountRequest) -> CountResponse;
    facet(FacetRequest) -> FacetResponse;
});

serve!(write_server::Write {
    upsert(UpsertRequest) -> WriteResponse;
    delete(DeleteRequest) -> WriteResponse;
});

serve!(admin_server::Admin {
    create_collection(CreateCollectionRequest) -> CollectionInfo;
    alter_collection(AlterCollectionRequest) -> CollectionInfo;
    delete_collection(DeleteCollectionRequest) -> DeleteCollectionResponse;
    get_collection(GetCollectionRequest) -> CollectionInfo;
    list_collections(ListCollectionsRequest) -> ListCollectionsResponse;
    cluster_status(ClusterStatusRequest) -> ClusterStatusResponse;
    remove_node(RemoveNodeRequest) -> RemoveNodeResponse;
});
