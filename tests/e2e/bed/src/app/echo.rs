//! The gRPC service `palisade.bed.Echo`, and the health check that Kubernetes' gRPC probes call.

use std::collections::HashMap;

use super::Answer;

/// The unary method's path.
pub(super) const UNARY: &str = "/palisade.bed.Echo/Unary";
/// The bidirectional stream's path.
pub(super) const STREAM: &str = "/palisade.bed.Echo/Stream";
/// The standard health check's path.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A message to be sent back.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EchoRequest {
    /// Any text.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// The message, and who answered.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EchoReply {
    /// The request's text.
    #[prost(string, tag = "1")]
    pub message: String,
    /// The server's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The server's Pod.
    #[prost(string, tag = "3")]
    pub pod: String,
    /// The Pod's namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// The port that the request came to.
    #[prost(uint32, tag = "5")]
    pub port: u32,
    /// The authority as received.
    #[prost(string, tag = "6")]
    pub host: String,
    /// The peer's address.
    #[prost(string, tag = "7")]
    pub remote: String,
    /// The caller's SPIFFE id.
    #[prost(string, optional, tag = "8")]
    pub identity: Option<String>,
    /// The method's path.
    #[prost(string, tag = "9")]
    pub path: String,
    /// The request's headers.
    #[prost(map = "string, string", tag = "10")]
    pub headers: HashMap<String, String>,
}

impl EchoReply {
    /// The reply that `answer` makes to `message`.
    pub(super) fn new(answer: &Answer, message: String) -> Self {
        Self {
            message,
            name: answer.name.clone(),
            pod: answer.pod.clone(),
            namespace: answer.namespace.clone(),
            port: answer.port.into(),
            host: answer.host.clone(),
            remote: answer.remote.clone(),
            identity: answer.identity.clone(),
            path: answer.path.clone(),
            headers: answer.headers.clone().into_iter().collect(),
        }
    }
}

impl From<EchoReply> for Answer {
    fn from(reply: EchoReply) -> Self {
        Self {
            name: reply.name,
            pod: reply.pod,
            namespace: reply.namespace,
            port: u16::try_from(reply.port).unwrap_or_default(),
            protocol: "grpc".to_owned(),
            method: "POST".to_owned(),
            path: reply.path,
            host: reply.host,
            remote: reply.remote,
            identity: reply.identity,
            headers: reply.headers.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthRequest {
    /// The service asked about; every one is well here.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthReply {
    /// 1 is `SERVING`.
    #[prost(int32, tag = "1")]
    pub status: i32,
}
