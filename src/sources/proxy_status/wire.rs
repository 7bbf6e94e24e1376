//! The protobuf messages of xDS (`envoy/service/discovery/v3/discovery.proto`, `envoy/service/status/v3/csds.proto`), cut down to what
//! is sent and read.

use std::collections::HashMap;

use bytes::Bytes;

/// `envoy.service.discovery.v3.DiscoveryRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DiscoveryRequest {
    #[prost(message, optional, tag = "2")]
    pub(super) node: Option<Node>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
}

/// `envoy.config.core.v3.Node`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<Struct>,
}

/// `google.protobuf.Struct`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Struct {
    #[prost(map = "string, message", tag = "1")]
    pub(super) fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, of which only strings are used.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Value {
    #[prost(string, tag = "3")]
    pub(super) string: String,
}

/// `envoy.service.discovery.v3.DiscoveryResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DiscoveryResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Any>,
}

/// `google.protobuf.Any`, here of a [`ClientConfig`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

/// `envoy.service.status.v3.ClientConfig`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ClientConfig {
    #[prost(message, optional, tag = "1")]
    pub(super) node: Option<NodeId>,
    #[prost(message, repeated, tag = "3")]
    pub(super) configs: Vec<GenericXdsConfig>,
}

/// `envoy.config.core.v3.Node`, without its metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NodeId {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// `envoy.service.status.v3.ClientConfig.GenericXdsConfig`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GenericXdsConfig {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(int32, tag = "6")]
    pub(super) status: i32,
    #[prost(message, optional, tag = "8")]
    pub(super) error: Option<UpdateFailureState>,
}

/// `envoy.admin.v3.UpdateFailureState`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UpdateFailureState {
    #[prost(string, tag = "3")]
    pub(super) details: String,
}
