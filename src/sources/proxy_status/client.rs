//! Asking one istiod.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::fs;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::settings::Settings;
use super::wire::{Any, DiscoveryRequest, DiscoveryResponse, Node, Struct, Value};
use crate::graph::ObjectKey;

/// What is asked for: how every proxy stands to each type of resource (Istio 1.31, `pilot/pkg/xds/statusgen.go`).
const SYNCZ: &str = "istio.io/debug/syncz";
/// xDS, all of it in one stream.
const ADS: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
/// Bytes of an answer: those of some sixty thousand proxies.
const ANSWER: usize = 32 << 20;

/// Why an istiod did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("{0} cannot be read: {1}")]
    File(String, String),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it refused: {0}")]
    Refused(Status),
}

impl Failure {
    /// A word for metrics: one of a few.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::File(..) => "file",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
        }
    }

    /// What a status says: the same for as long as it lasts, else the status would be written again and again.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Unreachable(_) => "it cannot be reached".to_owned(),
            Self::Refused(status) => format!("it gave no answer ({:?})", status.code()),
            other => other.to_string(),
        }
    }
}

/// A way to ask.
pub(super) struct Client {
    settings: Settings,
    /// Our own namespace.
    namespace: Arc<str>,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(settings: Settings, namespace: &str) -> Self {
        // The one of the client for the API server; installing it twice does no harm.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = Duration::try_from(settings.timeout).unwrap_or_default();
        Self { settings, namespace: namespace.into(), timeout }
    }

    /// Asks the istiod at `address` about its proxies.
    pub(super) async fn ask(&self, istiod: &ObjectKey, address: IpAddr) -> Result<Vec<Any>, Failure> {
        let answer = self.answer(istiod, address);
        tokio::time::timeout(self.timeout, answer).await.map_err(|_| Failure::Timeout)?
    }

    async fn answer(&self, istiod: &ObjectKey, address: IpAddr) -> Result<Vec<Any>, Failure> {
        let channel = self.connect(istiod, SocketAddr::new(address, self.settings.port)).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER);
        client.ready().await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let codec = ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        // The stream of requests stays open until there is an answer: its end would end the stream of answers.
        let (question, pending) = (tokio_stream::once(self.question()), tokio_stream::pending());
        let mut request = Request::new(tokio_stream::StreamExt::chain(question, pending));
        request.metadata_mut().insert("authorization", self.token().await?);
        let answers = client.streaming(request, PathAndQuery::from_static(ADS), codec).await;
        let first = answers.map_err(Failure::Refused)?.into_inner().message().await;
        let first = first.map_err(Failure::Refused)?;
        let nothing = || Failure::Refused(Status::new(Code::Unavailable, "it said nothing"));
        first.map(|answer| answer.resources).ok_or_else(nothing)
    }

    async fn connect(&self, istiod: &ObjectKey, address: SocketAddr) -> Result<Channel, Failure> {
        let ca = Certificate::from_pem(read(&self.settings.ca).await?);
        // A name that every istiod's certificate has, its revision's besides.
        let tls =
            ClientTlsConfig::new().ca_certificate(ca).domain_name(format!("istiod.{}.svc", istiod.namespace));
        let unreachable = |error: tonic::transport::Error| Failure::Unreachable(chain(&error));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).map_err(unreachable)?;
        endpoint.tls_config(tls).map_err(unreachable)?.connect().await.map_err(unreachable)
    }

    async fn token(&self) -> Result<MetadataValue<tonic::metadata::Ascii>, Failure> {
        // Read each time: the kubelet renews it.
        let token = read(&self.settings.token).await?;
        let token = String::from_utf8_lossy(&token);
        let value = format!("Bearer {}", token.trim()).parse();
        value.map_err(|_| {
            Failure::File(self.settings.token.display().to_string(), "it is no token".to_owned())
        })
    }

    /// istiod knows who asks by the token; a node it must be nevertheless, of the token's namespace.
    fn question(&self) -> DiscoveryRequest {
        let namespace = &self.namespace;
        let id = format!("sidecar~127.0.0.1~palisade.{namespace}~{namespace}.svc.cluster.local");
        // istiod complains of nodes that tell no version; this one, of `istioctl`, is later than any.
        let version = ("ISTIO_VERSION", "65536.65536.65536");
        let fields = [("GENERATOR", "event"), ("NAMESPACE", &**namespace), version];
        let fields = fields.map(|(name, value)| (name.to_owned(), Value { string: value.to_owned() }));
        let metadata = Some(Struct { fields: HashMap::from(fields) });
        DiscoveryRequest { node: Some(Node { id, metadata }), type_url: SYNCZ.to_owned() }
    }
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).await.map_err(|error| Failure::File(path.display().to_string(), error.to_string()))
}

/// An error with its reasons.
fn chain(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(error.source(), |error| error.source());
    reasons.fold(error.to_string(), |all, reason| format!("{all}: {reason}"))
}
