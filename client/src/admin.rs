//! Collections and the state of the cluster. Replies are handed on as the cluster's own messages.

use granum_model::{PayloadField, PayloadKind};
use granum_proto::v1::admin_client::AdminClient;
use granum_proto::{convert, limits, v1};
use tonic::transport::Channel;

use crate::call::{Effect, new_request_id};
use crate::client::Client;
use crate::error::AdminError;
use crate::read_level::ReadLevel;

/// A vector field to be: name, shape, distance, and what turns text into it.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorField(v1::VectorField);

impl VectorField {
    /// Dense vectors of `dimension` components (1..=8192), compared by cosine unless told otherwise. "" is the unnamed one.
    pub fn dense(name: impl Into<String>, dimension: u32) -> Self {
        VectorField::new(name, v1::VectorKind::Dense, dimension)
    }

    /// Sparse vectors, compared by dot product.
    pub fn sparse(name: impl Into<String>) -> Self {
        VectorField::new(name, v1::VectorKind::Sparse, 0)
    }

    /// Several rows of `dimension` components a document, compared by MaxSim.
    pub fn multi(name: impl Into<String>, dimension: u32) -> Self {
        VectorField::new(name, v1::VectorKind::Multi, dimension)
    }

    fn new(name: impl Into<String>, kind: v1::VectorKind, dimension: u32) -> Self {
        VectorField(v1::VectorField {
            name: name.into(),
            kind: kind.into(),
            dimension,
            ..Default::default()
        })
    }

    /// How two of them are compared.
    pub fn distance(mut self, distance: v1::Distance) -> Self {
        self.0.distance = distance.into();
        self
    }

    /// How components are kept on disk; f16 unless set.
    pub fn fine(mut self, fine: v1::Fine) -> Self {
        self.0.fine = fine.into();
        self
    }

    /// What turns text into this vector: `builtin` is all-MiniLM-L6-v2, 384 components.
    pub fn embedder(mut self, name: impl Into<String>) -> Self {
        self.0.embedder = name.into();
        self
    }
}

/// A collection to be; [`send`](CreateCollection::send) makes it.
#[derive(Clone, Debug)]
pub struct CreateCollection {
    client: Client,
    request: v1::CreateCollectionRequest,
}

impl CreateCollection {
    /// Adds a vector field.
    pub fn vector(mut self, field: VectorField) -> Self {
        self.request.schema.get_or_insert_default().vectors.push(field.0);
        self
    }

    /// Adds an index over a field of the payload, named by its path: filters on it are fast, and answer the same.
    pub fn index(mut self, key: impl Into<String>, kind: PayloadKind) -> Self {
        let field = payload_field(key.into(), kind);
        self.request.schema.get_or_insert_default().payload.push(field);
        self
    }

    /// Into how many shards it is cut, 1..=256; the cluster's default unless set.
    pub fn shards(mut self, shards: u32) -> Self {
        self.request.shards = shards;
        self
    }

    /// On how many nodes each shard lives, 1..=7; as many as there are, up to 3, unless set.
    pub fn replication_factor(mut self, replicas: u32) -> Self {
        self.request.replication_factor = replicas;
        self
    }

    /// An equal collection that stands already is as good.
    pub fn if_not_exists(mut self) -> Self {
        self.request.if_not_exists = true;
        self
    }

    /// Makes it. Answered once its shards take writes.
    pub async fn send(self) -> Result<v1::CollectionInfo, AdminError> {
        let request = self.request;
        let message = |info| v1::CreateCollectionRequest {
            info: Some(info),
            ..request.clone()
        };
        let send = |channel, request| async move { admin(channel).create_collection(request).await };
        Ok(self.client.call(Effect::Write, new_request_id(), message, send).await?)
    }
}

impl Client {
    /// A new collection: 1..=255 letters, digits, `_`, `-`, `.`.
    pub fn create_collection(&self, name: impl Into<String>) -> CreateCollection {
        let request = v1::CreateCollectionRequest {
            name: name.into(),
            ..Default::default()
        };
        CreateCollection {
            client: self.clone(),
            request,
        }
    }

