//! The gRPC service, written out: it has one method, and generated code would bring the full messages along.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{ClientStreamingService, Grpc, NamedService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tracing::{debug, warn};

use super::Peers;
use super::identity::{Speaker, Unidentified};
use super::ingest::Ingest;
use super::metrics::TOO_MANY;
use super::wire::Message;

const STREAM_ACCESS_LOGS: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";

/// `envoy.service.accesslog.v3.AccessLogService`.
#[derive(Clone)]
pub(super) struct AccessLogService {
    ingest: Ingest,
    peers: Peers,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

impl AccessLogService {
    pub(super) fn new(ingest: Ingest, peers: Peers, stop: CancellationToken) -> Self {
        Self { ingest, peers, slots: Arc::new(Semaphore::new(peers.limits().streams)), stop }
    }

    /// Reads a stream to its end. Returns what the peer is told; `StreamAccessLogsResponse` has no fields.
    async fn read(self, mut messages: Streaming<Message>) -> Result<Response<()>, Status> {
        let _open = self.ingest.stream();
        let mut speaker = Speaker::new(self.peers);
        while let Some(message) = self.next(&mut messages).await? {
            speaker.hear(&message).map_err(|why| self.refuse(why))?;
            let read = self.ingest.message_of(speaker.caller(), message, Timestamp::now());
            read.map_err(|error| Status::invalid_argument(error.to_string()))?;
        }
        Ok(Response::new(()))
    }

    fn refuse(&self, why: Unidentified) -> Status {
        self.ingest.metrics().refused(why.label());
        Status::invalid_argument(why.to_string())
    }

    async fn next(&self, messages: &mut Streaming<Message>) -> Result<Option<Message>, Status> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Status::unavailable("the server is stopping")),
            message = messages.message() => message,
        }
    }
}

impl NamedService for AccessLogService {
    const NAME: &'static str = "envoy.service.accesslog.v3.AccessLogService";
}

impl Service<http::Request<Body>> for AccessLogService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != STREAM_ACCESS_LOGS {
                return Ok(Status::unimplemented("only StreamAccessLogs is served").into_http());
            }
            let limit = service.peers.limits().streams;
            let Ok(_slot) = service.slots.clone().try_acquire_owned() else {
                service.ingest.metrics().refused(TOO_MANY);
                warn!(limit, "too many access log streams; a new one is refused");
                return Ok(Status::resource_exhausted("too many streams").into_http());
            };
            let most = service.peers.limits().message;
            let mut grpc = Grpc::new(ProstCodec::<(), Message>::new()).max_decoding_message_size(most);
            Ok(grpc.client_streaming(StreamAccessLogs(service), request).await)
        })
    }
}

struct StreamAccessLogs(AccessLogService);

impl ClientStreamingService<Message> for StreamAccessLogs {
    type Response = ();
    type Future = BoxFuture<Response<()>, Status>;

    fn call(&mut self, request: Request<Streaming<Message>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let result = service.read(request.into_inner()).await;
            if let Err(status) = &result {
                debug!(%status, "an access log stream ended");
            }
            result
        })
    }
}