    /// Adds and drops vector fields, and sets the read level of questions that name none. The name of a field that was dropped
    /// is not given again in its collection.
    pub async fn alter_collection(
        &self,
        name: impl Into<String>,
        add: Vec<VectorField>,
        drop: Vec<String>,
        default_read: Option<ReadLevel>,
    ) -> Result<v1::CollectionInfo, AdminError> {
        self.alter(v1::AlterCollectionRequest {
            name: name.into(),
            add_vectors: add.into_iter().map(|field| field.0).collect(),
            drop_vectors: drop,
            default_read: default_read.map(Into::into),
            ..Default::default()
        })
        .await
    }

    /// Adds an index over a field of the payload, or replaces the one it has. Answered once every shard has taken it; it is
    /// built behind that, and filters are right meanwhile.
    pub async fn add_index(
        &self,
        collection: impl Into<String>,
        key: impl Into<String>,
        kind: PayloadKind,
    ) -> Result<v1::CollectionInfo, AdminError> {
        self.alter(v1::AlterCollectionRequest {
            name: collection.into(),
            add_payload: vec![payload_field(key.into(), kind)],
            ..Default::default()
        })
        .await
    }

    /// Drops the index over a field of the payload, if it has one.
    pub async fn drop_index(
        &self,
        collection: impl Into<String>,
        key: impl Into<String>,
    ) -> Result<v1::CollectionInfo, AdminError> {
        self.alter(v1::AlterCollectionRequest {
            name: collection.into(),
            drop_payload: vec![key.into()],
            ..Default::default()
        })
        .await
    }

    async fn alter(&self, request: v1::AlterCollectionRequest) -> Result<v1::CollectionInfo, AdminError> {
        let message = |info| v1::AlterCollectionRequest {
            info: Some(info),
            ..request.clone()
        };
        let send = |channel, request| async move { admin(channel).alter_collection(request).await };
        Ok(self.call(Effect::Write, new_request_id(), message, send).await?)
    }

    /// Deletes a collection with all that is in it. Whether there was one.
    pub async fn delete_collection(&self, name: impl Into<String>) -> Result<bool, AdminError> {
        let name = name.into();
        let message = |info| v1::DeleteCollectionRequest {
            info: Some(info),
            name: name.clone(),
        };
        let send = |channel, request| async move { admin(channel).delete_collection(request).await };
        let reply = self.call(Effect::Write, new_request_id(), message, send).await?;
        Ok(reply.existed)
    }

    /// Schema, shards, replicas and number of documents of a collection.
    pub async fn collection(&self, name: impl Into<String>) -> Result<v1::CollectionInfo, AdminError> {
        let name = name.into();
        let message = |_| v1::GetCollectionRequest { name: name.clone() };
        let send = |channel, request| async move { admin(channel).get_collection(request).await };
        Ok(self.call(Effect::Read, new_request_id(), message, send).await?)
    }

    /// All collections.
    pub async fn collections(&self) -> Result<Vec<v1::CollectionInfo>, AdminError> {
        let message = |_| v1::ListCollectionsRequest {};
        let send = |channel, request| async move { admin(channel).list_collections(request).await };
        let reply = self.call(Effect::Read, new_request_id(), message, send).await?;
        Ok(reply.collections)
    }

    /// Gives a dead node up for good: its replicas are made anew on other nodes. How many will be.
    pub async fn remove_node(&self, node: u64) -> Result<u64, AdminError> {
        let message = |info| v1::RemoveNodeRequest { info: Some(info), node };
        let send = |channel, request| async move { admin(channel).remove_node(request).await };
        let reply = self.call(Effect::Write, new_request_id(), message, send).await?;
        Ok(reply.replicas)
    }

    /// Nodes and collections, as far as the coordinator that answers knows them.
    pub async fn status(&self) -> Result<v1::ClusterStatusResponse, AdminError> {
        let message = |_| v1::ClusterStatusRequest {};
        let send = |channel, request| async move { admin(channel).cluster_status(request).await };
        Ok(self.call(Effect::Read, new_request_id(), message, send).await?)
    }
}

fn payload_field(key: String, kind: PayloadKind) -> v1::PayloadField {
    convert::schema::write_payload_field(&PayloadField { key, kind })
}

fn admin(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(limits::MESSAGE_OUT_BYTES_MAX)
}
